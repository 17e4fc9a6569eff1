"""Keeping the books of the queue: writes that must not be given up, and telling listeners what was written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from appliance.announcer.queue import AnnouncementQueue
from appliance.announcer.records import Announcement, State
from appliance.errors import Busy, StorageFull

log = logging.getLogger(__name__)

T = TypeVar("T")

EVENTS_KEPT = 256  # for a slow listener; older ones are dropped, the newest state always arrives


class Ledger:
    """The queue in the database, with patience and with listeners.

    `retry_s`: the pause after a write for which there was no room, or a render that the box had no time for.
    """

    def __init__(self, queue: AnnouncementQueue, retry_s: float) -> None:
        self.queue = queue
        self.retry_s = retry_s
        self._listeners: set[asyncio.Queue[Announcement | None]] = set()

    async def insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write, however long the disk is full: what happened must not be forgotten, or it would happen again."""
        has_complained = False
        while True:
            try:
                return await write()
            except (StorageFull, Busy) as error:
                if not has_complained:
                    log.warning("announcer: %s", error)
                has_complained = True
                await asyncio.sleep(self.retry_s)

    async def fail(self, row: Announcement, reason: str) -> None:
        """The message will not be said anywhere any more; `reason` is a code of the catalogue."""
        log.warning("announcement %s failed: %s", row.id, reason)
        reasons = {delivery.zone: reason for delivery in row.zones}
        await self.insist(lambda: self.queue.settle_waiting(row, reasons, State.FAILED))
        await self.publish(row)

    async def publish(self, row: Announcement) -> Announcement:
        """Tell listeners how a message stands now, and return it."""
        row = await self.queue.get(row.tenant, row.id)
        self.tell(row)
        return row

    def tell(self, row: Announcement | None) -> None:
        """Hand a row to every listener; None: something about a zone is not what it was."""
        for listener in self._listeners:
            if listener.full():
                listener.get_nowait()
            listener.put_nowait(row)

    async def events(self, tenant: str) -> AsyncIterator[Announcement | None]:
        """Every change of a tenant's messages from now on, as it happens; None: a zone changed."""
        listener: asyncio.Queue[Announcement | None] = asyncio.Queue(EVENTS_KEPT)
        self._listeners.add(listener)
        try:
            while True:
                row = await listener.get()
                if row is None or row.tenant == tenant:
                    yield row
        finally:
            self._listeners.discard(listener)
