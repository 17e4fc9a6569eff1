"""A test double: an engine that speaks up to three tasks together.

Its text is its script: "meet N" waits until N tasks have been spoken at once, "pause" takes half a second,
"crash" kills the process after a moment, "hang" never returns, "slow" neither unless it is cancelled.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np

from appliance.contracts import Audio, AudioChunk, Engine, Probe
from appliance.errors import Cancelled
from appliance.hookspecs import hookimpl

VOICED_API = 1


class ChorusEngine(Engine):
    name = "chorus"
    sample_rate = 24_000
    languages = ("zh", "en", "ja")
    parallel = 3

    def __init__(self):
        self._here = 0
        self._most = 0
        self._changed = threading.Condition()

    def probe(self):
        return Probe(usable=True)

    def starter_voices(self):
        return ()

    def load(self, host):
        return

    def speak(self, task, cancelled):
        with self._changed:
            self._here += 1
            self._most = max(self._most, self._here)
            self._changed.notify_all()
        try:
            self._act(task.text, cancelled)
            yield AudioChunk(Audio(np.full(100, task.seed, np.float32), self.sample_rate), {"most": self._most})
        finally:
            with self._changed:
                self._here -= 1

    def _act(self, text, cancelled):
        if "meet" in text:
            with self._changed:
                assert self._changed.wait_for(lambda: self._most >= int(text.split()[-1]), 20)
        if "pause" in text:
            time.sleep(0.5)
        if "crash" in text:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        while "hang" in text or "slow" in text:
            time.sleep(0.02)
            if "slow" in text and cancelled.is_set():
                raise Cancelled("request_cancelled")


@hookimpl
def register_engines(register):
    register("chorus", ChorusEngine)
