"""The GPT-SoVITS engine, spoken to through its contract with tiny networks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from appliance.contracts import EngineHost, SpeakTask, VoiceAssets
from appliance.engine.gpt_sovits.generation import generate_tokens, most_tokens
from appliance.engine.gpt_sovits.networks import Networks
from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine
from appliance.engine.gpt_sovits.reading import Reader
from appliance.engine.gpt_sovits.speaking import PARTS, RequestNoise
from appliance.engine.gpt_sovits.t2s import TextPrompt
from appliance.engine.gpt_sovits.voice import prepare_voice
from appliance.errors import Cancelled, Corrupt, InvalidInput, Unavailable, VoicedError

from .conftest import TEXT, Models, Say, clip

SHORT = "下雨了。"
RATE = 32_000


def failure(say: Say, voice: VoiceAssets, text: str = SHORT, **changes: object) -> VoicedError:
    with pytest.raises(VoicedError) as caught:
        say(replace(SpeakTask(text, voice, "zh"), **changes))  # type: ignore[arg-type]
    assert caught.value.message()
    assert caught.value.remedy("zh")
    return caught.value


def test_says_the_same_again_whatever_was_spoken_between(say: Say, anna: VoiceAssets, bruno: VoiceAssets) -> None:
    task = SpeakTask(SHORT, anna, "zh", seed=7)
    first = say(task)
    say(SpeakTask("关门。", bruno, "zh", seed=7, speed=1.3))
    assert np.array_equal(first, say(task))
    assert not np.array_equal(first[:RATE], say(replace(task, seed=8))[:RATE])


def test_an_engine_started_anew_says_the_same(say: Say, host: EngineHost, bruno: VoiceAssets) -> None:
    other = GptSovitsEngine()
    other.load(host)
    task = SpeakTask(SHORT, bruno, "zh", seed=3)
    again = np.concatenate([chunk.audio.samples for chunk in other.speak(task, threading.Event())])
    other.close()
    assert np.array_equal(say(task), again)


def test_voices_that_speak_at_the_same_time_stay_apart(say: Say, anna: VoiceAssets, bruno: VoiceAssets) -> None:
    tasks = [SpeakTask(SHORT, voice, "zh", seed=seed) for seed in range(2) for voice in (anna, bruno)]
    alone = [say(task) for task in tasks]
    with ThreadPoolExecutor(4) as crowd:
        for _ in range(3):
            for before, now in zip(alone, crowd.map(say, tasks), strict=True):
                assert np.array_equal(before, now)


def test_voices_that_take_turns_stay_apart(
    engine: GptSovitsEngine, say: Say, anna: VoiceAssets, bruno: VoiceAssets
) -> None:
    tasks = [SpeakTask(SHORT, voice, "zh", seed=5) for voice in (anna, bruno)]
    heard: list[list[np.ndarray]] = [[], []]
    for chunks in zip(*(engine.speak(task, threading.Event()) for task in tasks), strict=True):
        for parts, chunk in zip(heard, chunks, strict=True):
            parts.append(chunk.audio.samples)
    for task, parts in zip(tasks, heard, strict=True):
        assert len(parts) > 2
        assert np.array_equal(say(task), np.concatenate(parts))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_in_one_go_it_is_the_networks_one_after_the_other(
    say: Say, host: EngineHost, bruno: VoiceAssets, language: str
) -> None:
    """The worked order of the reference, step by step, with the networks alone."""
    voice = replace(bruno, key="bruno whole", settings={**bruno.settings, "is_streaming": False})
    text = "Open now." if language == "en" else "今天下雨。"
    networks = Networks()
    reader = Reader(host.frontends, "gpt_sovits_v2", lambda: networks.bert(voice))
    prepared = prepare_voice(voice, networks, reader)
    target = reader.read(text, language)
    assert bool(target.bert.abs().sum()) == (language == "zh")
    noise = RequestNoise(11)
    prompt = TextPrompt(
        torch.cat((prepared.prompt.phones, target.phones)),
        torch.cat((prepared.prompt.bert, target.bert), dim=1),
        prepared.tokens,
    )
    tokens = list(generate_tokens(networks.s1(voice), prompt, noise.tokens, most=most_tokens(len(target.phones))))
    hiss = noise.grow(torch.zeros(1, 16, 0), 2 * len(tokens))
    codes = torch.tensor([[tokens]])
    sound = networks.s2(voice).decode(codes, target.phones[None], prepared.timbre, hiss)[0, 0].numpy()
    spoken = say(SpeakTask(text, voice, language, seed=11))
    assert len(sound) == 1280 * len(tokens)
    np.testing.assert_array_equal(spoken[: len(sound)], sound)
    assert np.array_equal(spoken[len(sound) :], np.zeros(int(0.3 * RATE), np.float32))


def test_the_prompt_is_25_tokens_a_second_with_the_silence_after_it(host: EngineHost, anna: VoiceAssets) -> None:
    networks = Networks()
    prepared = prepare_voice(anna, networks, Reader(host.frontends, "gpt_sovits_v2", lambda: networks.bert(anna)))
    frames = (int((3.5 + 0.6) * 16_000) - 400) // 320 + 1
    assert len(prepared.tokens) == frames // 2


def test_sound_comes_while_tokens_are_still_being_made(
    engine: GptSovitsEngine, host: EngineHost, models: Models
) -> None:
    voice = models.voice("carla", {"s1": models.s1(5), "s2": models.s2(6)}, models.reference("carla", clip(3.0)))
    chunks = engine.speak(SpeakTask(TEXT, voice, "zh", seed=1), threading.Event())
    loaded = engine._loaded
    assert loaded is not None
    list(engine.speak(SpeakTask("门。", voice, "zh"), threading.Event()))  # loads the networks
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    hook = loaded.networks.s1(voice).ar_predict_layer.register_forward_hook(count)
    made = []
    for chunk in chunks:
        made.append((steps, len(chunk.audio.samples)))
    hook.remove()
    assert made[0][0] == PARTS[0]  # an answer is never that short, so no further token has to tell
    assert made[0][1] == (2 * PARTS[0] - 8) * 640
    assert made[-1][0] > made[0][0] * 4
    assert chunk.timings.keys() == {"prepare", "frontend", "prefill", "tokens", "sound"}


def test_parts_join_without_a_step(engine: GptSovitsEngine, anna: VoiceAssets) -> None:
    parts = [chunk.audio.samples for chunk in engine.speak(SpeakTask(TEXT, anna, "zh"), threading.Event())]
    whole = np.concatenate(parts)
    borders = np.cumsum([len(part) for part in parts])[:-1]
    steps = np.abs(np.diff(whole))
    assert len(borders) >= 4
    assert max(steps[borders - 1]) < np.percentile(steps, 99.9)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.3, 2.0])
@pytest.mark.parametrize("is_streaming", [True, False])
def test_speed_divides_the_duration(say: Say, anna: VoiceAssets, speed: float, is_streaming: bool) -> None:
    voice = replace(anna, key=f"anna {is_streaming}", settings={**anna.settings, "is_streaming": is_streaming})
    usual, other = (len(say(SpeakTask(SHORT, voice, "zh", speed=s))) - 0.3 * RATE for s in (1.0, speed))
    assert abs(other - usual / speed) <= 640


def test_a_voice_without_transcript_speaks_from_timbre_alone(say: Say, models: Models, anna: VoiceAssets) -> None:
    silent_files = {role: path for role, path in anna.files.items() if not role.startswith("hubert")}
    voice = VoiceAssets("anna mute", "gpt_sovits", silent_files, {"language": "zh"})
    sound = say(SpeakTask(SHORT, voice, "zh"))
    assert np.abs(sound).max() > 0.01
    assert not np.array_equal(sound[:RATE], say(SpeakTask(SHORT, anna, "zh"))[:RATE])


def test_a_second_reference_changes_the_timbre(say: Say, bruno: VoiceAssets) -> None:
    files = {role: path for role, path in bruno.files.items() if role != "reference_2"}
    one, both = (
        say(SpeakTask(SHORT, voice, "zh", seed=1)) for voice in (replace(bruno, key="bruno 1", files=files), bruno)
    )
    assert not np.array_equal(one[:RATE], both[:RATE])


def test_long_text_is_spoken_piece_by_piece(engine: GptSovitsEngine, anna: VoiceAssets) -> None:
    text = "今天下雨了，我们去看海。" * 12
    chunks = engine.speak(SpeakTask(text, anna, "zh"), threading.Event())
    first = next(chunks)
    assert len(first.audio.samples) < RATE
    assert isinstance(chunks, Generator)
    chunks.close()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("text", ["", "   ", "。！？", "😀", "\x00"])
def test_nothing_to_say(say: Say, anna: VoiceAssets, text: str) -> None:
    error = failure(say, anna, text)
    assert isinstance(error, InvalidInput)
    assert error.code == "text_not_speakable"


def test_a_language_that_nobody_reads(host: EngineHost, anna: VoiceAssets) -> None:
    engine = GptSovitsEngine()
    engine.load(replace(host, frontends={"zh": host.frontends["zh"]}))
    with pytest.raises(Unavailable) as caught:
        list(engine.speak(SpeakTask("Good morning.", anna, "en"), threading.Event()))
    engine.close()
    assert caught.value.code == "frontend_missing"


@pytest.mark.parametrize("speed", [0.1, 3.0, float("nan")])
def test_a_speed_out_of_range(say: Say, anna: VoiceAssets, speed: float) -> None:
    assert failure(say, anna, speed=speed).code == "speed_out_of_range"


@pytest.mark.parametrize(
    ("seconds", "rate", "loudness", "code"),
    [
        (2.9, 44_100, 1.0, "reference_too_short"),
        (10.2, 44_100, 1.0, "reference_too_long"),
        (4.0, 8_000, 1.0, "reference_rate_low"),
        (4.0, 44_100, 1e-3, "reference_silent"),
    ],
)
def test_references_that_cannot_serve(
    say: Say, models: Models, anna: VoiceAssets, seconds: float, rate: int, loudness: float, code: str
) -> None:
    audio = clip(seconds, rate=rate)
    path = models.reference(code, replace(audio, samples=audio.samples * np.float32(loudness)))
    error = failure(say, replace(anna, key=code, files={**anna.files, "reference": path}))
    assert isinstance(error, InvalidInput)
    assert error.code == code


@pytest.mark.parametrize("role", ["s1", "s2", "hubert", "bert", "sv", "reference"])
def test_a_voice_that_lacks_a_file_says_which(say: Say, bruno: VoiceAssets, role: str) -> None:
    files = {name: path for name, path in bruno.files.items() if name != role}
    error = failure(say, replace(bruno, key=f"without {role}", files=files))
    assert (type(error), error.code, error.measured["role"]) == (Unavailable, "model_file_missing", role)


def test_halves_of_different_generations(say: Say, models: Models, anna: VoiceAssets) -> None:
    s1, config = models.s1(9, phoneme_vocab_size=512)
    error = failure(say, replace(anna, key="mixed", files={**anna.files, "s1": s1, "s1_config": config}))
    assert (type(error), error.code) == (InvalidInput, "model_pair_wrong")


def test_a_damaged_network_names_the_file_and_others_speak_on(
    say: Say, models: Models, anna: VoiceAssets, bruno: VoiceAssets
) -> None:
    damaged = models.folder / "damaged.safetensors"
    damaged.write_bytes(bruno.files["s2"].read_bytes()[:5000])
    error = failure(say, replace(bruno, key="damaged", files={**bruno.files, "s2": damaged}))
    assert (type(error), error.code, error.measured["file"]) == (Corrupt, "voice_files_corrupt", "s2")
    assert len(say(SpeakTask(SHORT, anna, "zh"))) > RATE


@pytest.mark.parametrize(
    "settings",
    [
        {"sampling": {"top_q": 1}},
        {"sampling": {"temperature": "warm"}},
        {"sampling": {"top_p": float("nan")}},
        {"interval_s": -1},
        {"sampling": 3},
    ],
)
def test_settings_that_make_no_sense(say: Say, anna: VoiceAssets, settings: dict[str, object]) -> None:
    error = failure(say, replace(anna, key=str(settings), settings={**anna.settings, **settings}))
    assert (type(error), error.measured["file"]) == (Corrupt, "settings")


def test_stops_when_told(engine: GptSovitsEngine, anna: VoiceAssets) -> None:
    cancelled = threading.Event()
    chunks = engine.speak(SpeakTask(TEXT, anna, "zh"), cancelled)
    next(chunks)
    cancelled.set()
    with pytest.raises(Cancelled):
        next(chunks)


def test_not_loaded(anna: VoiceAssets) -> None:
    with pytest.raises(Unavailable, match="engine_not_loaded"):
        list(GptSovitsEngine().speak(SpeakTask(SHORT, anna, "zh"), threading.Event()))


def test_without_torch_the_engine_says_so(monkeypatch: pytest.MonkeyPatch, host: EngineHost) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = GptSovitsEngine().probe()
    assert not found.usable
    assert "torch" in found.reason
    with pytest.raises(Unavailable, match="gpt_sovits_library_missing"):
        GptSovitsEngine().load(host)


def test_the_plugin_registers_without_torch() -> None:
    import subprocess

    code = (
        "import sys; from appliance.plugin_manager import load_plugins; from appliance.settings import PluginSettings\n"
        "engines = load_plugins(PluginSettings()).engines; engines['gpt_sovits']().probe()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
