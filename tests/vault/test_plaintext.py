"""Decrypted files: private, in memory, there while they are used, gone afterwards."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from appliance.errors import Unavailable
from appliance.vault.plaintext import PlaintextFolder, folder_for

STAMP = (1, 2, 3)
DIGEST = hashlib.sha256(b"sound").hexdigest()


def test_a_file_is_there_until_it_is_idle_or_wiped(tmp_path: Path) -> None:
    folder = PlaintextFolder(tmp_path / "plain")
    path = folder.fill(DIGEST, STAMP, lambda: iter([b"so", b"und"]))
    assert path is not None and path.read_bytes() == b"sound" and folder.find(DIGEST, STAMP) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o400 and stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert folder.find(DIGEST, (9, 9, 9)) is None  # the encrypted file is another one by now
    assert folder.sweep(1000) == 0 and folder.sweep(0) == 1 and not path.exists()
    folder.fill(DIGEST, STAMP, lambda: iter([b"sound"]))
    folder.close()
    assert not folder.root.exists()


def test_other_bytes_than_the_digest_names_are_not_taken(tmp_path: Path) -> None:
    folder = PlaintextFolder(tmp_path / "plain")
    assert folder.fill(DIGEST, STAMP, lambda: iter([b"noise"])) is None
    assert [path for path in folder.root.rglob("*") if path.is_file()] == []


def test_what_an_earlier_run_left_is_wiped_and_a_strange_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain" / "sha256" / "ab").mkdir(parents=True)
    (tmp_path / "plain" / "sha256" / "ab" / "left").write_bytes(b"sound")
    PlaintextFolder(tmp_path / "plain")
    assert list((tmp_path / "plain").iterdir()) == []
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable) as told:
        PlaintextFolder(tmp_path / "link")
    assert told.value.code == "plaintext_folder_unsafe"


def test_each_state_directory_has_a_folder_of_its_own(tmp_path: Path) -> None:
    one, two = folder_for(tmp_path / "a", None), folder_for(tmp_path / "b", None)
    assert one != two and str(os.getuid()) in one.name
    assert folder_for(tmp_path / "a", tmp_path).parent == tmp_path
