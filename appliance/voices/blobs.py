"""Files by content, written so that a crash leaves the old state or the new one; a speaker's files are encrypted.

A file is named by the SHA-256 of its plaintext. What has an owner lies encrypted under the owner's key (see `vault`),
and who asks for its path gets a decrypted copy in memory; what is nobody's lies as it is.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from appliance.disk import flush_folder, free_mb
from appliance.errors import Corrupt, NotFound, StorageFull, Unavailable, VoicedError
from appliance.vault.keys import Owner
from appliance.vault.places import plain_place, sealed_copies, sealed_folder
from appliance.vault.plaintext import Stamp
from appliance.vault.room import Vault
from appliance.vault.sealing import Damaged, DataKey, open_stream, seal_stream

T = TypeVar("T")

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_LEFTOVER_AGE_S = 3600.0  # a temporary file this old belongs to a writer that died


class BlobStore:
    """A folder of immutable files named by their SHA-256. Methods block: call them from a thread, not from the loop.

    Without a vault nothing is encrypted, and what is encrypted cannot be read: for tools and tests.
    """

    def __init__(self, root: Path, vault: Vault | None = None) -> None:
        self.root = root
        self.vault = vault
        self._incoming = root / "incoming"
        self._sweep_leftovers()

    # ------------------------------------------------------------ in

    def put_bytes(self, data: bytes, owner: Owner | None = None) -> str:
        """File `data`; returns its digest (64 hex digits). Filing it again changes nothing.

        Raises StorageFull, and Unavailable (master_key_missing, master_key_wrong) where there is an owner.
        """
        return self._put(io.BytesIO(data), owner)

    def put_file(self, path: Path, owner: Owner | None = None) -> str:
        """File a copy of the file at `path`, whatever happens to the original later. Raises as `put_bytes`, OSError."""
        with path.open("rb") as source:
            return self._put(source, owner)

    # ------------------------------------------------------------ out

    def path(self, digest: str) -> Path:
        """A file with this content: the file itself, or a decrypted copy in memory that lives while it is used.

        Raises NotFound (blob_not_found; erased: its key was destroyed), Corrupt("blob_corrupt"), StorageFull,
        Unavailable (master_key_missing, master_key_wrong).
        """
        self.require(digest)
        plain = plain_place(self.root, digest)
        return plain if plain.is_file() else self._decrypted(digest)

    def read(self, digest: str) -> bytes:
        """The content, every bit as it was filed. Raises as `path`."""
        plain = plain_place(self.root, digest)
        content = plain.read_bytes() if plain.is_file() else self.path(digest).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise Corrupt("blob_corrupt", digest=digest, found=found)
        return content

    def require(self, digest: str) -> None:
        """Raises NotFound("blob_not_found") unless the file is there; whether it can be read is not looked at."""
        if not self.has(digest):
            raise NotFound("blob_not_found", digest=digest[:80])

    def has(self, digest: str) -> bool:
        if _DIGEST.fullmatch(digest) is None:
            return False
        return plain_place(self.root, digest).is_file() or bool(sealed_copies(self.root, digest))

    def filed_at(self, digest: str) -> float:
        """When it was filed last, as `time.time()` counts. Raises NotFound("blob_not_found")."""
        self.require(digest)
        places = (plain_place(self.root, digest), *sealed_copies(self.root, digest))
        return max((path.stat().st_mtime for path in places if path.is_file()), default=0.0)

    def is_plain(self, digest: str) -> bool:
        """Whether it lies here unencrypted."""
        return _DIGEST.fullmatch(digest) is not None and plain_place(self.root, digest).is_file()

    def verify(self, digest: str) -> None:
        """Read the whole file from the disk. Raises Corrupt("blob_corrupt") when a bit has changed, else as `path`."""
        self.require(digest)
        plain = plain_place(self.root, digest)
        found = digest_of(plain) if plain.is_file() else self._digest_of_sealed(digest)
        if found != digest:
            raise Corrupt("blob_corrupt", digest=digest, found=found)

    # ------------------------------------------------------------ away

    def remove(self, digest: str) -> None:
        """Forget the file and every encrypted copy of it; idempotent. Only where nobody else refers to it."""
        if not _DIGEST.fullmatch(digest):
            raise NotFound("blob_not_found", digest=digest[:80])
        self.remove_plain(digest)
        shutil.rmtree(sealed_folder(self.root, digest), ignore_errors=True)
        if self.vault is not None:
            self.vault.plaintext.drop(digest)

    def remove_plain(self, digest: str) -> None:
        """Forget the unencrypted file only; idempotent."""
        plain_place(self.root, digest).unlink(missing_ok=True)

    def sweep(self, keys: Collection[str]) -> int:
        """Remove every file under one of these keys, decrypted copies too; returns how many. Reads the whole tree."""
        found = [path for path in self.root.glob("sealed/*/*/*") if path.name in keys]
        for path in found:
            path.unlink(missing_ok=True)
            if self.vault is not None:
                self.vault.plaintext.drop(path.parent.parent.name + path.parent.name)
        return len(found)

    # ------------------------------------------------------------

    def _put(self, source: BinaryIO, owner: Owner | None) -> str:
        key = None if owner is None or self.vault is None else self.vault.keys.of(owner)
        with self._storage(), self._temporary() as temporary:
            with temporary.open("xb") as target:
                digest = _copy(source, target) if key is None else seal_stream(source, target, key)
                os.fsync(target.fileno())
            self._keep(temporary, digest, key)
        return digest

    def _keep(self, temporary: Path, digest: str, key: DataKey | None) -> None:
        """Move a complete, flushed file to its place, unless a good copy is there (a rotten one is replaced)."""
        place = plain_place(self.root, digest) if key is None else sealed_folder(self.root, digest) / key.id
        if place.is_file() and self._is_good(place, digest, key):
            os.utime(place)  # asked for now: housekeeping leaves it to whoever files it next
            return
        _make_folder(place.parent)
        temporary.chmod(0o440)
        temporary.replace(place)
        flush_folder(place.parent)

    def _is_good(self, place: Path, digest: str, key: DataKey | None) -> bool:
        try:
            return (digest_of(place) if key is None else self._digest_of_copy(place)) == digest
        except (Damaged, VoicedError):
            return False

    def _decrypted(self, digest: str) -> Path:
        vault = self._need_vault()
        return self._of_any_copy(digest, lambda copy: self._fill(vault, digest, copy))

    def _fill(self, vault: Vault, digest: str, copy: Path) -> Path:
        stamp = _stamp(copy)
        found = vault.plaintext.find(digest, stamp)
        found = found or vault.plaintext.fill(digest, stamp, lambda: self._chunks(copy))
        if found is None:
            raise Damaged("other bytes than it is named by")
        return found

    def _digest_of_sealed(self, digest: str) -> str:
        return self._of_any_copy(digest, self._digest_of_copy)

    def _digest_of_copy(self, copy: Path) -> str:
        digest = hashlib.sha256()
        for chunk in self._chunks(copy):
            digest.update(chunk)
        return digest.hexdigest()

    def _of_any_copy(self, digest: str, work: Callable[[Path], T]) -> T:
        """What `work` makes of the first copy that opens; of several troubles the first is told."""
        trouble: VoicedError | None = None
        for copy in sealed_copies(self.root, digest):
            try:
                return work(copy)
            except Damaged as error:
                trouble = trouble or Corrupt("blob_corrupt", digest=digest, found=str(error))
            except NotFound as error:
                trouble = trouble or error
            except FileNotFoundError:
                continue
        raise trouble or NotFound("blob_not_found", digest=digest[:80])

    def _chunks(self, copy: Path) -> Iterator[bytes]:
        with copy.open("rb") as source:
            yield from open_stream(source, self._need_vault().keys.get)

    def _need_vault(self) -> Vault:
        if self.vault is None:
            raise Unavailable("keys_unusable", path=str(self.root), problem="opened without keys")
        return self.vault

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
            raise StorageFull("storage_full", path=str(self.root), free_mb=free_mb(self.root)) from error

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


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _stamp(path: Path) -> Stamp:
    facts = path.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        flush_folder(folder.parent)
