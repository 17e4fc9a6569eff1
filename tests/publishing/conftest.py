"""Boxes for the tests of this folder: one alone, and two that a person has paired."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest_asyncio

sys.path.append(str(Path(__file__).parent))

from open_pair import opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def box(tmp_path_factory):
    async with opened(tmp_path_factory.mktemp("box") / "state") as caller:
        yield caller


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pair(tmp_path_factory):
    """Two boxes that a person has paired: the first gave out the code."""
    async with AsyncExitStack() as stack:
        folder = tmp_path_factory.mktemp("pair")
        first = await stack.enter_async_context(opened(folder / "first"))
        second = await stack.enter_async_context(opened(folder / "second"))
        # two boxes of one machine: they must not take each other for themselves
        object.__setattr__(second.office.peers._me, "uuid", "5e1f0c2a-0000-4000-8000-000000000002")
        invitation = await second("POST", "/v1/peers/invitations", 201)
        paired = await first("POST", "/v1/peers", 201, json={"url": second.url, "code": invitation["code"]})
        yield first, second, paired
