from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.errors import Corrupt, NotFound, StorageFull
from appliance.voices.blobs import BlobStore


def test_what_is_put_is_found_under_its_digest(tmp_path: Path) -> None:
    blobs, source = BlobStore(tmp_path / "blobs"), tmp_path / "in.bin"
    source.write_bytes(b"sound" * 1000)
    digest = blobs.put_file(source)
    assert digest == hashlib.sha256(b"sound" * 1000).hexdigest() == blobs.put_bytes(b"sound" * 1000)
    assert blobs.path(digest) == tmp_path / "blobs" / "sha256" / digest[:2] / digest[2:]
    assert blobs.path(digest).read_bytes() == source.read_bytes()
    blobs.verify(digest)
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []


@pytest.mark.parametrize("digest", ["", "ab", "../../etc/passwd", "0" * 64, "A" * 64, "0" * 63 + "/"])
def test_a_digest_that_names_nothing_is_not_found(tmp_path: Path, digest: str) -> None:
    with pytest.raises(NotFound):
        BlobStore(tmp_path).path(digest)


def test_every_flipped_bit_is_found_and_filing_again_heals(tmp_path: Path) -> None:
    blobs, data, dice = BlobStore(tmp_path), random.Random(1).randbytes(4096), random.Random(2)
    digest = blobs.put_bytes(data)
    path = blobs.path(digest)
    path.chmod(0o640)
    for _ in range(50):
        rotten = bytearray(data)
        rotten[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(rotten)
        with pytest.raises(Corrupt):
            blobs.verify(digest)
    path.write_bytes(data[:-1])
    with pytest.raises(Corrupt):
        blobs.verify(digest)
    assert blobs.put_bytes(data) == digest
    blobs.verify(digest)


def test_leftovers_of_a_dead_writer_are_swept_but_fresh_ones_are_not(tmp_path: Path) -> None:
    BlobStore(tmp_path).put_bytes(b"x")
    old, fresh = tmp_path / "incoming" / "old", tmp_path / "incoming" / "fresh"
    old.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    BlobStore(tmp_path)
    assert not old.exists() and fresh.exists()


def test_a_store_that_cannot_be_written_is_told_as_full_storage(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_bytes(b"a file where the folder should be")
    with pytest.raises(StorageFull) as full:
        BlobStore(tmp_path / "blobs").put_bytes(b"x")
    assert full.value.code == "storage_full"


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path; from appliance.voices.blobs import BlobStore\n"
        "from appliance.errors import StorageFull\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); blobs = BlobStore(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "try: blobs.put_bytes(b'x' * 100_000)\n"
        "except StorageFull: print('told')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "blobs.verify(blobs.put_bytes(b'x' * 100_000)); print('recovered')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["told", "recovered"], done.stderr
    assert list((tmp_path / "incoming").iterdir()) == []


CHILD = """
import random, sys
from pathlib import Path
from appliance.voices.blobs import BlobStore
blobs, dice = BlobStore(Path(sys.argv[1])), random.Random(int(sys.argv[2]))
print("up", flush=True)
while True:
    print(blobs.put_bytes(dice.randbytes(dice.randrange(1, 400_000))), flush=True)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to choose the moment")
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "mkdir", "chmod"])
def test_kill_9_at_each_system_call_of_a_write_leaves_old_or_new(tmp_path: Path, call: str) -> None:
    script = (
        "import sys; from pathlib import Path; from appliance.voices.blobs import BlobStore\n"
        "print(BlobStore(Path(sys.argv[1])).put_bytes(b'new' * 1000), flush=True)"
    )
    killed = 0
    for number in range(1, 8):
        root = tmp_path / str(number)
        old = BlobStore(root).put_bytes(b"old" * 1000)
        inject = f"inject={call}:signal=KILL:when={number}"
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
        ended = subprocess.run([*command, sys.executable, "-c", script, str(root)], capture_output=True)
        killed += ended.returncode != 0
        BlobStore(root).verify(old)
        files = [path for path in (root / "sha256").rglob("*") if path.is_file()]
        assert len(files) in (1, 2)
        for path in files:
            BlobStore(root).verify(path.parent.name + path.name)
        if ended.stdout:
            assert len(files) == 2
    assert killed


def test_kill_9_at_random_moments_leaves_only_whole_files_and_loses_none_acknowledged(tmp_path: Path) -> None:
    dice, acknowledged = random.Random(3), set[str]()
    for round_number in range(12):
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(round_number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
            assert child.stdout is not None and child.stdout.readline() == "up\n"
            time.sleep(dice.uniform(0.0, 0.12))
            os.killpg(child.pid, signal.SIGKILL)
            acknowledged |= {line[:64] for line in child.stdout.read().splitlines(keepends=True) if len(line) == 65}
    blobs = BlobStore(tmp_path)
    assert len(acknowledged) > 5
    for digest in acknowledged:
        blobs.verify(digest)
    for path in (tmp_path / "sha256").rglob("*"):
        if path.is_file():
            blobs.verify(path.parent.name + path.name)
