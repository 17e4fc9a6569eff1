"""Whatever is done to the log from outside is found, and the first bad index is named."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from appliance.database import open_database
from appliance.errors import InvalidInput, NotFound
from appliance.events import UNLABELLED, Event
from appliance.security.audit import append_entry, make_checkpoint
from appliance.security.audit_checking import verify_file
from appliance.security.audit_reading import AuditFilter, export_head, list_entries, read_lines
from appliance.security.audit_retention import prune
from appliance.security.checkpoints import read_checkpoint
from appliance.security.merkle import leaf_hash, next_link
from appliance.security.signing import open_device_key

SCRIPT = Path(__file__).parents[2] / "docs/verify_audit.py"
SIZE, EVERY = 60, 16
TRIALS = 120


def fill(connection, key, size=SIZE):
    for number in range(size):
        append_entry(connection, Event(("main", "bakery")[number % 2], "speech", voice="anna@3", subject=str(number)))
        if number % EVERY == EVERY - 1:
            make_checkpoint(connection, key)


@pytest.fixture
async def written(tmp_path, key):
    """A log of 60 entries with checkpoints at 16, 32 and 48."""
    async with open_database(tmp_path / "voiced.db") as db:
        await db.write(lambda connection: fill(connection, key))
    return tmp_path / "voiced.db"


def tampered(path, change):
    """A copy of the box's database on which a stranger ran `change`."""
    copy = path.with_name("tampered.db")
    shutil.copyfile(path, copy)
    with closing(sqlite3.connect(copy)) as stranger:
        stranger.execute("DROP TRIGGER audit_no_update")
        stranger.execute("DROP TRIGGER audit_no_delete")
        change(stranger)
        stranger.commit()
    return copy


def edit(stranger, index):
    stranger.execute("UPDATE audit SET entry = replace(entry, 'anna', 'anne') WHERE idx = ?", (index,))
    return index


def edit_link(stranger, index):
    stranger.execute("UPDATE audit SET link = zeroblob(32) WHERE idx = ?", (index,))
    return index


def delete(stranger, index):
    stranger.execute("DELETE FROM audit WHERE idx = ?", (index,))
    return index


def delete_and_close_the_gap(stranger, index):
    delete(stranger, index)
    for later in range(index + 1, SIZE):
        stranger.execute("UPDATE audit SET idx = ? WHERE idx = ?", (later - 1, later))
    return index


def swap(stranger, index):
    other = index - 1 if index else 1
    rows = {i: stranger.execute("SELECT entry, link FROM audit WHERE idx = ?", (i,)).fetchone() for i in (index, other)}
    for place, source in ((index, other), (other, index)):
        stranger.execute("UPDATE audit SET entry = ?, link = ? WHERE idx = ?", (*rows[source], place))
    return min(index, other)


def truncate(stranger, index):
    stranger.execute("DELETE FROM audit WHERE idx >= ?", (index,))
    return index


def forge(stranger, index):
    """Add an entry in the middle of history by taking another's place, with a chain made anew to the end."""
    edit(stranger, index)
    link = stranger.execute("SELECT link FROM audit WHERE idx = ?", (index - 1,)).fetchone()[0] if index else bytes(32)
    for place, entry in stranger.execute("SELECT idx, entry FROM audit WHERE idx >= ?", (index,)).fetchall():
        link = next_link(link, leaf_hash(entry.encode()))
        stranger.execute("UPDATE audit SET link = ? WHERE idx = ?", (link, place))
    stranger.execute("UPDATE audit_head SET link = ?", (link,))
    return index


def test_an_untouched_log_is_intact(written, key):
    verdict = verify_file(written, key.public)
    assert (verdict.first_bad, verdict.size, verdict.checkpoints, verdict.first) == (None, SIZE, 3, 0)


@pytest.mark.parametrize("change", [edit, edit_link, delete, delete_and_close_the_gap, swap, truncate])
def test_every_change_is_found_at_its_place(written, key, change):
    chance = random.Random(change.__name__)
    for _ in range(TRIALS // 6):
        index = chance.randrange(SIZE)
        found = []
        copy = tampered(written, lambda stranger, index=index: found.append(change(stranger, index)))
        assert verify_file(copy, key.public).first_bad == found[0], (change.__name__, index)


def test_a_chain_made_anew_contradicts_the_next_checkpoint(written, key):
    for index in range(0, 48, 5):
        verdict = verify_file(tampered(written, partial(forge, index=index)), key.public)
        assert verdict.problem == "rewritten"
        assert verdict.first_bad == index // EVERY * EVERY  # it is there or later: the checkpoint before still holds


def test_a_tail_cut_off_with_its_checkpoints_shows_against_an_exported_one(written, key):
    with closing(sqlite3.connect(written, isolation_level=None)) as box:
        box.row_factory = sqlite3.Row
        exported = make_checkpoint(box, key)

    def cut(stranger):
        stranger.execute("DELETE FROM audit WHERE idx >= 32")
        stranger.execute("DELETE FROM audit_checkpoints WHERE size > 32")
        link = stranger.execute("SELECT link FROM audit WHERE idx = 31").fetchone()[0]
        stranger.execute("UPDATE audit_head SET size = 32, link = ?", (link,))

    copy = tampered(written, cut)
    assert verify_file(copy, key.public).is_intact  # the box itself cannot know
    verdict = verify_file(copy, key.public, exported)
    assert (verdict.first_bad, verdict.problem) == (32, "truncated")
    assert verify_file(written, key.public, exported).is_intact


def test_forged_checkpoints_are_found(written, key, tmp_path):
    stranger_key = open_device_key(tmp_path / "other")

    def sign_anew(stranger):
        note = stranger.execute("SELECT note FROM audit_checkpoints WHERE size = 32").fetchone()[0]
        forged = read_checkpoint(note, key.public).signed(stranger_key)
        stranger.execute("UPDATE audit_checkpoints SET note = ? WHERE size = 32", (forged,))

    verdict = verify_file(tampered(written, sign_anew), key.public)
    assert (verdict.first_bad, verdict.problem) == (0, "checkpoint")
    with pytest.raises(InvalidInput, match="checkpoint_invalid"):
        verify_file(written, key.public, "no note")
    with pytest.raises(NotFound, match="audit_absent"):
        verify_file(tmp_path / "nothing.db", key.public)


async def test_what_retention_removes_leaves_a_signed_tombstone(written, key):
    async with open_database(written) as db:
        assert await prune(db, key, "2000-01-01T00:00:00.000Z") == 0
        assert await prune(db, key, "2999-01-01T00:00:00.000Z") == 48
        await db.write(lambda connection: fill(connection, key, 8))
        await db.write(lambda connection: make_checkpoint(connection, key))
    verdict = verify_file(written, key.public)
    assert (verdict.first_bad, verdict.first, verdict.size) == (None, 48, SIZE + 1 + 8)
    assert verify_file(tampered(written, partial(edit, index=50)), key.public).first_bad == 50
    without = tampered(written, lambda stranger: stranger.execute("DELETE FROM audit_checkpoints WHERE size = 48"))
    assert verify_file(without, key.public).first_bad == 0  # entries that are gone without a signature are missing


async def test_deliveries_without_an_audible_label_stay_for_six_months_with_all_that_came_after(written, key):
    async with open_database(written) as db:
        delivered = Event("main", UNLABELLED, voice="anna@1")
        await db.write(lambda connection: append_entry(connection, delivered) and None)
        await db.write(lambda connection: fill(connection, key, 8))
        await db.write(lambda connection: make_checkpoint(connection, key))
        assert await prune(db, key, "2999-01-01T00:00:00.000Z") == 48
        assert await prune(db, key, "2999-01-01T00:00:00.000Z") == 0
        query = "SELECT count(*) FROM audit WHERE action = ?"
        assert await db.read(lambda c: c.execute(query, (UNLABELLED,)).fetchone()[0]) == 1
    assert verify_file(written, key.public).first_bad is None


async def test_entries_are_found_by_tenant_and_voice(written):
    async with open_database(written) as db:
        await db.write(lambda c: append_entry(c, Event("main", "voice.promote", voice="annabel@1")))
        wanted = AuditFilter("main", voice="anna")
        pages, cursor = [], None
        while True:
            page = await db.read(lambda c, cursor=cursor: list_entries(c, wanted, cursor, 7))
            pages += page.items
            cursor = page.next
            if cursor is None:
                break
        assert [row["id"] for row in pages] == list(range(SIZE - 2, -1, -2))
        one = await db.read(lambda c: list_entries(c, AuditFilter("bakery", subject="5"), None, 7))
        assert [row["id"] for row in one.items] == [5]
        assert not (await db.read(lambda c: list_entries(c, AuditFilter("other"), None, 7))).items


class TestTheScriptWithoutTheBox:
    """`docs/verify_audit.py` on exported files, in a Python that sees nothing of ours."""

    @pytest.fixture
    def exported(self, written, key, tmp_path):
        with closing(sqlite3.connect(written, isolation_level=None)) as box:
            box.row_factory = sqlite3.Row
            note = make_checkpoint(box, key)
            lines = [export_head(box, note, key.public), *read_lines(box, "main", 0, SIZE)]
        (tmp_path / "note.txt").write_text(note)
        return self.write(tmp_path, lines), lines

    def write(self, folder, lines):
        file = folder / "log.ndjson"
        file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        return file

    def check(self, *words):
        command = [sys.executable, "-I", "-S", str(SCRIPT), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout

    def test_it_agrees_and_needs_no_entry_of_another_tenant(self, exported, key, tmp_path):
        file, _ = exported
        assert "bakery" not in file.read_text()
        status, said = self.check(file, "--key", key.public.verifier(), "--checkpoint", tmp_path / "note.txt")
        assert (status, said.partition(",")[0]) == (0, f"intact: {SIZE} entries")

    def test_it_names_what_is_wrong(self, exported, key, tmp_path):
        _, lines = exported
        changed = [dict(line) for line in lines]
        changed[11]["entry"] = changed[11]["entry"].replace("anna", "anne")
        status, said = self.check(self.write(tmp_path, changed))
        assert status == 1 and "between 0 and 59" in said
        assert "first bad index 4" in self.check(self.write(tmp_path, lines[:5] + lines[6:]))[1]
        assert "truncated" in self.check(self.write(tmp_path, lines[:-3]))[1]
        stranger = open_device_key(tmp_path / "stranger").public.verifier()
        assert "not signed by this key" in self.check(self.write(tmp_path, lines), "--key", stranger)[1]

    async def test_it_goes_on_from_a_tombstone(self, written, key, tmp_path):
        async with open_database(written) as db:
            await prune(db, key, "2999-01-01T00:00:00.000Z")
            note = await db.write(lambda connection: make_checkpoint(connection, key))
            head = await db.read(lambda connection: export_head(connection, note, key.public))
            lines = [head, *await db.read(lambda connection: read_lines(connection, "main", head["first"], SIZE + 1))]
        assert head["first"] == 48
        assert self.check(self.write(tmp_path, lines))[0] == 0
        lines[0] = {**head, "peaks": head["peaks"][::-1]} if len(head["peaks"]) > 1 else {**head, "peaks": []}
        assert self.check(self.write(tmp_path, lines))[0] == 1
