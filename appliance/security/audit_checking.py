"""Does the audit log hang together? Read from the file alone, so that a stopped or suspect box can be looked at."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from appliance.contracts import JsonDict
from appliance.errors import InvalidInput, NotFound
from appliance.security.checkpoints import Checkpoint, read_checkpoint
from appliance.security.merkle import FIRST_LINK, Frontier
from appliance.security.signing import PublicKey


@dataclass(frozen=True)
class Verdict:
    """What was found. `first_bad` is the first index that is not as it was written; None when all is intact.

    `problem`: "changed" (an entry is not what was chained), "missing", "rewritten" (the chain was made anew: some entry
    from `first_bad` on, since the checkpoint before), "truncated", "checkpoint" (one that this box did not sign).
    """

    first: int  # lower entries were removed by retention, as a signed tombstone says
    size: int  # entries 0 … size-1 were looked at, but for those
    checkpoints: int
    first_bad: int | None = None
    problem: str = ""

    @property
    def is_intact(self) -> bool:
        return self.first_bad is None

    def as_json(self) -> JsonDict:
        return {"intact": self.is_intact, **asdict(self)}


class _Bad(Exception):
    def __init__(self, index: int, problem: str) -> None:
        super().__init__(problem)
        self.index = index
        self.problem = problem


def verify_file(path: Path, key: PublicKey, exported: str = "") -> Verdict:
    """Check the whole log of the database at `path`, also against a checkpoint that was kept elsewhere.

    Raises InvalidInput("checkpoint_invalid") for an `exported` text that this box did not sign, and
    NotFound("audit_absent") where there is no log.
    """
    wanted = read_checkpoint(exported, key) if exported else None
    if not path.is_file():
        raise NotFound("audit_absent", path=str(path))
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.text_factory = bytes  # entries are hashed as they lie there
        try:
            connection.execute("BEGIN")
            return _verify(connection, key, wanted)
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            raise NotFound("audit_absent", path=str(path)) from error


def _verify(connection: sqlite3.Connection, key: PublicKey, wanted: Checkpoint | None) -> Verdict:
    walk = _Walk(connection, key, wanted)
    try:
        walk.begin()
        walk.through()
        walk.end()
    except _Bad as bad:
        return Verdict(walk.first, walk.frontier.size, walk.checked, bad.index, bad.problem)
    return Verdict(walk.first, walk.frontier.size, walk.checked)


class _Walk:
    """One pass over the log, from the tombstone to the end."""

    def __init__(self, connection: sqlite3.Connection, key: PublicKey, wanted: Checkpoint | None) -> None:
        self._connection = connection
        self._key = key
        self._wanted = wanted
        self._last_good = 0  # size of the last checkpoint that was right
        self.frontier = Frontier()
        self.link = FIRST_LINK
        self.first = 0
        self.checked = 0

    def begin(self) -> None:
        """Start where retention left off, if a tombstone says so."""
        query = "SELECT size, note, peaks FROM audit_checkpoints WHERE kind = 'tombstone' ORDER BY size DESC LIMIT 1"
        row = self._connection.execute(query).fetchone()
        if row is None:
            return
        told = self._opened(row[1], row[0])
        try:
            frontier = Frontier.unpacked(row[0], row[2])
        except ValueError:
            raise _Bad(0, "checkpoint") from None
        if not told.is_tombstone or frontier.root() != told.root:
            raise _Bad(0, "checkpoint")
        self.frontier, self.link, self.first, self._last_good = frontier, told.link, told.size, told.size

    def through(self) -> None:
        """Every entry; at each checkpoint the root must be the one that was signed."""
        rows = self._connection.execute("SELECT idx, entry, link FROM audit ORDER BY idx")
        for checkpoint in self._checkpoints():
            self._advance(rows, checkpoint.size)
            if (checkpoint.root, checkpoint.link) != (self.frontier.root(), self.link):
                raise _Bad(self._last_good, "rewritten")
            self._last_good = checkpoint.size
            self.checked += 1
        self._advance(rows, None)

    def end(self) -> None:
        """The log ends where its head says, and is no shorter than the checkpoint from elsewhere."""
        head = self._connection.execute("SELECT size, link FROM audit_head").fetchone()
        size, link = head if head is not None else (0, FIRST_LINK)
        if self.frontier.size != size:
            raise _Bad(min(self.frontier.size, size), "truncated" if self.frontier.size < size else "rewritten")
        if size and link != self.link:
            raise _Bad(size - 1, "changed")
        if self._wanted is not None and self._wanted.size > size:
            raise _Bad(size, "truncated")

    def _checkpoints(self) -> Iterator[Checkpoint]:
        query = "SELECT size, note FROM audit_checkpoints WHERE kind = 'checkpoint' AND size >= ? ORDER BY size"
        kept = [self._opened(note, size) for size, note in self._connection.execute(query, (self.first,)).fetchall()]
        if self._wanted is not None:
            if self._wanted.size < self.first:
                raise InvalidInput("checkpoint_too_old", size=self._wanted.size, first=self.first)
            head = self._connection.execute("SELECT coalesce(max(size), 0) FROM audit_head").fetchone()[0]
            if self._wanted.size <= head:
                kept.append(self._wanted)
        yield from sorted(kept, key=lambda checkpoint: checkpoint.size)

    def _opened(self, note: bytes, size: int) -> Checkpoint:
        try:
            told = read_checkpoint(note.decode("utf-8", "replace"), self._key)
        except InvalidInput:
            raise _Bad(self._last_good, "checkpoint") from None
        if told.size != size:
            raise _Bad(self._last_good, "checkpoint")
        return told

    def _advance(self, rows: sqlite3.Cursor, until: int | None) -> None:
        """Take entries up to size `until` (None: all). The loop is written for a million entries in seconds."""
        frontier, link, size = self.frontier, self.link, self.frontier.size
        add = frontier.add
        try:
            while until is None or size < until:
                row = rows.fetchone()
                if row is None:
                    if until is not None:
                        raise _Bad(size, "truncated")
                    return
                idx, entry, stored = row
                if idx != size:
                    raise _Bad(size, "missing")
                leaf = sha256(b"\x00" + entry).digest()
                link = sha256(b"\x02" + link + leaf).digest()
                if link != stored:
                    raise _Bad(size, "changed")
                add(leaf)
                size += 1
        finally:
            self.link = link
