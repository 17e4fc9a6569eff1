"""Recording: the ring loses nothing silently, an absent sound system is a state, a real one gives a real file."""

from __future__ import annotations

import ctypes.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from appliance.audio import capture, encoding, files

ROOT = Path(__file__).parents[2]
BECKETT = ROOT / "tests" / "data" / "beckett.flac"
needs_portaudio = pytest.mark.skipif(
    ctypes.util.find_library("portaudio") is None, reason="PortAudio is not installed (apt install libportaudio2)"
)

RECORD = """
import json, sys
from pathlib import Path
from appliance.audio import capture
from appliance.errors import VoicedError
levels = []
try:
    done = capture.record(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], levels.append)
    print(json.dumps({"duration_s": done.duration_s, "rate": done.sample_rate, "device": done.device,
                      "elapsed": [l.elapsed_s for l in levels], "peaks": [l.peak_dbfs for l in levels]}))
except VoicedError as error:
    print(json.dumps({"code": error.code, "remedy": error.remedy("zh")}))
"""


def record_in_child(path: Path, seconds: float, config: str, device: str = "", prelude: str = "") -> dict[str, object]:
    """Record in a process of its own: PortAudio reads the list of devices once per process."""
    asound = path.parent / "asound.conf"
    asound.write_text(config)
    done = subprocess.run(
        [sys.executable, "-c", prelude + RECORD, str(path), str(seconds), device],
        env=os.environ | {"ALSA_CONFIG_PATH": str(asound)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_ring_gives_back_what_went_in_around_its_end() -> None:
    ring, rng = capture.Ring(1_000), np.random.default_rng(0)
    sent, received = [], []
    for _ in range(200):
        block = rng.integers(-32_768, 32_767, int(rng.integers(1, 700)), dtype=np.int16)
        ring.write(block)
        sent.append(block)
        received.append(ring.read())
    assert ring.lost == 0
    assert np.array_equal(np.concatenate(received), np.concatenate(sent).astype(np.float32) / 32_768)


def test_ring_counts_what_it_cannot_hold() -> None:
    ring = capture.Ring(100)
    ring.write(np.arange(70, dtype=np.int16))
    ring.write(np.arange(70, 140, dtype=np.int16))
    assert ring.lost == 40
    assert np.array_equal(ring.read() * 32_768, np.arange(100))


def test_ring_serves_a_writer_and_a_reader_at_once() -> None:
    ring, count = capture.Ring(50_000), 400
    blocks = [np.full(100, index % 30_000, np.int16) for index in range(count)]
    writer = threading.Thread(target=lambda: [ring.write(block) for block in blocks])
    parts = []
    writer.start()
    while writer.is_alive():
        parts.append(ring.read())
    writer.join()
    parts.append(ring.read())
    assert ring.lost == 0
    assert np.array_equal(np.concatenate(parts) * 32_768, np.concatenate(blocks))


def test_level_names_peak_and_clipping() -> None:
    level = capture.level_of(np.array([0.5, -0.5], np.float32), 1.0)
    assert level.peak_dbfs == pytest.approx(-6.02, abs=0.01) and level.rms_dbfs == pytest.approx(-6.02, abs=0.01)
    assert not level.is_clipping
    assert capture.level_of(np.ones(3, np.float32), 1.0).is_clipping
    assert capture.level_of(np.zeros(3, np.float32), 1.0).peak_dbfs == -120


def test_missing_portaudio_is_a_state_with_a_remedy(tmp_path: Path) -> None:
    """In a process whose loader finds no PortAudio, as on a machine without libportaudio2."""
    hide = "import ctypes.util; ctypes.util.find_library = lambda name: None\n"
    answer = record_in_child(tmp_path / "out.wav", 1, "", prelude=hide)
    assert answer["code"] == "portaudio_missing" and "libportaudio2" in str(answer["remedy"])
    assert not (tmp_path / "out.wav").exists()


@needs_portaudio
def test_machine_without_a_microphone_says_so(tmp_path: Path) -> None:
    loudspeaker = "pcm.null { type null }\npcm.!default { type asym playback.pcm null }\n"
    assert record_in_child(tmp_path / "out.wav", 1, loudspeaker)["code"] == "no_microphone"
    microphone = "pcm.null { type null }\npcm.!default { type plug slave.pcm null }\n"
    assert record_in_child(tmp_path / "out.wav", 1, microphone, device="USB headset")["code"] == "no_microphone"
    assert [entry.name for entry in tmp_path.iterdir()] == ["asound.conf"]


@needs_portaudio
def test_what_the_microphone_hears_is_in_the_file(tmp_path: Path) -> None:
    """ALSA's `file` device stands for the microphone: it plays a reader into the real recording path."""
    voice = files.mono_at(files.read_audio(BECKETT), 48_000).samples
    (tmp_path / "voice.raw").write_bytes(encoding.pcm16(voice))
    config = f"""
pcm.nothing {{ type null }}
pcm.voice {{ type file slave.pcm "nothing" file "/dev/null" infile "{tmp_path}/voice.raw" format "raw" }}
pcm.!default {{ type plug slave {{ pcm "voice" format S16_LE rate 48000 channels 1 }} }}
"""
    answer = record_in_child(tmp_path / "out.wav", 2.0, config)
    assert answer["duration_s"] == 2.0 and answer["rate"] == 48_000 and answer["peaks"]
    recorded = files.read_audio(tmp_path / "out.wav").samples[:, 0]
    assert len(recorded) == 96_000 and np.abs(recorded).max() > 0.05
    # the device may have dropped its first period before the stream ran: look for the recording within the voice
    size = 1 << 20
    match = np.fft.irfft(np.fft.rfft(voice, size) * np.conj(np.fft.rfft(recorded[4_800:43_200], size)))
    start = int(match.argmax())
    assert np.allclose(voice[start : start + 38_400], recorded[4_800:43_200], atol=2 / 32_768)
