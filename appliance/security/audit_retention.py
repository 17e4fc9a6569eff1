"""Letting old entries go: a signed tombstone takes their place, and the chain goes on from it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from datetime import UTC, datetime, timedelta

from appliance.database import Database, utc_now
from appliance.errors import Corrupt, VoicedError
from appliance.events import UNLABELLED, Event
from appliance.security.audit import TOMBSTONE, append_entry, file_checkpoint
from appliance.security.audit_checking import verify_file
from appliance.security.checkpoints import Checkpoint, read_checkpoint
from appliance.security.merkle import Frontier
from appliance.security.signing import DeviceKey
from appliance.settings import OWED_DAYS

log = logging.getLogger("voiced.audit")


async def prune(db: Database, key: DeviceKey, before: str) -> int:
    """Remove entries older than `before` (ISO 8601 UTC), up to the last checkpoint before it; how many went.

    Speech that was delivered without an audible label stays for six months, whatever `before` says, and with it all
    that came after. The log is verified first: what does not hang together is evidence and stays.

    Raises Corrupt("audit_broken").
    """
    owed = (datetime.now(UTC) - timedelta(days=OWED_DAYS)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    boundary = await db.read(lambda connection: _boundary(connection, before, owed))
    if boundary is None:
        return 0
    verdict = await asyncio.to_thread(verify_file, db.path, key.public)
    if verdict.first_bad is not None:
        raise Corrupt("audit_broken", index=verdict.first_bad)
    event = Event("", "audit.prune", details={"first": boundary, "before": before})

    def remove(connection: sqlite3.Connection) -> int:
        query = "SELECT note, peaks FROM audit_checkpoints WHERE size = ? AND kind = 'checkpoint'"
        note, peaks = connection.execute(query, (boundary,)).fetchone()
        told = read_checkpoint(note, key.public)
        tombstone = Checkpoint(boundary, told.root, told.link, utc_now(), is_tombstone=True).signed(key)
        file_checkpoint(connection, Frontier.unpacked(boundary, peaks), TOMBSTONE, tombstone)
        gone = connection.execute("DELETE FROM audit WHERE idx < ?", (boundary,)).rowcount
        connection.execute("DELETE FROM audit_checkpoints WHERE size < ?", (boundary,))
        append_entry(connection, event)
        return int(gone)

    return await db.write(remove, durable=True)


async def keep_pruning(db: Database, key: DeviceKey, days: int) -> None:
    """Once a day until cancelled; 0 days: never."""
    while days:
        before = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="milliseconds")
        try:
            await prune(db, key, before.replace("+00:00", "Z"))
        except VoicedError as error:
            log.error("old entries of the audit log stay: %s", error)
        await asyncio.sleep(86_400)


def _boundary(connection: sqlite3.Connection, before: str, owed: str) -> int | None:
    """The largest checkpoint below which every entry is old enough, and none is owed that is younger than `owed`."""
    query = (
        "SELECT max(c.size) FROM audit_checkpoints c WHERE c.kind = 'checkpoint' AND c.size > 0"
        " AND c.size > coalesce((SELECT max(size) FROM audit_checkpoints WHERE kind = 'tombstone'), 0)"
        " AND (SELECT at FROM audit WHERE idx = c.size - 1) < ?"
        " AND c.size <= coalesce((SELECT min(idx) FROM audit WHERE action = ? AND at >= ?), c.size)"
    )
    row = connection.execute(query, (before, UNLABELLED, owed)).fetchone()
    return None if row is None or row[0] is None else int(row[0])
