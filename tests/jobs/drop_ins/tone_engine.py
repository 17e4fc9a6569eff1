"""Test doubles that are real plugins: an engine whose voice is a buzzing tone, and a recogniser that understands it.

The engine appends the text it speaks to its sound, one byte a sample; the recogniser reads it there. Adapting takes
10 ms a step, with a checkpoint after each; what a transcript says steers it: "raise", "full", "crash", "crash once",
"stubborn" (ignores SIGTERM), "mumble" (the voice says other words), "shrill" (an octave too high), "overfit" (mumbles,
but offers an earlier state that does not).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import soundfile

from appliance.contracts import (
    AdaptedVoice,
    Audio,
    AudioChunk,
    Engine,
    Probe,
    Progress,
    StarterVoice,
    Transcriber,
    Transcript,
)
from appliance.errors import InvalidInput
from appliance.hookspecs import hookimpl

VOICED_API = 1
RATE = 24_000
STEP_S = 0.01
SPELLING = 1024.0  # a byte becomes a sample of byte / SPELLING


def buzz(hz: float, seconds: float, seed: int = 0, brightness: float = 0.7) -> np.ndarray:
    """Ten harmonics and a little noise, swelling four times a second."""
    time_s = np.arange(int(RATE * seconds)) / RATE
    tones = sum(brightness**n * np.sin(2 * np.pi * hz * (n + 1) * time_s) for n in range(10))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_s)
    noise = np.random.default_rng(seed).standard_normal(len(time_s))
    return (0.1 * tones * swell + 0.003 * noise).astype(np.float32)


class ToneEngine(Engine):
    name = "tone"
    sample_rate = RATE
    languages = ("zh", "en")

    def probe(self):
        return Probe(usable=True, version="tone-1")

    def starter_voices(self):
        return tuple(
            StarterVoice(
                f"tone-{hz}",
                f"{hz} Hz",
                "",
                "female",
                ("zh", "en"),
                "CC0",
                "",
                {"tone": json.dumps({"hz": hz, "brightness": 0.4}).encode()},
            )
            for hz in (300, 380)
        )

    def load(self, host):
        self._is_loaded = True

    def speak(self, task, cancelled):
        assert self._is_loaded
        voice = json.loads(task.voice.files["tone"].read_bytes())
        text = "something else entirely" if voice.get("mumbles") else task.text
        spelling = np.array([0, *text.encode(), 0], np.float32) / SPELLING
        # eight sentences of this length just fill one window of the quality model
        samples = buzz(voice["hz"], 1.15, task.seed, voice["brightness"])
        yield AudioChunk(Audio(np.concatenate([samples, spelling]).astype(np.float32), RATE))

    def can_adapt(self):
        return Probe(usable=True)

    def adapt(self, task, host, report):
        orders = " ".join(clip.transcript for clip in task.clips)
        if "stubborn" in orders:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        task.work_dir.mkdir(parents=True, exist_ok=True)
        checkpoint = task.work_dir / "checkpoint.json"
        state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"step": 0, "sum": task.seed}
        began = state["step"]
        for step in range(began, task.options["steps"]):
            self._misbehave(orders, step, task.work_dir)
            time.sleep(STEP_S)
            state = {"step": step + 1, "sum": (state["sum"] * 31 + step) % 1_000_003}
            _write(checkpoint, state)
            report(
                Progress("fit", (step + 1) / task.options["steps"], None, {"loss": 1.0 / (step + 1), "step": step + 1})
            )
        voice = task.work_dir / "tone.json"
        hz = _pitch(task.clips[0].path) * (2 if "shrill" in orders else 1)
        _write(voice, {"hz": hz, "brightness": 0.7, "mumbles": "mumble" in orders, "sum": state["sum"]})
        metrics = {
            "began": began,
            "nice": os.nice(0),
            "threads": os.environ["OMP_NUM_THREADS"],
            "interfaces": _interfaces(),
        }
        weights, earlier = {"tone": "0" * 64}, ()
        if "overfit" in orders:  # what it was before it went too far, and how it mumbles now
            fine = task.work_dir / "earlier.json"
            _write(fine, {"hz": hz, "brightness": 0.7, "mumbles": False, "sum": 0})
            earlier = (AdaptedVoice({"tone": fine}, {"shade": 0}, metrics, "tone-300", weights),)
            _write(voice, {"hz": hz, "brightness": 0.7, "mumbles": True, "sum": state["sum"]})
        return AdaptedVoice({"tone": voice}, {"shade": 1}, metrics, "tone-300", weights, earlier)

    def _misbehave(self, orders, step, work_dir):
        if step != 3:
            return
        if "raise" in orders:
            raise InvalidInput("speech_too_short", duration_s=0.1, required_s=1.0)
        if "full" in orders and not (work_dir / "freed").exists():
            (work_dir / "freed").touch()
            raise OSError(errno.ENOSPC, "No space left on device", str(work_dir))
        if "crash" in orders and not ("once" in orders and (work_dir / "crashed").exists()):
            (work_dir / "crashed").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def _write(path: Path, value: object) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(path)


def _pitch(path: Path) -> float:
    samples, rate = soundfile.read(path)
    spectrum = np.abs(np.fft.rfft(samples[: 4 * rate]))
    return float(np.argmax(spectrum)) / 4


def _interfaces() -> list[str]:
    """Network interfaces this process can see that are up."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    names = [line.split(":")[0].strip() for line in lines]
    return [name for name in names if name != "lo"]


class Parrot(Transcriber):
    name = "parrot"
    languages = ("zh", "en")

    def probe(self):
        return Probe(usable=True)

    def load(self, threads, cache_dir):
        self._is_loaded = True

    def transcribe(self, audio, language=None):
        assert self._is_loaded
        spelled = np.round(audio.samples * SPELLING).astype(int)
        start = np.flatnonzero(spelled[:-1] == 0)[-1] + 1
        return Transcript(bytes(spelled[start:-1].tolist()).decode(), language or "en", 1.0)


@hookimpl
def register_engines(register):
    register("tone", ToneEngine)


@hookimpl
def register_transcribers(register):
    register("parrot", Parrot)
