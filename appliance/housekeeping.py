"""Letting go of what is over and old: announcements, runs of schedules, narrations, publications that failed.

What an auditor needs stays in the audit log. What channels may have to carry again stays: every publication that was
published, with its renditions. Rows go in small batches, so that nobody waits for the one writer of the database.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from appliance.database import Database
from appliance.errors import NotFound, VoicedError
from appliance.events import Event
from appliance.voices.blobs import BlobStore
from appliance.voices.sounds import is_needed

log = logging.getLogger(__name__)

BATCH = 100  # rows of one transaction
PAUSE_S = 0.05  # between two: others write meanwhile
EVERY_S = 6 * 3_600.0
YOUNG_S = 3_600.0  # a file that was written or asked for so lately may be on its way into a row
_OVER = "('done', 'failed', 'cancelled', 'expired')"
_OLD_ANNOUNCEMENTS = f"""
SELECT tenant, id, audio FROM announcements AS one WHERE state IN {_OVER} AND created_at < :before AND NOT EXISTS
(SELECT 1 FROM deliveries WHERE tenant = one.tenant AND announcement = one.id AND finished_at >= :before) LIMIT :most
"""  # noqa: S608 - constants
_OLD_SOUNDS = """
SELECT tenant, rendition, audio FROM spoken AS one WHERE made_at < :before AND NOT EXISTS
(SELECT 1 FROM announcements WHERE tenant = one.tenant AND rendition = one.rendition) LIMIT :most
"""
_OLD_RUNS = "SELECT tenant, schedule, due_at FROM schedule_runs WHERE due_at < :before LIMIT :most"
_OLD_DUBBINGS = (
    "SELECT tenant, id, track FROM dubbings WHERE state IN ('done', 'failed') AND finished_at < :before LIMIT :most"
)
_OLD_PUBLICATIONS = """
SELECT tenant, script, number FROM publications AS one WHERE state = 'failed' AND finished_at < :before AND number <
(SELECT max(number) FROM publications WHERE tenant = one.tenant AND script = one.script) LIMIT :most
"""  # the last number stays: the next one counts from it

Batch = Callable[[sqlite3.Connection, dict[str, object]], tuple[int, set[str]]]
"""Removes one batch; how many rows went, and the digests of files that nobody needs now."""


class Housekeeper:
    """Tidies now and then. Use as an async context manager; 0 days: never."""

    def __init__(
        self, db: Database, blobs: BlobStore, witness: Callable[[Event], Awaitable[object]], days: int
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._witness = witness
        self._days = days
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Housekeeper:
        if self._days:
            self._task = asyncio.create_task(self._keep_tidying(), name="housekeeping")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def tidy(self, before: str) -> Counter[str]:
        """Remove what was over before that time (ISO 8601 UTC); how many rows and files went, by what they were."""
        gone: Counter[str] = Counter()
        for name, remove in _KINDS.items():
            while True:
                about: dict[str, object] = {"before": before, "most": BATCH}
                count, digests = await self._db.write(lambda db, remove=remove, about=about: remove(db, about))  # type: ignore[misc]
                gone["files"] += await asyncio.to_thread(self._remove_files, digests)
                gone[name] += count
                if count < BATCH:
                    break
                await asyncio.sleep(PAUSE_S)
        if any(gone.values()):
            await self._witness(Event("", "history.prune", details={"before": before, **gone}, actor="box"))
        return gone

    def _remove_files(self, digests: set[str]) -> int:
        count = 0
        for digest in digests:
            try:
                is_young = time.time() - self._blobs.filed_at(digest) < YOUNG_S
            except (NotFound, OSError):
                continue
            if not is_young:
                self._blobs.remove(digest)
                count += 1
        return count

    async def _keep_tidying(self) -> None:
        while True:
            before = datetime.now(UTC) - timedelta(days=self._days)
            try:
                await self.tidy(before.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
            except VoicedError as error:
                log.warning("what is old stays for now: %s", error)
            except Exception:
                log.exception("housekeeping")
            await asyncio.sleep(EVERY_S)


def _announcements(db: sqlite3.Connection, about: dict[str, object]) -> tuple[int, set[str]]:
    rows = db.execute(_OLD_ANNOUNCEMENTS, about).fetchall()
    for row in rows:
        db.execute("DELETE FROM deliveries WHERE tenant = ? AND announcement = ?", (row["tenant"], row["id"]))
        db.execute("DELETE FROM announcements WHERE tenant = ? AND id = ?", (row["tenant"], row["id"]))
    return len(rows), _unneeded(db, rows, "audio")


def _sounds(db: sqlite3.Connection, about: dict[str, object]) -> tuple[int, set[str]]:
    rows = db.execute(_OLD_SOUNDS, about).fetchall()
    for row in rows:
        db.execute("DELETE FROM spoken WHERE tenant = ? AND rendition = ?", (row["tenant"], row["rendition"]))
    return len(rows), _unneeded(db, rows, "audio")


def _runs(db: sqlite3.Connection, about: dict[str, object]) -> tuple[int, set[str]]:
    rows = db.execute(_OLD_RUNS, about).fetchall()
    for row in rows:
        db.execute("DELETE FROM schedule_runs WHERE tenant = ? AND schedule = ? AND due_at = ?", tuple(row))
    return len(rows), set()


def _dubbings(db: sqlite3.Connection, about: dict[str, object]) -> tuple[int, set[str]]:
    rows = db.execute(_OLD_DUBBINGS, about).fetchall()
    for row in rows:
        db.execute("DELETE FROM dubbings WHERE tenant = ? AND id = ?", (row["tenant"], row["id"]))
    return len(rows), _unneeded(db, rows, "track")


def _publications(db: sqlite3.Connection, about: dict[str, object]) -> tuple[int, set[str]]:
    rows = db.execute(_OLD_PUBLICATIONS, about).fetchall()
    for row in rows:
        db.execute("DELETE FROM publications WHERE tenant = ? AND script = ? AND number = ?", tuple(row))
    return len(rows), set()


def _unneeded(db: sqlite3.Connection, rows: list[sqlite3.Row], column: str) -> set[str]:
    digests = {row[column] for row in rows if row[column]}
    return {digest for digest in digests if not is_needed(db, "", (), digest)}


_KINDS: dict[str, Batch] = {
    "announcements": _announcements,
    "prepared_sounds": _sounds,
    "schedule_runs": _runs,
    "narrations": _dubbings,
    "publications": _publications,
}
