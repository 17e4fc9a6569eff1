"""Fixtures of the doors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import pytest_asyncio
import soundfile

sys.path.insert(0, str(Path(__file__).parent))  # for `open_box` and others; test folders are no packages

from open_box import open_box, wav
from visiting import browser, visit  # noqa: F401 (fixtures)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def box(tmp_path_factory):
    """One box for all tests that leave no trace in each other's way."""
    async with open_box(tmp_path_factory.mktemp("box")) as opened:
        yield opened


@pytest.fixture(scope="session")
def spoken_wav() -> bytes:
    """A clean recording of a reader, as a WAV file."""
    recording = Path(__file__).parents[2] / "appliance/data/demo/two_cities.flac"
    samples, rate = soundfile.read(recording, dtype="float32")
    return wav(samples[: 8 * rate], rate)
