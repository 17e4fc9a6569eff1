"""Consents that end: whatever they allowed and is under way or kept stops within a second or two.

An end is seen however it came: revoked over HTTP, by another program on this state directory, or at its date. At a
start everything that ended before is looked at once more, since the box may have gone down in between.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

from appliance.database import Database
from appliance.errors import Forbidden, VoicedError
from appliance.policies import PURPOSES
from appliance.voices.consents import ConsentStore, latest_time

log = logging.getLogger(__name__)

LOOK_S = 1.0
OVERLAP = timedelta(seconds=10)  # a row may be written a moment after the time that stands in it

Ended = Mapping[str, frozenset[str]]  # by voice: what is not allowed with it now
Stop = Callable[[str, Ended], Awaitable[None]]  # with the tenant

_ENDED = (
    "SELECT consents.tenant AS tenant, consents.id AS id, coalesce(voices.id, consents.voice) AS voice FROM consents"
    " LEFT JOIN voices ON consents.voice = '' AND voices.tenant = consents.tenant"
    " AND voices.speaker = consents.speaker AND voices.origin = 'own'"
    " WHERE (revoked_at > :since) OR (expires_at > :since AND expires_at <= :now)"
)


class ConsentWatch:
    """Use as an async context manager. Each of `stops` looks again at everything of the voices it is told and ends
    what is not allowed any more; it may be called for nothing, and again.
    """

    def __init__(self, db: Database, consents: ConsentStore, stops: Sequence[Stop]) -> None:
        self._db = db
        self._consents = consents
        self._stops = stops
        self._since = ""
        self._seen: set[tuple[str, str]] = set()  # tenant and consent, of the overlap
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ConsentWatch:
        self._watching = asyncio.create_task(self._watch(), name="consents")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def look(self) -> None:
        """Tell about what ended since the last look. Raises VoicedError; it is told again at the next one then."""
        now, found = await self._db.read(lambda db: _read(db, self._since))
        touched = {tenant: await self._own_voices(tenant) for tenant in tuple(self._consents.touched)}
        for tenant, consent in found.keys() - self._seen:
            touched.setdefault(tenant, set()).update(found[tenant, consent])
        for tenant, voices in touched.items():
            ended = {voice: refused for voice in voices if (refused := await self._refused(tenant, voice))}
            for stop in self._stops:
                await stop(tenant, ended)
        self._consents.touched -= touched.keys()
        self._seen = set(found)
        self._since = (datetime.fromisoformat(now) - OVERLAP).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    async def _own_voices(self, tenant: str) -> set[str]:
        """All of a tenant, and those that are only agreed to yet."""
        query = (
            "SELECT id FROM voices WHERE tenant = ?1 AND origin = 'own'"
            " UNION SELECT voice FROM consents WHERE tenant = ?1 AND voice <> ''"
        )
        rows = await self._db.read(lambda db: db.execute(query, (tenant,)).fetchall())
        return {row[0] for row in rows}

    async def _refused(self, tenant: str, voice: str) -> frozenset[str]:
        refused = set()
        for purpose in PURPOSES:
            try:
                await self._consents.require(tenant, voice, purpose)
            except Forbidden:
                refused.add(purpose)
        return frozenset(refused)

    async def _watch(self) -> None:
        while True:
            self._consents.ended.clear()
            try:
                await self.look()
            except VoicedError as error:
                log.warning("ended consents: %s", error)
            except Exception:
                log.exception("ended consents")
            try:
                await asyncio.wait_for(self._consents.ended.wait(), LOOK_S)
            except TimeoutError:
                continue


def _read(db: sqlite3.Connection, since: str) -> tuple[str, dict[tuple[str, str], set[str]]]:
    """The present, and by tenant and consent the voices of what ended after `since`."""
    now = latest_time(db)
    ended: dict[tuple[str, str], set[str]] = {}
    for row in db.execute(_ENDED, {"since": since, "now": now}):
        voices = ended.setdefault((row["tenant"], row["id"]), set())
        if row["voice"]:
            voices.add(row["voice"])
    return now, ended
