"""Whose data is encrypted under which key, and how a key is destroyed.

Every owner has a data key of 256 bits. It lies in `keys/owners.db`, wrapped by the box's master key with AES-256-GCM;
tenant, owner and key id are the associated data, so that a row cannot be passed off as another's. Neither the database
of the box nor its files hold a key: a copy of them is as dead as the keys are.

Destroying a key removes its row (overwritten, `secure_delete`) and replaces the master key: the others are wrapped
anew, the old master key is overwritten. So a row that an old copy of `owners.db` still holds cannot be unwrapped with
what the box has afterwards. A master key from elsewhere (`security.key_file`) is not ours to replace.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.database import transact, utc_now
from appliance.errors import Conflict, NotFound, Unavailable
from appliance.vault.master import MasterKey, MasterKeyFile
from appliance.vault.sealing import DataKey, make_key

SPEAKER = "speaker"
VOICE = "voice"  # a voice whose speaker nobody named
RECORDING = "recording"  # a recording whose speaker nobody named

_TABLE = """
CREATE TABLE IF NOT EXISTS owner_keys (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, kind TEXT NOT NULL, owner TEXT NOT NULL,
    master TEXT NOT NULL,  -- id of the master key that wraps it
    wrapped BLOB NOT NULL, created_at TEXT NOT NULL,
    UNIQUE (tenant, kind, owner)
) STRICT"""


@dataclass(frozen=True, order=True)
class Owner:
    """Whose data it is; all of it can be destroyed together."""

    tenant: str
    kind: str  # SPEAKER | VOICE | RECORDING
    id: str


def owner_of(tenant: str, speaker: str, kind: str, otherwise: str) -> Owner:
    """The speaker; where nobody named one, the thing itself (`kind`, its id `otherwise`)."""
    return Owner(tenant, SPEAKER, speaker) if speaker else Owner(tenant, kind, otherwise)


class KeyRing:
    """The keys of all owners, opened by `open_keys`. Methods block for moments; they are safe to call from any thread.

    A master key that is missing or wrong does not keep the box from starting: whatever needs a key raises
    Unavailable("master_key_missing" | "master_key_wrong") until the right one is back.
    """

    def __init__(self, db: sqlite3.Connection, file: MasterKeyFile) -> None:
        self._db = db
        self._file = file
        self._turn = threading.RLock()
        self._open: dict[str, DataKey] = {}  # by id
        self._master: MasterKey | None = None
        self._find_master()

    def of(self, owner: Owner) -> DataKey:
        """The owner's key, made now if there is none. Raises Unavailable, StorageFull."""
        with self._turn:
            found = self.find(owner)
            if found is not None:
                return found
            master, made = self._need_master(), make_key()
            row = (made.id, owner.tenant, owner.kind, owner.id, master.id, _wrap(master, made, owner), utc_now())
            transact(self._db, lambda db: db.execute("INSERT INTO owner_keys VALUES (?, ?, ?, ?, ?, ?, ?)", row))
            self._open[made.id] = made
            return made

    def find(self, owner: Owner) -> DataKey | None:
        """The owner's key, if there is one. Raises Unavailable."""
        query = "SELECT id FROM owner_keys WHERE tenant = ? AND kind = ? AND owner = ?"
        with self._turn:
            row = self._db.execute(query, (owner.tenant, owner.kind, owner.id)).fetchone()
            return None if row is None else self.get(row["id"])

    def get(self, key_id: str) -> DataKey:
        """Raises NotFound("erased") for a key that was destroyed (or never was here), Unavailable."""
        with self._turn:
            if key_id in self._open:
                return self._open[key_id]
            row = self._db.execute("SELECT * FROM owner_keys WHERE id = ?", (key_id,)).fetchone()
            if row is None:
                raise NotFound("erased", key=key_id)
            key = self._open[key_id] = _unwrap(self._need_master(), row)
            return key

    def destroy(self, owners: Sequence[Owner]) -> tuple[str, ...]:
        """Make everything that these owners have unreadable, wherever a copy lies; returns the ids of their keys.

        Once it returns the keys are gone from the disk. Calling it again destroys nothing more. Raises Unavailable.
        """
        with self._turn:
            query = "SELECT id FROM owner_keys WHERE tenant = ? AND kind = ? AND owner = ?"
            rows = (self._db.execute(query, (one.tenant, one.kind, one.id)).fetchone() for one in dict.fromkeys(owners))
            gone = tuple(row["id"] for row in rows if row is not None)
            if gone:
                self._remove(gone)
            return gone

    def trouble(self) -> Unavailable | None:
        """What keeps everything of the speakers closed; None: nothing does. A key that was put back is noticed."""
        with self._turn:
            try:
                self._need_master()
            except Unavailable as error:
                return error
            return None

    def lost(self) -> tuple[Owner, ...]:
        """Owners whose keys cannot be unwrapped, because the master key is missing or another."""
        with self._turn:
            return tuple(_owner(row) for row in self._lost_rows())

    def abandon(self) -> tuple[str, ...]:
        """Give up for good the keys of all who are `lost`, and go on without; returns the ids of the keys.

        What they encrypted reads as erased from then on, wherever it lies. Raises Conflict("master_key_not_lost").
        """
        with self._turn:
            gone = tuple(row["id"] for row in self._lost_rows())
            if not gone:
                raise Conflict("master_key_not_lost")
            keys = [(one,) for one in gone]
            transact(self._db, lambda db: db.executemany("DELETE FROM owner_keys WHERE id = ?", keys))
            self._find_master()
            return gone

    def close(self) -> None:
        with self._turn:
            self._open.clear()
            self._db.close()

    # ------------------------------------------------------------

    def _find_master(self) -> None:
        wanted = [row["master"] for row in self._db.execute("SELECT DISTINCT master FROM owner_keys")]
        self._master = self._file.choose(wanted)

    def _lost_rows(self) -> list[sqlite3.Row]:
        if self.trouble() is None:
            return []
        return self._db.execute("SELECT * FROM owner_keys WHERE master <> ?", (self._file.present_id(),)).fetchall()

    def _need_master(self) -> MasterKey:
        """Raises Unavailable("master_key_missing" | "master_key_wrong")."""
        if self._master is None:
            self._find_master()  # it may have been put back
        if self._master is None:
            code = "master_key_wrong" if self._file.is_there() else "master_key_missing"
            raise Unavailable(code, path=str(self._file.path))
        return self._master

    def _remove(self, gone: Sequence[str]) -> None:
        master = self._need_master()
        following = self._file.draft() if self._file.is_ours else master

        def rewrite(db: sqlite3.Connection) -> None:
            db.executemany("DELETE FROM owner_keys WHERE id = ?", [(one,) for one in gone])
            if following is master:
                return
            for row in db.execute("SELECT * FROM owner_keys").fetchall():
                wrapped = _wrap(following, _unwrap(master, row), _owner(row))
                db.execute(
                    "UPDATE owner_keys SET wrapped = ?, master = ? WHERE id = ?", (wrapped, following.id, row["id"])
                )

        transact(self._db, rewrite)
        if following is not master:
            self._file.adopt()
            self._master = following
        for one in gone:
            self._open.pop(one, None)


def open_keys(folder: Path, key_file: Path | None = None) -> KeyRing:
    """The keys in `folder` (0700, made at first boot), under the master key in `key_file` or else of the folder's own.

    Blocks. Raises Unavailable("keys_unusable").
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / "owners.db"
        path.touch(mode=0o600)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            db.row_factory = sqlite3.Row
            for pragma in ("journal_mode = DELETE", "synchronous = FULL", "secure_delete = ON"):
                with closing(db.execute(f"PRAGMA {pragma}")):
                    pass
            db.execute(_TABLE)
            return KeyRing(db, MasterKeyFile(folder / "master.key", key_file))
        except BaseException:
            db.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise Unavailable("keys_unusable", path=str(folder), problem=str(error)) from error


def _owner(row: sqlite3.Row) -> Owner:
    return Owner(row["tenant"], row["kind"], row["owner"])


def _about(key_id: str, owner: Owner) -> bytes:
    """Associated data; the parts cannot run into each other."""
    return b"\0".join(part.encode("utf-8", "surrogatepass") for part in (key_id, owner.kind, owner.tenant, owner.id))


def _wrap(master: MasterKey, key: DataKey, owner: Owner) -> bytes:
    """Nonce (12 random bytes) and the encrypted key."""
    nonce = master.fresh_nonce()
    return nonce + AESGCM(master.secret).encrypt(nonce, key.secret, _about(key.id, owner))


def _unwrap(master: MasterKey, row: sqlite3.Row) -> DataKey:
    wrapped = bytes(row["wrapped"])
    try:
        secret = AESGCM(master.secret).decrypt(wrapped[:12], wrapped[12:], _about(row["id"], _owner(row)))
    except InvalidTag as error:
        raise Unavailable("master_key_wrong", path="owners.db") from error
    return DataKey(row["id"], secret)
