"""Fixtures: machines with and without a sound card, and an announcer on them."""

from __future__ import annotations

import ctypes.util
import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.announcer.announcer import Announcer, Surroundings
from appliance.database import open_database
from appliance.settings import LoudspeakerSettings
from appliance.voices.blobs import BlobStore

sys.path.append(str(Path(__file__).parent))
spec = importlib.util.spec_from_file_location("announcer_stage", Path(__file__).with_name("stage.py"))
sys.modules["announcer_stage"] = stage = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stage)

from announcer_stage import PATIENCE, RATE, LevelSpeech, SoundCard, SoundCards  # noqa: E402


@pytest.fixture
def sound_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoundCard:
    if ctypes.util.find_library("portaudio") is None:
        pytest.skip("PortAudio is not installed (Debian: libportaudio2)")
    card = SoundCard(tmp_path)
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(card.config))
    return card


@pytest.fixture
def sound_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoundCards:
    if ctypes.util.find_library("portaudio") is None:
        pytest.skip("PortAudio is not installed (Debian: libportaudio2)")
    cards = SoundCards(tmp_path, "hall_card", "yard_card", "shop_card", "spare_card")
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(cards.config))
    return cards


@pytest.fixture
def no_portaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes find no PortAudio library, as on a machine without libportaudio2."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import ctypes.util\nctypes.util.find_library = lambda name: None\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture
def settings() -> LoudspeakerSettings:
    return LoudspeakerSettings(device="voiced_test", volume=1.0, chime=False, sample_rate=RATE, target_lufs=None)


@pytest.fixture
def speech() -> LevelSpeech:
    return LevelSpeech(RATE)


@pytest.fixture
async def announcer(tmp_path: Path, speech: LevelSpeech, settings: LoudspeakerSettings) -> AsyncIterator[Announcer]:
    """Not started yet: `async with announcer`."""
    async with open_database(tmp_path / "voiced.db") as db:
        yield Announcer(speech, db, BlobStore(tmp_path / "blobs"), settings, Surroundings(PATIENCE))
