"""SQLite with one writer thread, a few reading threads and numbered migrations.

Every write is one transaction on the writer's connection, so a crash leaves the state before it or after it. Reads see
one consistent snapshot on read-only connections and never wait for a write (WAL).
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from appliance.disk import free_mb
from appliance.errors import Busy, Corrupt, StorageFull, Unavailable, VoicedError
from appliance.schema import MIGRATIONS, Migration

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

READERS = 2  # a branch-office box: lists and lookups, each well under a millisecond
CACHE_KIB = 1024  # page cache per connection; the daemon stays small
LOG_LIMIT_BYTES = 8 << 20  # what the write-ahead log may keep on disk once it is folded in
BUSY_TIMEOUT_S = 10.0  # another process (a backup, the CLI alone) may hold the write lock for a moment

_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def utc_now() -> str:
    """The present as this box stores times: ISO 8601, UTC, milliseconds ("2026-11-22T09:30:00.125Z")."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class _Write:
    work: Work[Any]
    is_durable: bool
    outcome: Future[Any]


class Database:
    """The open state database. Make it with `open_database`; every method may be called from any task of one loop."""

    def __init__(self, path: Path, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
        self.path = path
        self._migrations = migrations
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._is_closed = False
        self._gate = threading.Lock()  # no write may be queued behind the closing mark
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="db-reader")
        self._writer: threading.Thread | None = None

    async def open(self) -> None:
        """Open or create the file, migrate it, start the threads.

        Raises Unavailable("migration_failed" | "database_newer"), StorageFull, Corrupt.
        """
        ready: Future[None] = Future()
        self._writer = threading.Thread(target=self._serve_writes, args=(ready,), name="db-writer", daemon=True)
        self._writer.start()
        try:
            await asyncio.wrap_future(ready)
        except BaseException:
            await self.close()
            raise

    async def write(self, work: Work[T], *, durable: bool = False) -> T:
        """Run `work` in one transaction on the writer; an exception from it rolls back and arrives here.

        `durable` waits until the disk has it (consents, jobs, versions); otherwise a power cut, but never a crash of
        this process, may take back the last moments. Raises StorageFull, Corrupt, Busy, Unavailable("database_closed").
        """
        item = _Write(work, durable, Future())
        with self._gate:
            if self._is_closed:
                raise Unavailable("database_closed")
            self._writes.put(item)
        return await asyncio.wrap_future(item.outcome)  # type: ignore[no-any-return]

    async def read(self, work: Work[T]) -> T:
        """Run `work` on a read-only connection, in one snapshot."""
        with self._gate:
            if self._is_closed:
                raise Unavailable("database_closed")
            outcome = self._readers.submit(self._read_here, work)
        return await asyncio.wrap_future(outcome)

    async def backup(self, target: Path) -> None:
        """Write a consistent copy to `target` (replaced whole) while the box goes on working."""

        def copy(source: sqlite3.Connection) -> None:
            part = target.with_name(target.name + ".part")
            part.unlink(missing_ok=True)
            source.commit()  # the copy takes its own snapshot, page by page
            with closing(sqlite3.connect(part)) as copied:
                source.backup(copied, pages=256)
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(target)

        await self.read(copy)

    async def fold(self) -> None:
        """Fold the log into the file and empty it, so that it holds nothing of what was deleted.

        A reader or a writer in the way only delays it: what is left is folded in later.
        """

        def checkpoint() -> None:
            with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        with suppress(sqlite3.Error):
            await asyncio.to_thread(checkpoint)

    async def close(self) -> None:
        """Finish what was queued, fold the log into the file, close every connection. Idempotent."""
        with self._gate:
            if not self._is_closed:
                self._is_closed = True
                self._writes.put(None)
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        self._readers.shutdown(wait=True, cancel_futures=True)
        if self._writer is not None:
            self._writer.join()
        with self._gate:
            while self._connections:
                self._connections.pop().close()

    # ------------------------------------------------------------ threads

    def _serve_writes(self, ready: Future[None]) -> None:
        try:
            connection = self._open_writer()
        except BaseException as error:  # noqa: BLE001 - travels to whoever awaits `open`
            ready.set_exception(explain(error, self.path))
            return
        ready.set_result(None)
        while (item := self._writes.get()) is not None:
            if item.outcome.set_running_or_notify_cancel():
                self._write_here(connection, item)
        self._close_writer(connection)

    def _open_writer(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # what is deleted or overwritten is zeroed in the file
            connection.row_factory = sqlite3.Row
            migrate(connection, self._migrations)
        except BaseException:
            connection.close()
            raise
        return connection

    def _write_here(self, connection: sqlite3.Connection, item: _Write) -> None:
        try:
            connection.execute(f"PRAGMA synchronous = {'FULL' if item.is_durable else 'NORMAL'}")
            result = transact(connection, item.work)
        except BaseException as error:  # noqa: BLE001 - travels to whoever awaits this write; the thread lives on
            item.outcome.set_exception(explain(error, self.path))
        else:
            item.outcome.set_result(result)

    def _close_writer(self, connection: sqlite3.Connection) -> None:
        with closing(connection), suppress(sqlite3.Error):  # a full disk keeps the log; the next start reads it
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _read_here(self, work: Work[T]) -> T:
        try:
            connection = self._reader()
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                if connection.in_transaction:
                    connection.rollback()
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,  # closed by `_join` once the threads are gone
            )
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("PRAGMA query_only = ON")
            connection.row_factory = sqlite3.Row
            self._local.connection = connection
            self._connections.append(connection)
        return connection


def transact(connection: sqlite3.Connection, work: Work[T]) -> T:
    """Run `work` between BEGIN IMMEDIATE and COMMIT; any exception rolls back and goes on."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def insert_row(
    connection: sqlite3.Connection, table: str, row: Mapping[str, object], *, or_ignore: bool = False
) -> None:
    """Add one row. `table` and the keys of `row` are names from our own code, never from outside."""
    verb = "INSERT OR IGNORE INTO" if or_ignore else "INSERT INTO"
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"{verb} {table} ({columns}) VALUES ({marks})", tuple(row.values()))


def migrate(connection: sqlite3.Connection, migrations: tuple[Migration, ...]) -> None:
    """Bring the file to the last migration, each step a transaction of its own.

    Raises Unavailable("database_newer") for a file of a later release, Unavailable("migration_failed", step=…) when a
    step fails; the file then stands where the last good step left it.
    """
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    known = migrations[-1].number if migrations else 0
    if found > known:
        raise Unavailable("database_newer", found=found, known=known)
    for migration in migrations:
        if migration.number > found:
            _apply(connection, migration)


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    def step(inside: sqlite3.Connection) -> None:
        migration.apply(inside)
        inside.execute(f"PRAGMA user_version = {int(migration.number)}")

    try:
        transact(connection, step)
    except sqlite3.Error as error:
        name = f"{migration.number} {migration.name}"
        raise Unavailable("migration_failed", step=name, detail=str(error)) from error


def explain(error: BaseException, path: Path) -> BaseException:
    """SQLite's own trouble as an error that people can act on; everything else as it is."""
    if isinstance(error, VoicedError) or not isinstance(error, sqlite3.Error):
        return error
    kind = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # the low byte names the family
    if kind in _FULL:
        told: VoicedError = StorageFull("storage_full", path=str(path.parent), free_mb=free_mb(path.parent))
    elif kind in _BROKEN:
        told = Corrupt("database_corrupt", path=str(path), detail=str(error))
    elif kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        told = Busy("database_busy", retry_after_s=5)
    else:
        return error
    told.__cause__ = error
    return told


@asynccontextmanager
async def open_database(path: Path, migrations: tuple[Migration, ...] = MIGRATIONS) -> AsyncIterator[Database]:
    """The database at `path`, created and migrated as needed, closed at the end of the block."""
    database = Database(path, migrations)
    await database.open()
    try:
        yield database
    finally:
        await database.close()
