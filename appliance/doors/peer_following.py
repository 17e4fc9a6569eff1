"""Paired boxes that do not answer any more are looked for on the LAN: their address may have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from zeroconf import Error

from appliance.doors.discovery import browse
from appliance.errors import VoicedError
from appliance.publishing.peers import PeerStore

log = logging.getLogger(__name__)

LOOK_S = 10.0
BROWSE_S = 3.0


@asynccontextmanager
async def following(peers: PeerStore) -> AsyncIterator[None]:
    """While it is open, peers are followed to where they announce themselves; nothing is asked while all answer."""
    task = asyncio.create_task(_keep_looking(peers), name="paired boxes that moved")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _keep_looking(peers: PeerStore) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        if not peers.away:
            continue
        try:
            for box in await browse(BROWSE_S):
                if box.uuid in peers.away and await peers.follow(box.uuid, box.url):
                    log.info("%s is reached at %s now", box.name, box.url)
        except (OSError, RuntimeError, Error, VoicedError) as error:  # RuntimeError: no network at all
            log.warning("paired boxes that moved: %s", error)
