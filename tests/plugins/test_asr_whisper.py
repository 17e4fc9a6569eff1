"""The real recogniser on real voices: right words, no invented ones, no network, checked weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from appliance_plugins.asr_whisper import weights
from appliance_plugins.asr_whisper.transcriber import WhisperTranscriber, _as_written_in_china

from appliance.audio import files
from appliance.audio.transcripts import word_error_rate
from appliance.contracts import Audio
from appliance.errors import Corrupt, InvalidInput, Unavailable

ROOT = Path(__file__).parents[2]
BECKETT = ROOT / "tests" / "data" / "beckett.flac"
BECKETT_WORDS = "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better."
TWO_CITIES = ROOT / "appliance" / "data" / "demo" / "two_cities.flac"
TWO_CITIES_WORDS = "It was the best of times, it was the worst of times"


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> WhisperTranscriber:
    pytest.importorskip("faster_whisper")
    transcriber = WhisperTranscriber()
    transcriber.load(1, tmp_path_factory.mktemp("cache"))
    return transcriber


@pytest.fixture(scope="module")
def beckett() -> Audio:
    return files.mono_at(files.read_audio(BECKETT), 16_000)


def test_reader_is_written_down_word_by_word_with_the_language_found(
    whisper: WhisperTranscriber, beckett: Audio
) -> None:
    transcript = whisper.transcribe(beckett)
    assert word_error_rate(BECKETT_WORDS, transcript.text) == 0
    assert transcript.language == "en" and 0.4 < transcript.confidence <= 1


def test_any_sample_rate_will_do(whisper: WhisperTranscriber) -> None:
    sound = files.mono_at(files.read_audio(TWO_CITIES), 48_000)
    transcript = whisper.transcribe(Audio(sound.samples[: 4 * 48_000], 48_000), "en")
    heard = " ".join(transcript.text.split()[:12])
    assert word_error_rate(TWO_CITIES_WORDS, heard) <= 0.1


def test_nothing_is_invented_where_nobody_speaks(whisper: WhisperTranscriber) -> None:
    hiss = np.random.default_rng(0).standard_normal(8 * 16_000).astype(np.float32) * 0.05
    hum = (0.2 * np.sin(2 * np.pi * 50 * np.arange(5 * 24_000) / 24_000)).astype(np.float32)
    for sound in (Audio(hiss, 16_000), Audio(hum, 24_000), Audio(hiss * 0, 16_000), Audio(hiss[:50], 16_000)):
        assert whisper.transcribe(sound, "en").text == ""
    assert whisper.transcribe(Audio(np.zeros(0, np.float32), 16_000)).text == ""


def test_chinese_comes_in_simplified_characters_and_full_width_marks() -> None:
    pytest.importorskip("opencc")
    assert _as_written_in_china("歡迎光臨, 今天蘋果打八折!") == "欢迎光临，今天苹果打八折！"
    assert _as_written_in_china("请打开Wi-Fi, 价格3,500元") == "请打开Wi-Fi, 价格3,500元"


def test_unknown_language_and_use_before_loading_are_refused(whisper: WhisperTranscriber, beckett: Audio) -> None:
    with pytest.raises(InvalidInput) as caught:
        whisper.transcribe(beckett, "tlh")
    assert caught.value.code == "asr_language_unknown" and "zh" in caught.value.remedy()
    with pytest.raises(Unavailable, match="asr_not_loaded"):
        WhisperTranscriber().transcribe(beckett)


def test_one_flipped_byte_of_the_weights_is_noticed(tmp_path: Path) -> None:
    config = next(file for file in weights.WEIGHT_FILES if file.name == "config.json")
    original = weights.locate(config)
    assert original is not None
    content = bytearray(original.read_bytes())
    assert weights.read_verified(original, config) == bytes(content)
    content[100] ^= 1
    damaged = tmp_path / "config.json"
    damaged.write_bytes(content)
    with pytest.raises(Corrupt) as caught:
        weights.read_verified(damaged, config)
    assert caught.value.code == "asr_weights_corrupt" and "config.json" in caught.value.message("zh")


def test_registering_and_probing_load_nothing_heavy() -> None:
    script = """
import sys
from appliance_plugins import asr_whisper
found = {}
asr_whisper.register_transcribers(lambda name, factory: found.update({name: factory}))
probe = found["whisper"]().probe()
assert probe.usable and probe.version, probe
heavy = {"faster_whisper", "ctranslate2", "onnxruntime", "av", "huggingface_hub", "torch", "tokenizers"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_loading_and_listening_open_no_network_socket(tmp_path: Path) -> None:
    script = f"""
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise AssertionError(event)
sys.addaudithook(watch)
from pathlib import Path
from appliance_plugins.asr_whisper.transcriber import WhisperTranscriber, _as_written_in_china
from appliance.audio import files
transcriber = WhisperTranscriber()
transcriber.load(1, Path({str(tmp_path)!r}))
print(transcriber.transcribe(files.mono_at(files.read_audio(Path({str(BECKETT)!r})), 16_000), "en").text)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True, text=True)
    assert word_error_rate(BECKETT_WORDS, done.stdout) == 0
    assert list(tmp_path.iterdir()) == []
