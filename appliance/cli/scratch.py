"""A folder in the system's temporary one that does not outlive its process for long.

A process that is killed cannot clear up after itself; the next one of its kind does it. Whether a folder is still in
use is told by a lock on it, which the system takes back from whoever ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """A new folder for this block, after those of dead processes of the same `kind` were removed."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"voiced-{kind}-*"):
        with suppress(OSError):  # somebody else's, or it is being removed already
            _remove_unused(left)
    folder, lock = _make(root, kind)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(root: Path, kind: str) -> tuple[Path, int]:
    """A folder and the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"voiced-{kind}-", dir=root))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # else another process found it before it was locked
            return folder, lock
        os.close(lock)


def _remove_unused(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
