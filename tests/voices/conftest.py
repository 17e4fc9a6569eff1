from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.database import Database, open_database
from appliance.voices.blobs import BlobStore
from appliance.voices.registry import VoiceRegistry


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "voiced.db") as database:
        yield database


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def registry(db: Database, blobs: BlobStore) -> VoiceRegistry:
    return VoiceRegistry(db, blobs)
