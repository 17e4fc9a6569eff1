"""The audit log: nothing is lost, nothing is rewritten, nothing is signed for that does not hang together."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing

import pytest

from appliance import database
from appliance.errors import Corrupt, InvalidInput, StorageFull
from appliance.events import Event
from appliance.security import audit as audit_module
from appliance.security.audit import append_entry, open_audit
from appliance.security.checkpoints import read_checkpoint
from appliance.security.merkle import FIRST_LINK, Frontier, leaf_hash
from appliance.security.signing import open_device_key, read_public_key


async def entries(db):
    rows = await db.read(lambda c: c.execute("SELECT entry FROM audit ORDER BY idx").fetchall())
    return [json.loads(row[0]) for row in rows]


def recursive_root(leaves):
    """The definition in RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + recursive_root(leaves[:split]) + recursive_root(leaves[split:])).digest()


def test_the_tree_grows_as_rfc_6962_defines_it():
    frontier, leaves = Frontier(), []
    for number in range(70):
        assert frontier.root() == recursive_root(leaves)
        assert Frontier.unpacked(frontier.size, frontier.packed()).root() == frontier.root()
        leaves.append(str(number).encode())
        frontier.add(leaf_hash(leaves[-1]))


def test_the_key_stays_the_same_and_is_for_its_owner_only(tmp_path):
    first, again = open_device_key(tmp_path / "keys"), open_device_key(tmp_path / "keys")
    assert first.public == again.public
    assert (tmp_path / "keys/device.key").stat().st_mode & 0o077 == 0
    assert read_public_key((tmp_path / "keys/device.pub").read_text()) == first.public
    assert first.derive("a") == again.derive("a") != first.derive("b")
    (tmp_path / "keys/device.key").write_text("nonsense")
    with pytest.raises(Corrupt):
        open_device_key(tmp_path / "keys")


async def test_an_entry_is_there_once_it_was_recorded_and_says_who_did_what(db, key):
    async with open_audit(db, key) as audit:
        digest = audit.text_digest("Good morning")
        event = Event("main", "voice.export", "anna@3", subject="exp_1", text_digest=digest, actor="token:t1")
        assert await audit.record(event) == 0
        assert digest == audit.text_digest("Good morning") != audit.text_digest("Good morning.")
        assert digest != hashlib.sha256(b"Good morning").hexdigest()
    (entry,) = await entries(db)
    assert entry.pop("at") <= database.utc_now()
    assert entry == {
        "tenant": "main",
        "action": "voice.export",
        "voice": "anna@3",
        "subject": "exp_1",
        "text_digest": digest,
        "outcome": "done",
        "actor": "token:t1",
    }


async def test_speech_is_noted_without_waiting_and_written_in_order(db, key):
    async with open_audit(db, key) as audit:
        for number in range(300):
            audit.note(Event("main", "speech", subject=str(number)))
        await audit.flush()
        assert audit.state() == {"waiting": 0, "lost": 0, "problem": ""}
        audit.note(Event("main", "speech", subject="last"))
    told = await entries(db)
    assert [entry["subject"] for entry in told] == [
        *map(str, range(300)),
        "last",
    ]  # the last one was written at the end


async def test_a_deed_that_cannot_be_recorded_is_not_done(db, key, monkeypatch):
    def refuse(*_):
        raise sqlite3.OperationalError("disk I/O error")

    def deed(connection):
        connection.execute("INSERT INTO meta VALUES ('deed', 'done')")
        append_entry(connection, Event("main", "voice.erase"))

    monkeypatch.setattr(audit_module, "insert_row", refuse)
    with pytest.raises(sqlite3.OperationalError):
        await db.write(deed)
    assert not await db.read(lambda c: c.execute("SELECT 1 FROM meta WHERE key = 'deed'").fetchone())


async def test_when_the_disk_refuses_speech_is_kept_for_later_and_what_is_lost_is_counted(db, key, monkeypatch):
    monkeypatch.setattr(audit_module, "MAX_WAITING", 5)
    async with open_audit(db, key) as audit:
        whole_write = db.write

        async def full(*_, **__):
            raise StorageFull("storage_full", path="/", free_mb=0)

        monkeypatch.setattr(db, "write", full)
        for number in range(8):
            audit.note(Event("main", "speech", subject=str(number)))
        with pytest.raises(StorageFull):
            await audit.flush()
        assert audit.state()["lost"] == 3
        monkeypatch.setattr(db, "write", whole_write)
        await audit.flush()
    gap, *kept = await entries(db)
    assert (gap["action"], gap["details"]) == ("audit.gap", {"lost": 3})
    assert [entry["subject"] for entry in kept] == ["3", "4", "5", "6", "7"]


async def test_the_clock_may_go_back_but_the_log_does_not(db, monkeypatch):
    times = iter(["2026-11-26T10:00:00.000Z", "2026-11-26T09:00:00.000Z", "2026-11-26T10:00:01.000Z"])
    monkeypatch.setattr(audit_module, "utc_now", lambda: next(times))
    for _ in range(3):
        await db.write(lambda c: append_entry(c, Event("main", "x")))
    first, second, third = await entries(db)
    assert first["at"] == second["at"] < third["at"]
    assert second["clock"] == "2026-11-26T09:00:00.000Z"
    assert "clock" not in first | third


async def test_checkpoints_sign_for_the_whole_tree(db, key):
    async with open_audit(db, key) as audit:
        empty = read_checkpoint(await audit.checkpoint(), key.public)
        assert (empty.size, empty.link) == (0, FIRST_LINK)
        for number in range(21):
            await audit.record(Event("main", "x", subject=str(number)))
            if number % 4 == 0:
                note = await audit.checkpoint()
                assert note == await audit.checkpoint()  # nothing new, nothing signed
        note = await audit.checkpoint()
    written = await db.read(lambda c: [row[0].encode() for row in c.execute("SELECT entry FROM audit ORDER BY idx")])
    told = read_checkpoint(note, key.public)
    assert (told.size, told.root) == (21, recursive_root(written))
    assert read_checkpoint(note.replace("\n", "\r\n"), key.public) == told  # mail and printers do that
    for forged in (note.replace("\n21\n", "\n20\n"), note.replace("— ", "- "), note[:-9], "", "x\n\n— y"):
        with pytest.raises(InvalidInput):
            read_checkpoint(forged, key.public)


async def test_a_tail_that_was_changed_is_not_signed_for(db, key):
    async with open_audit(db, key) as audit:
        for number in range(6):
            await audit.record(Event("main", "x", subject=str(number)))
        with closing(sqlite3.connect(db.path)) as stranger:
            stranger.execute("DROP TRIGGER audit_no_update")
            stranger.execute("UPDATE audit SET entry = replace(entry, '\"4\"', '\"5\"') WHERE idx = 4")
            stranger.commit()
        with pytest.raises(Corrupt) as refused:
            await audit.checkpoint()
        assert refused.value.measured["index"] == 4


async def test_rows_are_immutable(db):
    await db.write(lambda c: append_entry(c, Event("main", "x")))
    for statement in ("UPDATE audit SET entry = '{}'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="immutable"):
            await db.write(lambda c, s=statement: c.execute(s))
