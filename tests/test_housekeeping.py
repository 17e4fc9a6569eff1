"""What is over and old goes, with its sounds; what is needed, published or not over stays."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.announcer.queue import AnnouncementQueue
from appliance.announcer.records import NewAnnouncement, State
from appliance.database import open_database, utc_now
from appliance.housekeeping import BATCH, Housekeeper
from appliance.voices.blobs import BlobStore

OLD = "2020-01-01T00:00:00.000Z"
BEFORE = "2024-01-01T00:00:00.000Z"


async def test_old_messages_go_with_sounds_that_nobody_needs_and_nothing_else_does(tmp_path: Path):
    blobs, events = BlobStore(tmp_path / "blobs"), []
    digests = {name: blobs.put_bytes(name.encode()) for name in ("alone", "shared", "fresh")}
    for name in ("alone", "shared"):
        os.utime(blobs.path(digests[name]), (0, 0))

    async def witness(event):
        events.append(event)

    async with open_database(tmp_path / "voiced.db") as db:
        queue = AnnouncementQueue(db, 10_000)
        ids = []
        for number in range(BATCH + 5):
            sound = digests["alone"] if number else digests["fresh"]
            new = NewAnnouncement(text=f"{number}", zones=("hall", "yard"), audio=sound)
            row, _ = await queue.add("main", new, chime=False)
            ids.append(row.id)
            for zone in ("hall", "yard"):
                await queue.settle(row, zone, State.DONE)
        waiting, _ = await queue.add("main", NewAnnouncement(text="waits", zones=("hall",)), chime=False)
        young = NewAnnouncement(text="young", zones=("hall",), audio=digests["shared"])
        recent, _ = await queue.add("main", young, chime=False)
        await queue.settle(recent, "hall", State.DONE)
        old_one = NewAnnouncement(text="old", zones=("hall",), audio=digests["shared"])
        last, _ = await queue.add("main", old_one, chime=False)
        await queue.settle(last, "hall", State.DONE)
        await db.write(lambda db: _age(db, [*ids, last.id, waiting.id], recent.id))
        gone = await Housekeeper(db, blobs, witness, 90).tidy(BEFORE)
        left = {row.id for row in (await queue.page("main", None, 200)).items}
        tables = {
            table: await db.read(lambda db, table=table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
            for table in ("deliveries", "spoken", "schedule_runs", "dubbings", "publications")
        }
    assert left == {waiting.id, recent.id}
    assert gone == {
        "announcements": BATCH + 6,
        "prepared_sounds": 1,
        "schedule_runs": 1,
        "narrations": 1,
        "publications": 1,
        "files": 1,
    }
    assert tables == {"deliveries": 2, "spoken": 1, "schedule_runs": 1, "dubbings": 1, "publications": 2}
    assert [blobs.has(digests[name]) for name in ("alone", "shared", "fresh")] == [False, True, True]
    assert [event.action for event in events] == ["history.prune"] and events[0].details["announcements"] == BATCH + 6


def _age(db, ids, recent) -> None:
    """Make them old, and put old and new neighbours beside them."""
    marks = ", ".join("?" * len(ids))
    db.execute(f"UPDATE announcements SET created_at = ?, rendition = 'r' WHERE id IN ({marks})", (OLD, *ids))
    db.execute(f"UPDATE deliveries SET finished_at = ? WHERE announcement IN ({marks})", (OLD, *ids))
    db.execute("UPDATE announcements SET rendition = 'kept' WHERE id = ? OR state = 'queued'", (recent,))
    for rendition in ("r", "kept"):
        db.execute(
            "INSERT INTO spoken (tenant, rendition, audio, duration_s, made_at) VALUES ('main', ?, 'no file', 1, ?)",
            (rendition, OLD),
        )
    schedule = "INSERT INTO schedules VALUES ('main', 's', 's', '{}', '{}', 'UTC', 'skip', 0, 1, ?, ?, NULL)"
    db.execute(schedule, (OLD, OLD))
    for due in (OLD, utc_now()):
        db.execute("INSERT INTO schedule_runs VALUES ('main', 's', ?, 'missed', '', '', ?)", (due, due))
    for state, at in (("done", OLD), ("done", utc_now())):
        db.execute(
            "INSERT INTO dubbings (tenant, id, filename, voice, spec, state, cues, created_at, finished_at)"
            " VALUES ('main', ?, '', '', '{}', ?, '[]', ?, ?)",
            (f"{state}{at}", state, at, at),
        )
    db.execute("INSERT INTO scripts (tenant, id, title, created_at) VALUES ('main', 'x', '', ?)", (OLD,))
    for number, state in ((1, "published"), (2, "failed"), (3, "failed")):
        db.execute(
            "INSERT INTO publications (tenant, script, number, kind, revision, state, lines, to_render, channels,"
            " author, created_at, finished_at) VALUES ('main', 'x', ?, 'publish', 1, ?, '[]', 0, '[]', '', ?, ?)",
            (number, state, OLD, OLD),
        )
