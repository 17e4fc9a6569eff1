"""Keys: one for each owner, wrapped; destroyed so that no copy brings them back."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import Conflict, NotFound, Unavailable
from appliance.vault.keys import SPEAKER, VOICE, Owner, open_keys
from appliance.vault.master import MasterKeyFile

ANNA, BEN = Owner("main", SPEAKER, "anna"), Owner("main", SPEAKER, "ben")


def test_each_owner_has_one_key_that_survives_a_restart(tmp_path: Path) -> None:
    keys = open_keys(tmp_path)
    anna, ben, other = keys.of(ANNA), keys.of(BEN), keys.of(Owner("other", SPEAKER, "anna"))
    assert (
        keys.of(ANNA) is anna
        and len({anna.secret, ben.secret, other.secret, keys.of(Owner("main", VOICE, "anna")).secret}) == 4
    )
    keys.close()
    again = open_keys(tmp_path)
    assert again.of(ANNA) == anna and again.get(ben.id) == ben
    again.close()


def test_nothing_on_disk_shows_a_key_and_the_files_are_private(tmp_path: Path) -> None:
    keys = open_keys(tmp_path / "keys")
    secret = keys.of(ANNA).secret
    keys.close()
    for path in (tmp_path / "keys").iterdir():
        assert secret not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_a_destroyed_key_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    keys = open_keys(tmp_path)
    anna, ben = keys.of(ANNA), keys.of(BEN)
    assert keys.destroy([ANNA]) == (anna.id,) and keys.destroy([ANNA]) == ()
    for ring in (keys, open_keys(tmp_path)):
        with pytest.raises(NotFound) as told:
            ring.get(anna.id)
        assert told.value.code == "erased"
        assert ring.find(ANNA) is None and ring.get(ben.id) == ben
    assert keys.of(ANNA) != anna
    assert not list(tmp_path.glob("*-journal")) and not list(tmp_path.glob("*-wal"))


def test_an_old_copy_of_the_rows_is_of_no_use_with_the_master_key_afterwards(tmp_path: Path) -> None:
    keys = open_keys(tmp_path / "keys")
    anna = keys.of(ANNA)
    shutil.copytree(tmp_path / "keys", tmp_path / "old")
    old_master = (tmp_path / "old" / "master.key").read_bytes()
    keys.destroy([ANNA])
    keys.close()
    shutil.copy(tmp_path / "keys" / "master.key", tmp_path / "old" / "master.key")
    forged = open_keys(tmp_path / "old")
    with pytest.raises(Unavailable) as told:
        forged.get(anna.id)
    assert told.value.code == "master_key_wrong"
    assert all(old_master.strip() not in path.read_bytes() for path in (tmp_path / "keys").iterdir())


@pytest.mark.parametrize("content", [None, b"", b"not base64", b"c2hvcnQ="])
def test_a_missing_master_key_is_told_and_noticed_when_it_is_back(tmp_path: Path, content: bytes | None) -> None:
    keys = open_keys(tmp_path)
    anna = keys.of(ANNA)
    keys.close()
    master = tmp_path / "master.key"
    right = master.read_bytes()
    master.unlink()
    if content is not None:
        master.write_bytes(content)
    ring = open_keys(tmp_path)
    for call in (lambda: ring.get(anna.id), lambda: ring.of(BEN), lambda: ring.destroy([ANNA])):
        with pytest.raises(Unavailable) as told:
            call()
        assert told.value.code == "master_key_missing"
    master.write_bytes(right)
    assert ring.get(anna.id) == anna


def test_a_row_cannot_be_passed_off_as_anothers(tmp_path: Path) -> None:
    keys = open_keys(tmp_path)
    anna, ben = keys.of(ANNA), keys.of(BEN)
    keys.close()
    with sqlite3.connect(tmp_path / "owners.db") as db:
        wrapped = db.execute("SELECT wrapped FROM owner_keys WHERE id = ?", (anna.id,)).fetchone()[0]
        db.execute("UPDATE owner_keys SET wrapped = ? WHERE id = ?", (wrapped, ben.id))
    with pytest.raises(Unavailable):
        open_keys(tmp_path).get(ben.id)


def test_a_master_key_from_elsewhere_is_used_and_never_replaced(tmp_path: Path) -> None:
    foreign = tmp_path / "credential"
    MasterKeyFile(foreign).choose([])  # made as an operator would
    content = foreign.read_bytes()
    keys = open_keys(tmp_path / "keys", foreign)
    anna, ben = keys.of(ANNA), keys.of(BEN)
    assert keys.destroy([ANNA]) == (anna.id,)
    assert foreign.read_bytes() == content and not (tmp_path / "keys" / "master.key").exists()
    assert open_keys(tmp_path / "keys", foreign).get(ben.id) == ben
    with pytest.raises(Unavailable):
        open_keys(tmp_path / "keys").get(ben.id)
    with pytest.raises(Unavailable) as told:
        open_keys(tmp_path / "fresh", tmp_path / "nowhere" / "credential").of(ANNA)
    assert told.value.code == "master_key_missing"


def test_the_last_owners_destruction_is_brought_to_its_end_after_a_crash(tmp_path: Path, monkeypatch) -> None:
    """No row is left that would say which master key counts; the old one must not open an old copy."""
    keys = open_keys(tmp_path / "keys")
    anna = keys.of(ANNA)
    shutil.copytree(tmp_path / "keys", tmp_path / "old")
    monkeypatch.setattr(MasterKeyFile, "adopt", lambda self: os.strerror(1 / 0))
    with pytest.raises(ZeroDivisionError):
        keys.destroy([ANNA])
    monkeypatch.undo()
    open_keys(tmp_path / "keys").close()
    shutil.copy(tmp_path / "keys" / "master.key", tmp_path / "old" / "master.key")
    with pytest.raises(Unavailable):
        open_keys(tmp_path / "old").get(anna.id)


@pytest.mark.parametrize("content", [None, b"not base64", b"QUFB" * 10 + b"QUE="])
def test_a_lost_master_key_is_given_up_only_when_somebody_says_so(tmp_path: Path, content: bytes | None) -> None:
    keys = open_keys(tmp_path)
    anna = keys.of(ANNA)
    with pytest.raises(Conflict):
        keys.abandon()
    keys.close()
    (tmp_path / "master.key").unlink()
    if content is not None:
        (tmp_path / "master.key").write_bytes(content)
    ring = open_keys(tmp_path)
    assert ring.trouble() is not None and ring.lost() == (ANNA,)
    assert ring.abandon() == (anna.id,)
    assert ring.trouble() is None and ring.lost() == ()
    with pytest.raises(NotFound):
        ring.get(anna.id)
    again = ring.of(ANNA)
    ring.close()
    assert open_keys(tmp_path).get(again.id) == again != anna


DESTROYS = """
import os, sys, signal
from pathlib import Path
import appliance.vault.master as master, appliance.vault.keys as keys
point, folder = sys.argv[1], Path(sys.argv[2])
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
if point == "drafted": keys.transact = die
if point == "rewritten": master.MasterKeyFile.adopt = die
if point == "overwritten": master.flush_folder, replace = master.flush_folder, Path.replace
if point == "overwritten":
    Path.replace = lambda self, target: die() if self.name == "master.key.next" else replace(self, target)
ring = keys.open_keys(folder)
ring.destroy([keys.Owner("main", "speaker", "anna")])
"""


@pytest.mark.parametrize(("point", "is_gone"), [("drafted", False), ("rewritten", True), ("overwritten", True)])
def test_a_kill_at_any_point_of_a_destruction_leaves_all_other_keys(tmp_path: Path, point: str, is_gone: bool) -> None:
    keys = open_keys(tmp_path)
    anna, ben = keys.of(ANNA), keys.of(BEN)
    keys.close()
    died = subprocess.run([sys.executable, "-c", DESTROYS, point, str(tmp_path)], env={**os.environ}, timeout=60)
    assert died.returncode == -signal.SIGKILL
    after = open_keys(tmp_path)
    assert after.get(ben.id) == ben
    assert (after.find(ANNA) is None) is is_gone
    after.destroy([ANNA])
    assert after.find(ANNA) is None and after.get(ben.id) == ben
    assert anna.id not in (tmp_path / "owners.db").read_bytes().decode("latin-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["master.key", "owners.db"]
