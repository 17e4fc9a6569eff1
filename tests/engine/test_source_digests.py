from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.engine import source_digests
from appliance.engine.artifact_store import sha256_of
from appliance.engine.source_digests import SourceDigests


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("bert", "s1", "s2")]
    for path in paths:
        path.write_bytes(path.name.encode() * 1000)
    return paths


def test_expected_files_are_read_at_the_same_time_and_once(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, two = [], threading.Barrier(2)

    def digest(path: Path) -> str:
        read.append(path)
        if path in files[:2]:
            two.wait(timeout=60)  # broken unless both are read at once
        return sha256_of(path)

    monkeypatch.setattr(source_digests, "digest_of_source", digest)
    digests = SourceDigests()
    digests.expect([*files, tmp_path / "absent"])
    assert [digests.of(path) for path in files] == [sha256_of(path) for path in files]
    digests.expect(files)
    assert sorted(read) == files
    assert digests.of(None) == ""
    digests.close()


def test_a_file_that_changed_is_read_again(files: list[Path]) -> None:
    digests = SourceDigests()
    before = digests.of(files[0])
    files[0].write_bytes(b"other weights")
    assert digests.of(files[0]) == sha256_of(files[0]) != before
    digests.close()
