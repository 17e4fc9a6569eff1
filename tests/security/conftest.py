"""A database with a log, and the key of a box."""

from __future__ import annotations

import pytest
import pytest_asyncio

from appliance.database import open_database
from appliance.security.signing import open_device_key


@pytest.fixture(scope="session")
def key(tmp_path_factory):
    return open_device_key(tmp_path_factory.mktemp("keys"))


@pytest_asyncio.fixture
async def db(tmp_path):
    async with open_database(tmp_path / "voiced.db") as opened:
        yield opened
