"""A test double for speech content: an engine that speaks in tones, so that processes can be tested without models.

Its text is also its script: "crash" kills the process (once per token file, "crash always" every time), "hang" never
returns, "slow" takes a second and listens to cancellation.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from appliance.contracts import Audio, AudioChunk, Engine, Probe, StarterVoice
from appliance.errors import Cancelled, InvalidInput
from appliance.hookspecs import hookimpl

VOICED_API = 1
RATE = 24_000


class SineEngine(Engine):
    name = "sine"
    sample_rate = RATE
    languages = ("zh", "en", "ja")

    def probe(self):
        return Probe(usable=True)

    def starter_voices(self):
        return tuple(
            StarterVoice(
                f"sine-{hz}", f"Sine {hz}", "A tone.", "female", self.languages, "CC0", "", settings={"hz": hz}
            )
            for hz in (220, 330, 440, 550, 660)
        )

    def load(self, host):
        self.scratch = host.cache_dir

    def prepare(self, voice):
        """Its process and its pitch go to a file; a voice that is "deadly" kills."""
        with (Path(self.scratch) / "ready").open("a") as ready:
            ready.write(f"{os.getpid()} {voice.settings['hz']}\n")
        if "deadly" in voice.settings:
            os.kill(os.getpid(), signal.SIGKILL)

    def speak(self, task, cancelled):
        if "refuse" in task.text:
            raise InvalidInput("text_not_speakable")
        if "crash" in task.text:
            self._crash_once(task.text)
        while "hang" in task.text:
            time.sleep(1)
        if "slow" in task.text:
            for _ in range(50):
                time.sleep(0.02)
                if cancelled.is_set():
                    raise Cancelled("request_cancelled")
        count = int(RATE * 0.02 * len(task.text) / task.speed)
        time_s = np.arange(count) / RATE
        noise = np.random.default_rng(task.seed).standard_normal(count)
        samples = 0.3 * np.sin(2 * np.pi * task.voice.settings["hz"] * time_s) + 0.01 * noise
        yield AudioChunk(Audio(samples.astype(np.float32), RATE), {"tone": 1.0})

    def _crash_once(self, text):
        mark = Path(self.scratch) / "crashed"
        if "always" in text or not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@hookimpl
def register_engines(register):
    register("sine", SineEngine)
