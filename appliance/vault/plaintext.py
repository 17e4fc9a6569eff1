"""Plaintext for programs that need a file: a private folder in memory, wiped at start and end, emptied when idle.

ROOT/sha256/ab/cdef…        named by the digest of the content, like the files of the blob store
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.disk import free_mb
from appliance.errors import StorageFull, Unavailable

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in there, which nobody else may open
IDLE_S = 1800.0  # longer than a request or the reading of a job's sources; what is needed later is decrypted again
BRIEF_S = 120.0  # under pressure: what was used this long ago goes

Stamp = tuple[int, int, int]  # of the encrypted file: what is decrypted from another one is not taken


class PlaintextFolder:
    """Files by digest. Methods block; they are safe to call from several threads."""

    def __init__(self, root: Path) -> None:
        """Opens and wipes the folder. Raises Unavailable("plaintext_folder_unsafe")."""
        self.root = root
        self._turn = threading.Lock()
        self._used: dict[str, tuple[Stamp, float]] = {}  # digest -> stamp, monotonic time
        _make_private(root)
        self.wipe()

    def find(self, digest: str, stamp: Stamp) -> Path | None:
        """The file, if it was decrypted from the file that `stamp` names."""
        with self._turn:
            known = self._used.get(digest)
            if known is None or known[0] != stamp or not self._place(digest).is_file():
                return None
            self._used[digest] = (stamp, time.monotonic())
        return self._place(digest)

    def fill(self, digest: str, stamp: Stamp, read: Callable[[], Iterator[bytes]]) -> Path | None:
        """Write what `read` gives; None unless it has this digest. Raises StorageFull and what `read` raises."""
        try:
            return self._fill(digest, stamp, read())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise Unavailable("plaintext_folder_unsafe", path=str(self.root), problem=str(error)) from error
        self.sweep(BRIEF_S)
        try:
            return self._fill(digest, stamp, read())
        except OSError as error:
            raise StorageFull("plaintext_full", path=str(self.root), free_mb=free_mb(self.root)) from error

    def drop(self, digest: str) -> None:
        """Forget a file; idempotent."""
        with self._turn:
            self._used.pop(digest, None)
            self._place(digest).unlink(missing_ok=True)

    def sweep(self, idle_s: float = IDLE_S) -> int:
        """Remove what nobody asked for in `idle_s` seconds; returns how many files."""
        now = time.monotonic()
        with self._turn:
            idle = [digest for digest, (_, at) in self._used.items() if now - at >= idle_s]
        for digest in idle:
            self.drop(digest)
        return len(idle)

    def wipe(self) -> None:
        """Nothing is left."""
        with self._turn:
            self._used.clear()
            for path in self.root.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is left, the folder neither."""
        with contextlib.suppress(OSError):
            self.wipe()
            self.root.rmdir()

    def _place(self, digest: str) -> Path:
        return self.root / "sha256" / digest[:2] / digest[2:]

    def _fill(self, digest: str, stamp: Stamp, chunks: Iterator[bytes]) -> Path | None:
        place, temporary = self._place(digest), self.root / secrets.token_hex(16)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = hashlib.sha256()
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                for chunk in chunks:
                    found.update(chunk)
                    file.write(chunk)
            if found.hexdigest() != digest:
                return None
            with self._turn:
                temporary.chmod(0o400)
                temporary.replace(place)
                self._used[digest] = (stamp, time.monotonic())
            return place
        finally:
            temporary.unlink(missing_ok=True)


def folder_for(state_dir: Path, configured: Path | None) -> Path:
    """A folder of this state directory alone: below the configured one, else in shared memory."""
    in_memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    home = configured or in_memory
    whose = hashlib.sha256(str(state_dir.absolute()).encode()).hexdigest()[:16]
    return home / f"voiced-{os.getuid()}-{whose}"


def _make_private(root: Path) -> None:
    """Others may write where the folder lies: one that is not ours alone is not used."""
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = root.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise Unavailable("plaintext_folder_unsafe", path=str(root), problem="it belongs to somebody else")
        root.chmod(0o700)
    except OSError as error:
        raise Unavailable("plaintext_folder_unsafe", path=str(root), problem=str(error)) from error
