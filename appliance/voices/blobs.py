"""Files by content: `blobs/sha256/ab/cdef…`, written so that a crash leaves the old state or the new one."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import Corrupt, NotFound, StorageFull

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_LEFTOVER_AGE_S = 3600.0  # a temporary file this old belongs to a writer that died


class BlobStore:
    """A folder of immutable files named by their SHA-256. Methods block: call them from a thread, not from the loop."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "sha256"
        self._incoming = root / "incoming"
        self._sweep_leftovers()

    def put_bytes(self, data: bytes) -> str:
        """File `data`; returns its digest (64 hex digits). Filing it again changes nothing. Raises StorageFull."""
        with self._storage(), self._temporary() as temporary:
            with temporary.open("xb") as target:
                target.write(data)
                os.fsync(target.fileno())
            return self._keep(temporary, hashlib.sha256(data).hexdigest())

    def put_file(self, path: Path) -> str:
        """File a copy of the file at `path`, whatever happens to the original later. Raises StorageFull, OSError."""
        digest = hashlib.sha256()
        with path.open("rb") as source, self._storage(), self._temporary() as temporary:
            with temporary.open("xb") as target:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
                os.fsync(target.fileno())
            return self._keep(temporary, digest.hexdigest())

    def path(self, digest: str) -> Path:
        """Where the file lies. Raises NotFound("blob_not_found")."""
        path = self._place(digest)
        if not path.is_file():
            raise NotFound("blob_not_found", digest=digest[:80])
        return path

    def has(self, digest: str) -> bool:
        return _DIGEST.fullmatch(digest) is not None and self._place(digest).is_file()

    def verify(self, digest: str) -> None:
        """Read the whole file. Raises Corrupt("blob_corrupt") when a bit has changed, NotFound when it is gone."""
        found = digest_of(self.path(digest))
        if found != digest:
            raise Corrupt("blob_corrupt", digest=digest, found=found)

    def remove(self, digest: str) -> None:
        """Forget the file; idempotent. Only for a caller that knows nobody else refers to it."""
        self._place(digest).unlink(missing_ok=True)

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise NotFound("blob_not_found", digest=digest[:80])
        return self._blobs / digest[:2] / digest[2:]

    def _keep(self, temporary: Path, digest: str) -> str:
        """Move a complete, flushed file to its place, unless a good copy is there (a rotten one is replaced)."""
        place = self._place(digest)
        if place.is_file() and digest_of(place) == digest:
            os.utime(place)  # asked for now: housekeeping leaves it to whoever files it next
            return digest
        _make_folder(place.parent)
        temporary.chmod(0o440)
        temporary.replace(place)
        _flush_folder(place.parent)
        return digest

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        self._incoming.mkdir(parents=True, exist_ok=True)
        path = self._incoming / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Trouble of the disk under the store, told as such."""
        try:
            yield
        except OSError as error:
            raise StorageFull("storage_full", path=str(self.root), free_mb=_free_mb(self.root)) from error

    def _sweep_leftovers(self) -> None:
        if not self._incoming.is_dir():
            return
        for path in self._incoming.iterdir():
            if time.time() - path.stat().st_mtime > _LEFTOVER_AGE_S:
                path.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _flush_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush_folder(folder.parent)


def _free_mb(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free // 1_000_000
    except OSError:
        return 0
