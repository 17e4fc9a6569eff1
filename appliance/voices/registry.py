"""The registry of voices: names, immutable versions, and the aliases that say which version is in production."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.contracts import StarterVoice, VoiceAssets
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Conflict, InvalidInput, NotFound
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.vault.keys import VOICE, Owner, owner_of
from appliance.voices.blobs import BlobStore
from appliance.voices.records import (
    AliasMove,
    NewVersion,
    NewVoice,
    Voice,
    VoiceVersion,
    clean_name,
    is_voice_id,
    to_json,
)
from appliance.voices.verified_files import VerifiedFiles

EVIDENCE = "exam:"  # roles of files that prove what a version was, and that no engine reads
ROLLBACK = "rollback"  # kind of an alias move; others: promote, delete, seed

_SELECT_VOICE = """
SELECT voices.*, aliases.number AS current,
    (SELECT max(number) FROM voice_versions AS v
     WHERE v.tenant = voices.tenant AND v.voice = voices.id AND v.number >= voices.first_number) AS latest
FROM voices LEFT JOIN aliases ON aliases.tenant = voices.tenant AND aliases.name = voices.id"""

_SPEAKING = """
JOIN voice_versions AS spoken ON spoken.tenant = voices.tenant AND spoken.voice = voices.id
    AND spoken.number = aliases.number
WHERE voices.tenant = ? AND voices.deleted_at IS NULL
ORDER BY voices.origin = 'starter', CASE voices.origin WHEN 'own' THEN -(
        SELECT max(sequence) FROM alias_moves AS m WHERE m.tenant = voices.tenant AND m.name = voices.id) END,
    spoken.engine <> ?, voices.rowid"""

_SELECT_VERSION = """
SELECT v.*, voices.speaker, voices.origin FROM voice_versions AS v
JOIN voices ON voices.tenant = v.tenant AND voices.id = v.voice"""
_SELECT_BEFORE = """
SELECT m.from_number FROM alias_moves AS m
JOIN voice_versions AS v ON v.tenant = m.tenant AND v.voice = m.name AND v.number = m.from_number
JOIN voices ON voices.tenant = v.tenant AND voices.id = v.voice
WHERE m.tenant = ? AND m.name = ? AND m.to_number = ? AND m.kind <> ?"""
_LAST = "ORDER BY m.sequence DESC LIMIT 1"
_LIVING = "voices.deleted_at IS NULL AND v.number >= voices.first_number"


@dataclass(frozen=True)
class _Why:
    """What the changelog says of a move."""

    reason: str
    actor: str = ""  # empty: the box itself
    kind: str = "promote"


class VoiceRegistry:
    """Every query is scoped by tenant; what belongs to another tenant does not exist here."""

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db = db
        self._blobs = blobs
        self._files = VerifiedFiles(blobs)

    async def list_voices(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Voice]:
        """The tenant's voices by id."""
        listing = Listing(_SELECT_VOICE, "voices.tenant = ? AND deleted_at IS NULL", (tenant,), ("voices.id",))
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _voice))

    async def speaking_voices(self, tenant: str, engine: str) -> tuple[Voice, ...]:
        """The voices with a version in production, in the order in which one that nobody named is chosen.

        First the tenant's own, the one promoted last before the others; then starters, those of `engine` first and as
        the engine lists them.
        """
        query = f"{_SELECT_VOICE} {_SPEAKING}"
        return await self._db.read(lambda db: tuple(_voice(row) for row in db.execute(query, (tenant, engine))))

    async def get_voice(self, tenant: str, voice_id: str) -> Voice:
        """Raises NotFound("voice_not_found")."""
        return await self._db.read(lambda db: _find_voice(db, tenant, voice_id))

    async def owner_of(self, tenant: str, voice_id: str) -> Owner | None:
        """Whose voice it is; None for a starter and for a voice that never was here."""
        query = "SELECT speaker, origin FROM voices WHERE tenant = ? AND id = ?"
        row = await self._db.read(lambda db: db.execute(query, (tenant, voice_id)).fetchone())
        if row is None or row["origin"] == "starter":
            return None
        return owner_of(tenant, row["speaker"], VOICE, voice_id)

    async def create_voice(self, tenant: str, new: NewVoice) -> Voice:
        """Name a voice; it has no version yet. A deleted id may be taken again: old versions stay hidden.

        Raises InvalidInput("voice_id_invalid"), Conflict("voice_exists").
        """
        if not is_voice_id(new.id):
            raise InvalidInput("voice_id_invalid", voice=new.id[:80])
        return await self._db.write(lambda db: _create(db, tenant, new), durable=True)

    async def add_version(self, tenant: str, voice_id: str, new: NewVersion) -> VoiceVersion:
        """File the next version; nothing is overwritten and no alias moves.

        Raises NotFound("voice_not_found" | "blob_not_found").
        """
        for digest in new.files.values():
            await asyncio.to_thread(self._blobs.require, digest)
        return await self._db.write(lambda db: _add_version(db, tenant, voice_id, new), durable=True)

    async def promote(
        self, tenant: str, voice_id: str, number: int, *, reason: str = "promoted", actor: str = ""
    ) -> Voice:
        """Move the alias to a version (forward or back); the move is logged with `reason` and who asked for it.

        Raises NotFound("voice_not_found" | "version_not_found").
        """

        def move(db: sqlite3.Connection) -> Voice:
            _find_version(db, tenant, voice_id, number)
            _move_alias(db, tenant, voice_id, number, _Why(reason, actor))
            return _find_voice(db, tenant, voice_id)

        return await self._db.write(move, durable=True)

    async def rollback(self, tenant: str, voice_id: str, *, reason: str = "rolled back", actor: str = "") -> Voice:
        """Move the alias to the version that spoke before the present one came; again, to the one before that.

        Raises NotFound("voice_not_found"), Conflict("nothing_to_roll_back").
        """

        def move(db: sqlite3.Connection) -> Voice:
            voice = _find_voice(db, tenant, voice_id)
            before = None if voice.current is None else _before(db, tenant, voice_id, voice.current)
            if before is None:
                raise Conflict("nothing_to_roll_back", voice=voice_id, current=voice.current or 0)
            _move_alias(db, tenant, voice_id, before, _Why(reason, actor, ROLLBACK))
            return _find_voice(db, tenant, voice_id)

        return await self._db.write(move, durable=True)

    async def versions(self, tenant: str, voice_id: str) -> tuple[VoiceVersion, ...]:
        """All versions, oldest first. Raises NotFound("voice_not_found")."""

        def select(db: sqlite3.Connection) -> tuple[VoiceVersion, ...]:
            _find_voice(db, tenant, voice_id)
            where = f"{_SELECT_VERSION} WHERE v.tenant = ? AND v.voice = ? AND {_LIVING} ORDER BY v.number"
            return tuple(_version(row) for row in db.execute(where, (tenant, voice_id)))

        return await self._db.read(select)

    async def alias_moves(self, tenant: str, voice_id: str) -> tuple[AliasMove, ...]:
        """What was in production when, oldest first."""
        query = "SELECT * FROM alias_moves WHERE tenant = ? AND name = ? ORDER BY sequence"
        return await self._db.read(lambda db: tuple(_alias_move(row) for row in db.execute(query, (tenant, voice_id))))

    async def resolve(self, tenant: str, spec: str, version: int | None = None) -> VoiceVersion:
        """The version that `spec` ("anna", "anna@3") or `version` names; without either, the one in production.

        Raises NotFound("voice_not_found" | "version_not_found" | "voice_not_ready"),
        InvalidInput("version_contradicts").
        """
        name, number = _parse(spec, version)
        return await self._db.read(lambda db: _resolve(db, tenant, name, number))

    async def assets(self, version: VoiceVersion) -> VoiceAssets:
        """What the engine needs to speak `version`, its files checked against their digests.

        Raises as `BlobStore.path`: Corrupt("blob_corrupt"), NotFound (blob_not_found, erased), …
        """
        needed = {role: digest for role, digest in version.files.items() if not role.startswith(EVIDENCE)}
        files = await asyncio.to_thread(self._files.paths, needed)
        identity = to_json([version.engine, needed, version.settings])
        key = f"sha256:{hashlib.sha256(identity.encode()).hexdigest()}"
        return VoiceAssets(key=key, engine=version.engine, files=files, settings=version.settings)

    async def seed_starters(self, tenant: str, engine_name: str, voices: Sequence[StarterVoice]) -> int:
        """File the voices that an engine brings, as version 1 in production; returns how many were new.

        A starter that the tenant has, had and deleted, or whose id is taken, is left as it is.
        """
        return sum([await self._seed(tenant, engine_name, starter) for starter in voices])

    async def delete_voice(self, tenant: str, voice_id: str) -> None:
        """Nobody can speak with it any more; its versions stay as history. Raises NotFound("voice_not_found")."""

        def mark(db: sqlite3.Connection) -> None:
            _find_voice(db, tenant, voice_id)
            _move_alias(db, tenant, voice_id, None, _Why("deleted", kind="delete"))
            row = (utc_now(), tenant, voice_id)
            db.execute("UPDATE voices SET deleted_at = ? WHERE tenant = ? AND id = ?", row)

        await self._db.write(mark, durable=True)

    async def _seed(self, tenant: str, engine_name: str, starter: StarterVoice) -> bool:
        known = "SELECT 1 FROM voices WHERE tenant = ? AND id = ?"
        if await self._db.read(lambda db: db.execute(known, (tenant, starter.name)).fetchone()):
            return False
        files = {
            role: await asyncio.to_thread(self._blobs.put_bytes, content) for role, content in starter.files.items()
        }
        voice = NewVoice(
            starter.name, starter.title, starter.description, starter.gender, starter.languages, origin="starter"
        )
        origin = {"base": starter.name, "licence": starter.licence, "attribution": starter.attribution}
        version = NewVersion(engine_name, files, starter.settings, lineage=origin)

        def file(db: sqlite3.Connection) -> bool:
            if db.execute(known, (tenant, starter.name)).fetchone():
                return False
            _create(db, tenant, voice)
            number = _add_version(db, tenant, starter.name, version).number
            _move_alias(db, tenant, starter.name, number, _Why("came with the engine", kind="seed"))
            return True

        return await self._db.write(file, durable=True)


def _parse(spec: str, version: int | None) -> tuple[str, int | None]:
    name, mark, pinned = clean_name(spec).partition("@")
    if not mark:
        return name, version
    if not re.fullmatch(r"[0-9]{1,9}", pinned):
        raise NotFound("version_not_found", voice=name[:80], version=pinned[:20])
    number = int(pinned)
    if version is not None and version != number:
        raise InvalidInput("version_contradicts", voice=spec[:80], version=version)
    return name, number


def _resolve(db: sqlite3.Connection, tenant: str, name: str, number: int | None) -> VoiceVersion:
    if number is not None:
        return _find_version(db, tenant, name, number)
    query = "SELECT voice, number FROM aliases WHERE tenant = ? AND name = ?"
    row = db.execute(query, (tenant, name)).fetchone()
    if row is None:
        voice = _find_voice(db, tenant, name)
        raise NotFound("voice_not_ready", voice=name, latest=voice.latest or 0)
    return _find_version(db, tenant, row["voice"], row["number"])


def _find_voice(db: sqlite3.Connection, tenant: str, voice_id: str) -> Voice:
    voice_id = clean_name(voice_id)
    query = f"{_SELECT_VOICE} WHERE voices.tenant = ? AND voices.id = ? AND deleted_at IS NULL"
    row = db.execute(query, (tenant, voice_id)).fetchone()
    if row is None:
        raise NotFound("voice_not_found", voice=voice_id[:80])
    return _voice(row)


def _find_version(db: sqlite3.Connection, tenant: str, voice_id: str, number: int) -> VoiceVersion:
    query = f"{_SELECT_VERSION} WHERE v.tenant = ? AND v.voice = ? AND v.number = ? AND {_LIVING}"
    in_range = number if 0 < number < 1 << 60 else 0  # SQLite refuses larger integers
    row = db.execute(query, (tenant, clean_name(voice_id), in_range)).fetchone()
    if row is None:
        _find_voice(db, tenant, voice_id)
        raise NotFound("version_not_found", voice=voice_id[:80], version=number)
    return _version(row)


def _create(db: sqlite3.Connection, tenant: str, new: NewVoice) -> Voice:
    old = db.execute("SELECT deleted_at FROM voices WHERE tenant = ? AND id = ?", (tenant, new.id)).fetchone()
    if old is not None and old["deleted_at"] is None:
        raise Conflict("voice_exists", voice=new.id)
    used = "SELECT coalesce(max(number), 0) + 1 AS next FROM voice_versions WHERE tenant = ? AND voice = ?"
    first_number = db.execute(used, (tenant, new.id)).fetchone()["next"]
    row = {
        "title": new.title or new.id,
        "description": new.description,
        "gender": new.gender,
        "languages": to_json(new.languages),
        "speaker": new.speaker,
        "origin": new.origin,
        "created_at": utc_now(),
        "first_number": first_number,
        "deleted_at": None,
    }
    if old is None:
        insert_row(db, "voices", {"tenant": tenant, "id": new.id, **row})
    else:
        changes = ", ".join(f"{column} = ?" for column in row)
        query = f"UPDATE voices SET {changes} WHERE tenant = ? AND id = ?"  # noqa: S608 - the names above
        db.execute(query, (*row.values(), tenant, new.id))
    return _find_voice(db, tenant, new.id)


def _add_version(db: sqlite3.Connection, tenant: str, voice_id: str, new: NewVersion) -> VoiceVersion:
    _find_voice(db, tenant, voice_id)
    used = "SELECT coalesce(max(number), 0) + 1 AS next FROM voice_versions WHERE tenant = ? AND voice = ?"
    number = db.execute(used, (tenant, voice_id)).fetchone()["next"]
    row = {
        "tenant": tenant,
        "voice": voice_id,
        "number": number,
        "engine": new.engine,
        "files": to_json(dict(new.files)),
        "settings": to_json(new.settings),
        "metrics": to_json(new.metrics),
        "lineage": to_json(new.lineage),
        "created_at": utc_now(),
    }
    insert_row(db, "voice_versions", row)
    return _find_version(db, tenant, voice_id, number)


def _before(db: sqlite3.Connection, tenant: str, name: str, current: int) -> int | None:
    """What spoke before `current` was promoted last; a living version, or None."""
    row = db.execute(f"{_SELECT_BEFORE} AND {_LIVING} {_LAST}", (tenant, name, current, ROLLBACK)).fetchone()
    return None if row is None else int(row["from_number"])


def _move_alias(db: sqlite3.Connection, tenant: str, name: str, number: int | None, why: _Why) -> None:
    old = db.execute("SELECT number FROM aliases WHERE tenant = ? AND name = ?", (tenant, name)).fetchone()
    before, now = None if old is None else old["number"], utc_now()
    if before == number:
        return
    if number is None:
        db.execute("DELETE FROM aliases WHERE tenant = ? AND name = ?", (tenant, name))
    else:
        db.execute(
            "INSERT INTO aliases (tenant, name, voice, number, moved_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (tenant, name) DO UPDATE SET number = excluded.number, moved_at = excluded.moved_at",
            (tenant, name, name, number, now),
        )
    row = {
        "tenant": tenant,
        "name": name,
        "voice": name,
        "from_number": before,
        "to_number": number,
        "reason": why.reason,
        "kind": why.kind,
        "actor": why.actor,
        "moved_at": now,
    }
    insert_row(db, "alias_moves", row)


def _voice(row: sqlite3.Row) -> Voice:
    return Voice(
        tenant=row["tenant"],
        id=row["id"],
        title=row["title"],
        description=row["description"],
        gender=row["gender"],
        languages=tuple(json.loads(row["languages"])),
        created_at=row["created_at"],
        current=row["current"],
        speaker=row["speaker"],
        origin=row["origin"],
        latest=row["latest"],
    )


def _version(row: sqlite3.Row) -> VoiceVersion:
    return VoiceVersion(
        tenant=row["tenant"],
        voice=row["voice"],
        number=row["number"],
        engine=row["engine"],
        files=json.loads(row["files"]),
        settings=json.loads(row["settings"]),
        metrics=json.loads(row["metrics"]),
        lineage=json.loads(row["lineage"]),
        created_at=row["created_at"],
        owner=None if row["origin"] == "starter" else owner_of(row["tenant"], row["speaker"], VOICE, row["voice"]),
    )


def _alias_move(row: sqlite3.Row) -> AliasMove:
    columns = ("name", "voice", "from_number", "to_number", "reason", "moved_at", "kind", "actor")
    return AliasMove(**{column: row[column] for column in columns})
