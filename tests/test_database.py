from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from appliance.database import Database, open_database, utc_now
from appliance.errors import Corrupt, StorageFull, Unavailable
from appliance.schema import MIGRATIONS, Migration

PAIRS = Migration(
    len(MIGRATIONS) + 1,
    "pairs",
    lambda db: [db.execute(f"CREATE TABLE {side} (number INTEGER PRIMARY KEY) STRICT") for side in ("left", "right")],  # type: ignore[arg-type,return-value]
)
WITH_PAIRS = (*MIGRATIONS, PAIRS)


def _set(key: str, value: str):
    return lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _get(key: str):
    return lambda db: [row["value"] for row in db.execute("SELECT value FROM meta WHERE key = ?", (key,))]


async def test_a_write_is_read_back_and_survives_reopening(tmp_path: Path) -> None:
    async with open_database(tmp_path / "deep" / "voiced.db") as db:
        await db.write(_set("box", "uuid"), durable=True)
        assert await db.read(_get("box")) == ["uuid"]
    async with open_database(tmp_path / "deep" / "voiced.db") as db:
        assert await db.read(_get("box")) == ["uuid"]


async def test_a_failing_write_leaves_nothing_and_the_writer_goes_on(tmp_path: Path) -> None:
    def half(db: sqlite3.Connection) -> None:
        _set("half", "1")(db)
        raise ZeroDivisionError

    async with open_database(tmp_path / "v.db") as db:
        with pytest.raises(ZeroDivisionError):
            await db.write(half)
        assert await db.read(_get("half")) == []
        await db.write(_set("next", "2"))
        assert await db.read(_get("next")) == ["2"]


async def test_readers_cannot_write(tmp_path: Path) -> None:
    async with open_database(tmp_path / "v.db") as db:
        with pytest.raises(StorageFull):  # SQLite answers "readonly": the door of `read` is shut
            await db.read(_set("sneaky", "1"))
        assert await db.read(_get("sneaky")) == []


async def test_two_hundred_concurrent_increments_lose_none(tmp_path: Path) -> None:
    def increment(db: sqlite3.Connection) -> None:
        before = int((_get("n")(db) or ["0"])[0])
        _set("n", str(before + 1))(db)

    async with open_database(tmp_path / "v.db") as db:
        await asyncio.gather(*(db.write(increment, durable=n % 50 == 0) for n in range(200)))
        assert await db.read(_get("n")) == ["200"]


async def test_close_is_idempotent_finishes_queued_work_and_refuses_new(tmp_path: Path) -> None:
    db = Database(tmp_path / "v.db")
    await db.open()
    queued = [asyncio.ensure_future(db.write(_set(str(n), "x"))) for n in range(20)]
    await asyncio.sleep(0)
    await asyncio.gather(db.close(), db.close())
    await db.close()
    await asyncio.gather(*queued)
    with pytest.raises(Unavailable) as refused:
        await db.write(_set("late", "x"))
    assert refused.value.code == "database_closed"
    assert [p.name for p in tmp_path.iterdir()] == ["v.db"]  # the log was folded in
    with closing(sqlite3.connect(tmp_path / "v.db")) as plain:
        assert plain.execute("SELECT count(*) FROM meta").fetchone() == (20,)


async def test_a_failing_migration_is_named_and_leaves_the_last_good_step(tmp_path: Path) -> None:
    def broken(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half_way (a TEXT) STRICT")
        db.execute("CREATE TABLE meta (a TEXT) STRICT")

    path = tmp_path / "v.db"
    with pytest.raises(Unavailable) as failed:
        async with open_database(path, (*MIGRATIONS, Migration(len(MIGRATIONS) + 1, "broken", broken))):
            raise AssertionError("opened in spite of a broken migration")
    assert failed.value.code == "migration_failed"
    assert "broken" in failed.value.message("en") and "broken" in failed.value.message("zh")
    async with open_database(path) as db:
        names = await db.read(lambda c: [r["name"] for r in c.execute("SELECT name FROM sqlite_master")])
        assert "voices" in names and "half_way" not in names


async def test_a_file_of_a_later_release_is_refused(tmp_path: Path) -> None:
    async with open_database(tmp_path / "v.db", WITH_PAIRS):
        pass
    with pytest.raises(Unavailable) as refused:
        async with open_database(tmp_path / "v.db"):
            raise AssertionError("opened a later schema")
    assert refused.value.code == "database_newer"


async def test_a_file_that_is_no_database_is_called_corrupt(tmp_path: Path) -> None:
    (tmp_path / "v.db").write_bytes(b"this is not a database " * 100)
    with pytest.raises(Corrupt) as refused:
        async with open_database(tmp_path / "v.db"):
            raise AssertionError("opened garbage")
    assert refused.value.code == "database_corrupt"


async def test_a_full_disk_is_told_with_a_remedy_and_recovers(tmp_path: Path) -> None:
    def limit(pages: int):
        return lambda db: db.execute(f"PRAGMA max_page_count = {pages}")

    async with open_database(tmp_path / "v.db") as db:
        pages = await db.read(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await db.write(limit(pages))
        with pytest.raises(StorageFull) as full:
            await db.write(_set("big", "x" * 1_000_000))
        assert full.value.remedy("zh") != full.value.remedy("en")
        assert await db.read(_get("big")) == []
        await db.write(limit(1_000_000))
        await db.write(_set("big", "x"))


async def test_a_backup_is_whole_while_writes_go_on(tmp_path: Path) -> None:
    async with open_database(tmp_path / "v.db", WITH_PAIRS) as db:

        async def keep_writing() -> None:
            for n in range(300):
                await db.write(
                    lambda c, n=n: [c.execute(f"INSERT INTO {s} VALUES (?)", (n,)) for s in ("left", "right")]
                )

        writing = asyncio.ensure_future(keep_writing())
        await asyncio.sleep(0.05)
        await db.backup(tmp_path / "copy.db")
        await writing
    _assert_pairs_match(tmp_path / "copy.db")


def _insert_pair(connection: sqlite3.Connection, number: int) -> None:
    for side in ("left", "right"):
        connection.execute(f"INSERT INTO {side} VALUES (?)", (number,))


def _assert_pairs_match(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        left = {row[0] for row in db.execute("SELECT number FROM left")}
        right = {row[0] for row in db.execute("SELECT number FROM right")}
    assert left == right
    return len(left)


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_database import WITH_PAIRS, _insert_pair
from appliance.database import open_database

async def main():
    async with open_database(Path(sys.argv[1]), WITH_PAIRS) as db:
        start = await db.read(lambda c: c.execute("SELECT coalesce(max(number), -1) FROM left").fetchone()[0])
        for n in range(start + 1, start + 100_000):
            await db.write(lambda c: _insert_pair(c, n))
            print(n, flush=True)
asyncio.run(main())
"""


def test_kill_9_never_leaves_half_a_transaction_nor_loses_an_acknowledged_one(tmp_path: Path) -> None:
    path, dice = tmp_path / "v.db", random.Random(7)
    for _ in range(6):
        command = [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline()
            time.sleep(dice.uniform(0, 0.1))
            os.killpg(child.pid, signal.SIGKILL)
            acknowledged = [line for line in child.stdout.read().split(b"\n") if line]
        rows = _assert_pairs_match(path)
        if len(acknowledged) > 1:
            assert rows > int(acknowledged[-2])  # the last line may itself be torn


def test_times_sort_as_text() -> None:
    first = utc_now()
    time.sleep(0.002)
    assert first < utc_now() and first.endswith("Z") and len(first) == 24
