"""The master key: 256 bits that wrap the owners' keys, in a file of its own that no copy of the data holds."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.disk import flush_folder
from appliance.errors import StorageFull
from appliance.state_dir import write_private


@dataclass(frozen=True)
class MasterKey:
    secret: bytes

    @property
    def id(self) -> str:
        """16 hexadecimal digits, no secret: tells whether a row is wrapped by this key."""
        return hashlib.sha256(b"voiced master key\0" + self.secret).hexdigest()[:16]

    def fresh_nonce(self) -> bytes:
        return os.urandom(12)

    def __repr__(self) -> str:
        return f"MasterKey({self.id})"


class MasterKeyFile:
    """Where the master key lies: the box's own file, or one that somebody else keeps (say, a systemd credential)."""

    def __init__(self, own: Path, foreign: Path | None = None) -> None:
        self.path = foreign or own
        self.is_ours = foreign is None  # only then may it be replaced
        self._draft = own.with_name("master.key.next")

    def is_there(self) -> bool:
        return _read(self.path) is not None

    def present_id(self) -> str:
        """The id of the key in the file; "" where there is none."""
        key = _read(self.path)
        return "" if key is None else key.id

    def choose(self, wanted: Sequence[str]) -> MasterKey | None:
        """The key that wraps the rows (ids `wanted`); None when it is missing or another. Made when nothing needs one.

        A replacement that a crash broke off is brought to its end or taken back, as the rows say.
        """
        key, draft = _read(self.path), _read(self._draft) if self.is_ours else None
        if draft is not None and wanted in ([], [draft.id]):  # none: the last row went, and the old key has to
            self.adopt()
            return draft
        if self.is_ours:
            _shred(self._draft)
        if not wanted:
            return key or self._make()
        return key if key is not None and wanted == [key.id] else None

    def draft(self) -> MasterKey:
        """The next master key, on disk beside the present one. Raises StorageFull."""
        key = MasterKey(secrets.token_bytes(32))
        self._write(self._draft, key)
        return key

    def adopt(self) -> None:
        """The draft takes the place of the present key, which is overwritten."""
        _overwrite(self.path)
        self._draft.replace(self.path)
        flush_folder(self.path.parent)

    def _make(self) -> MasterKey | None:
        """None where it cannot be written, or would replace what somebody else keeps (a damaged credential)."""
        if not self.is_ours and (self.path.exists() or not self.path.parent.is_dir()):
            return None
        key = MasterKey(secrets.token_bytes(32))
        try:
            self._write(self.path, key)
        except StorageFull:
            if self.is_ours:
                raise
            return None
        return key

    def _write(self, path: Path, key: MasterKey) -> None:
        try:
            write_private(path, f"{base64.b64encode(key.secret).decode()}\n")
        except OSError as error:
            raise StorageFull("storage_full", path=str(path), free_mb=0) from error
        flush_folder(path.parent)


def _read(path: Path) -> MasterKey | None:
    """None for a file that is not there or holds no key."""
    try:
        secret = base64.b64decode(path.read_bytes().strip(), validate=True)
    except (OSError, binascii.Error):
        return None
    return MasterKey(secret) if len(secret) == 32 else None


def _overwrite(path: Path) -> None:
    """In place: the old key is not left in a block that nobody uses. (A flash disk may keep one all the same.)"""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())


def _shred(path: Path) -> None:
    _overwrite(path)
    path.unlink(missing_ok=True)
