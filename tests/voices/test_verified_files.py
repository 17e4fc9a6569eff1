"""Weights are checked before use: several at once, each once, and every damage is found."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.errors import Corrupt
from appliance.voices import verified_files
from appliance.voices.blobs import BlobStore, digest_of
from appliance.voices.verified_files import ALWAYS_BYTES, VerifiedFiles

LARGE = ALWAYS_BYTES + 1


@pytest.fixture
def files(blobs: BlobStore) -> dict[str, str]:
    """Two large files, one of them in two roles, and a small one."""
    first, second = (blobs.put_bytes(bytes([n]) * LARGE) for n in (1, 2))
    return {"s1": first, "s2": second, "base": first, "config": blobs.put_bytes(b"{}")}


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of the files that were read, in the order in which that ended."""
    seen: list[str] = []

    def count(path: Path) -> str:
        seen.append(digest_of(path))
        return seen[-1]

    monkeypatch.setattr(verified_files, "digest_of", count)
    return seen


def test_large_files_are_hashed_once_and_small_ones_each_time(
    blobs: BlobStore, files: dict[str, str], hashed: list[str]
) -> None:
    verified = VerifiedFiles(blobs)
    assert verified.paths(files) == {role: blobs.path(digest) for role, digest in files.items()}
    assert sorted(hashed) == sorted(set(files.values()))
    verified.paths(files)
    assert hashed[3:] == [files["config"]]
    os.utime(blobs.path(files["s2"]), ns=(1, 1))  # it may be another file now
    verified.paths(files)
    assert sorted(hashed[4:]) == sorted([files["config"], files["s2"]])


@pytest.mark.parametrize("role", ["s1", "s2", "config"])
def test_a_flipped_bit_is_found_in_every_file(blobs: BlobStore, files: dict[str, str], role: str) -> None:
    verified = VerifiedFiles(blobs)
    verified.paths(files)
    place = blobs.path(files[role])
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.chmod(0o640)
    place.write_bytes(content)
    for _ in range(2):  # what was found wrong is not remembered as right
        with pytest.raises(Corrupt) as damaged:
            verified.paths(files)
        assert damaged.value.code == "blob_corrupt"


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core hashes one file at a time")
def test_two_large_files_are_hashed_at_the_same_time(
    blobs: BlobStore, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)

    def meet(path: Path) -> str:
        if path.stat().st_size > ALWAYS_BYTES:
            both.wait(timeout=60)  # broken unless the other one is here, too
        return digest_of(path)

    monkeypatch.setattr(verified_files, "digest_of", meet)
    assert len(VerifiedFiles(blobs).paths(files)) == 4


def test_requests_that_come_together_share_the_work(blobs: BlobStore, files: dict[str, str], hashed: list[str]) -> None:
    verified = VerifiedFiles(blobs)
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(verified.paths, files) for _ in range(6)]:
            done.result()
    large = [digest for digest in hashed if digest != files["config"]]
    assert sorted(large) == sorted({files["s1"], files["s2"]})
