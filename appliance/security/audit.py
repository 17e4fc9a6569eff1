"""The audit log: entries that are only added, chained by hash, and signed for by checkpoints.

What must not happen unrecorded (consents, clones, keys, exports, erasures) is recorded inside the transaction that does
it (`append_entry`, a `Witness`) or before it is done (`record`): no entry, no deed. Speech is noted without waiting
(`note`) and written in batches, so that a request pays microseconds and no disk is synced for it; when the disk
refuses, the box goes on speaking, says so loudly, and writes down later what it could not write.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import sqlite3
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from hashlib import sha256

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Corrupt, VoicedError
from appliance.events import Event
from appliance.security.checkpoints import Checkpoint, read_checkpoint
from appliance.security.merkle import FIRST_LINK, Frontier, leaf_hash, next_link
from appliance.security.signing import DeviceKey, PublicKey

log = logging.getLogger("voiced.audit")

FLUSH_S = 0.5  # what a crash of this process may take back of noted (speech) entries
RETRY_S = 2.0  # after the disk refused
CHECKPOINT_EVERY = 1024  # entries; the tail after the last checkpoint is guarded by the chain alone
MAX_WAITING = 20_000  # noted entries kept while the disk refuses; older ones are counted, not kept
BATCH = 500  # noted entries per transaction: other writes come in between
MAX_FIELD = 200  # characters of any value in an entry

CHECKPOINT, TOMBSTONE = "checkpoint", "tombstone"


class AuditLog:
    """The open log. Make it with `open_audit`."""

    def __init__(self, db: Database, key: DeviceKey) -> None:
        self._db = db
        self._key = key
        self._text_key = key.derive("audit text digests")
        self._waiting: deque[Event] = deque()
        self._noted = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._lost = 0
        self._problem = ""

    # ------------------------------------------------------------ writing

    async def record(self, event: Event) -> int:
        """Write an entry and wait until the disk has it; returns its index.

        Raises StorageFull, Corrupt, Busy, Unavailable: whoever asked for the deed must then refuse it.
        """
        return await self._db.write(lambda connection: append_entry(connection, event), durable=True)

    def note(self, event: Event) -> None:
        """Have an entry written soon; never waits and never fails. Call it on the event loop."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(event)
        self._noted.set()

    def text_digest(self, text: str) -> str:
        """HMAC-SHA256 (hex) of a text under a key of this box: tells equal texts, gives nothing away to a guesser."""
        return hmac.new(self._text_key, text.encode("utf-8", "surrogatepass"), sha256).hexdigest()

    # ------------------------------------------------------------ looking after it

    def state(self) -> JsonDict:
        """For operators: noted entries that wait, entries that were lost, and what the disk last said."""
        return {"waiting": len(self._waiting), "lost": self._lost, "problem": self._problem}

    async def checkpoint(self) -> str:
        """Sign for everything written so far; the newest note when nothing was added since.

        Raises Corrupt("audit_broken") instead of signing for a tail that does not hang together.
        """
        return await self._db.write(lambda connection: make_checkpoint(connection, self._key), durable=True)

    async def flush(self) -> None:
        """Write what was noted. Raises what the database raises; the entries are then kept."""
        await asyncio.shield(asyncio.ensure_future(self._flush()))  # half a flush would write its entries twice

    async def _flush(self) -> None:
        async with self._flushing:
            while self._waiting:
                await self._write_batch()

    async def _write_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        lost = self._lost
        gap = [Event("", "audit.gap", outcome="failed", details={"lost": lost}, actor="box")] if lost else []

        def write_all(connection: sqlite3.Connection) -> bool:
            for event in (*gap, *batch):
                append_entry(connection, event)
            return entries_since_checkpoint(connection) >= CHECKPOINT_EVERY

        try:
            is_due = await self._db.write(write_all)
        except BaseException:
            self._waiting.extendleft(reversed(batch))
            raise
        self._lost -= lost
        if is_due:
            await self.checkpoint()

    async def keep_writing(self) -> None:
        """Write noted entries in batches until cancelled; a refusing disk is told once and tried again."""
        while True:
            await self._noted.wait()
            await asyncio.sleep(RETRY_S if self._problem else FLUSH_S)
            self._noted.clear()
            try:
                await self.flush()
            except VoicedError as error:
                self._alarm(error)
            else:
                self._calm()

    def _alarm(self, error: VoicedError) -> None:
        if error.code != self._problem:
            log.error("speech goes on, but the audit log cannot be written: %s", error)
        self._problem = error.code
        self._noted.set()

    def _calm(self) -> None:
        if self._problem:
            log.warning("the audit log is written again")
        self._problem = ""


@asynccontextmanager
async def open_audit(db: Database, key: DeviceKey) -> AsyncIterator[AuditLog]:
    """The log of `db`; leaving writes what was noted and signs for all of it."""
    audit = AuditLog(db, key)
    writer = asyncio.create_task(audit.keep_writing(), name="audit-writer")
    try:
        yield audit
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        try:
            await audit.flush()
            await audit.checkpoint()
        except VoicedError as error:
            log.error("the end of the audit log is not signed for: %s", error)


# ------------------------------------------------------------ inside a transaction


def append_entry(connection: sqlite3.Connection, event: Event) -> int:
    """Add one entry; the time never goes back, whatever the clock does."""
    head = connection.execute("SELECT size, link, at FROM audit_head").fetchone()
    size, link, latest = head if head is not None else (0, FIRST_LINK, "")
    clock = utc_now()
    at = max(clock, latest)
    entry = encode_event(event, at, clock)
    link = next_link(link, leaf_hash(entry))
    insert_row(connection, "audit", {"idx": size, "entry": entry.decode(), "link": link})
    connection.execute("INSERT OR REPLACE INTO audit_head VALUES (0, ?, ?, ?)", (size + 1, link, at))
    return int(size)


def encode_event(event: Event, at: str, clock: str) -> bytes:
    """The bytes that are hashed and kept: JSON with sorted keys, without empty fields; `clock` only where it is off."""
    fields = {name: _clean(value) for name, value in asdict(event).items() if value not in ("", {}, None)}
    fields["at"] = at
    if clock < at:
        fields["clock"] = clock
    text = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _clean(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()[:MAX_FIELD]
    if isinstance(value, dict):
        return {str(key)[:MAX_FIELD]: _clean(part) for key, part in value.items()}
    return value


def entries_since_checkpoint(connection: sqlite3.Connection) -> int:
    row = connection.execute(
        "SELECT (SELECT size FROM audit_head) - coalesce((SELECT max(size) FROM audit_checkpoints), 0)"
    ).fetchone()
    return int(row[0] or 0)


def make_checkpoint(connection: sqlite3.Connection, key: DeviceKey) -> str:
    """Sign for all entries; extends the tree from the last checkpoint and checks the chain on the way."""
    frontier, link, newest = last_checkpoint(connection, key.public)
    if newest and entries_since_checkpoint(connection) == 0:
        return newest
    rows = connection.execute("SELECT idx, entry, link FROM audit WHERE idx >= ? ORDER BY idx", (frontier.size,))
    for idx, entry, stored in rows:
        leaf = leaf_hash(entry.encode())
        link = next_link(link, leaf)
        if idx != frontier.size or link != stored:
            raise Corrupt("audit_broken", index=frontier.size)
        frontier.add(leaf)
    head = connection.execute("SELECT size FROM audit_head").fetchone()
    if frontier.size != (head[0] if head else 0):
        raise Corrupt("audit_broken", index=frontier.size)
    note = Checkpoint(frontier.size, frontier.root(), link, utc_now()).signed(key)
    file_checkpoint(connection, frontier, CHECKPOINT, note)
    return note


def last_checkpoint(connection: sqlite3.Connection, key: PublicKey) -> tuple[Frontier, bytes, str]:
    """The tree, the link and the note of the newest checkpoint. Raises Corrupt("audit_broken") for a forged one."""
    query = "SELECT size, peaks, note FROM audit_checkpoints ORDER BY size DESC, kind LIMIT 1"
    row = connection.execute(query).fetchone()
    if row is None:
        return Frontier(), FIRST_LINK, ""
    with contextlib.suppress(ValueError, VoicedError):
        frontier, told = Frontier.unpacked(row[0], row[1]), read_checkpoint(row[2], key)
        if (told.size, told.root) == (frontier.size, frontier.root()):
            return frontier, told.link, str(row[2])
    raise Corrupt("audit_broken", index=row[0])


def file_checkpoint(connection: sqlite3.Connection, frontier: Frontier, kind: str, note: str) -> None:
    row = {"size": frontier.size, "kind": kind, "note": note, "peaks": frontier.packed()}
    insert_row(connection, "audit_checkpoints", row)
