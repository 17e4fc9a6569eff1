"""Imported models: weights and configuration by digest, where they came from, and what was found in them.

The store knows nothing of engines: kind and version are words of whoever read the file.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Conflict, Corrupt, InvalidInput, NotFound, VoicedError
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.voices.blobs import BlobStore
from appliance.voices.records import clean_name, to_json
from appliance.voices.sounds import is_needed


@dataclass(frozen=True)
class NewModel:
    """A converted model on its way in. `files` are read, never moved."""

    name: str  # for people: stem of the file, or name of the folder
    kind: str
    version: str
    files: Mapping[str, Path]  # role ("weights", "config") -> file
    source_name: str
    source_sha256: str
    source_bytes: int
    licence: str = ""  # SPDX where known; empty: nobody said
    info: str = ""
    report: JsonDict = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """One imported model; it never changes. Its id follows from its content: importing it again finds it."""

    tenant: str
    id: str
    name: str
    kind: str
    version: str
    files: Mapping[str, str]  # role -> sha256
    source_name: str
    source_sha256: str
    source_bytes: int
    licence: str
    info: str
    report: JsonDict
    created_at: str

    def as_json(self) -> JsonDict:
        return {key: value for key, value in asdict(self).items() if key != "tenant"}


class ModelStore:
    """Every query is scoped by tenant."""

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db = db
        self._blobs = blobs
        self._files = asyncio.Lock()  # filing and removing the same weights must not cross

    async def add_all(self, tenant: str, models: Sequence[NewModel]) -> tuple[Model, ...]:
        """File all of them or none. What is there already stays as it is. Raises StorageFull."""
        async with self._files:
            digests = [
                {role: await asyncio.to_thread(self._blobs.put_file, path) for role, path in model.files.items()}
                for model in models
            ]

            def insert(db: sqlite3.Connection) -> tuple[Model, ...]:
                return tuple(_insert(db, tenant, new, files) for new, files in zip(models, digests, strict=True))

            return await self._db.write(insert, durable=True)

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Model]:
        """Newest first."""
        where, key = "tenant = ? AND removed_at IS NULL", ("created_at", "id")
        listing = Listing("SELECT * FROM models", where, (tenant,), key, is_descending=True)
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _model))

    async def get(self, tenant: str, spec: str) -> Model:
        """By id, or by its name or its file's where only one is called so.

        Raises NotFound("model_not_imported"), InvalidInput("model_ambiguous").
        """
        return await self._db.read(lambda db: _find(db, tenant, spec))

    async def newest(self, tenant: str, kind: str) -> Model | None:
        """The model of `kind` that was imported last; None without one."""
        query = "SELECT * FROM models WHERE tenant = ? AND kind = ? AND removed_at IS NULL ORDER BY created_at DESC, id"
        row = await self._db.read(lambda db: db.execute(query, (tenant, kind)).fetchone())
        return None if row is None else _model(row)

    async def verify(self, tenant: str, spec: str) -> Model:
        """Read every byte again. Raises Corrupt("model_corrupt") when one has changed or a file is gone."""
        model = await self.get(tenant, spec)
        for role, digest in model.files.items():
            try:
                await asyncio.to_thread(self._blobs.verify, digest)
            except VoicedError as error:
                raise Corrupt("model_corrupt", model=model.id, name=model.name, role=role, digest=digest) from error
        return model

    async def remove(self, tenant: str, spec: str) -> Model:
        """Forget a model, and its bytes where nothing else needs them.

        Raises NotFound("model_not_imported"), Conflict("model_in_use") while a voice version needs it.
        """
        async with self._files:

            def mark(db: sqlite3.Connection) -> tuple[Model, list[str]]:
                model = _find(db, tenant, spec)
                users = _users(db, tenant, model)
                if users:
                    raise Conflict("model_in_use", model=model.name, voices=", ".join(users[:10]))
                row = (utc_now(), tenant, model.id)
                db.execute("UPDATE models SET removed_at = ? WHERE tenant = ? AND id = ?", row)
                return model, [digest for digest in model.files.values() if not is_needed(db, tenant, (), digest)]

            model, useless = await self._db.write(mark, durable=True)
            for digest in useless:
                await asyncio.to_thread(self._blobs.remove, digest)
            return model


def _insert(db: sqlite3.Connection, tenant: str, new: NewModel, files: Mapping[str, str]) -> Model:
    model_id = f"mdl_{hashlib.sha256(to_json([new.kind, new.version, dict(files)]).encode()).hexdigest()[:16]}"
    row = {
        "name": clean_name(new.name),
        "kind": new.kind,
        "version": new.version,
        "files": to_json(dict(files)),
        "source_name": clean_name(new.source_name),
        "source_sha256": new.source_sha256,
        "source_bytes": new.source_bytes,
        "licence": new.licence,
        "info": clean_name(new.info),
        "report": to_json(new.report),
        "created_at": utc_now(),
    }
    known = "SELECT removed_at FROM models WHERE tenant = ? AND id = ?"
    old = db.execute(known, (tenant, model_id)).fetchone()
    if old is not None and old["removed_at"] is not None:
        db.execute("DELETE FROM models WHERE tenant = ? AND id = ?", (tenant, model_id))
    if old is None or old["removed_at"] is not None:
        insert_row(db, "models", {"tenant": tenant, "id": model_id, **row})
    return _find(db, tenant, model_id)


def _find(db: sqlite3.Connection, tenant: str, spec: str) -> Model:
    spec = clean_name(spec)
    query = """
        SELECT * FROM models WHERE tenant = ? AND removed_at IS NULL AND (id = ? OR name = ? OR source_name = ?)
        ORDER BY id = ? DESC"""
    rows = db.execute(query, (tenant, spec, spec, spec, spec)).fetchall()
    if not rows:
        raise NotFound("model_not_imported", model=spec[:80])
    if len(rows) > 1 and rows[0]["id"] != spec:
        raise InvalidInput("model_ambiguous", model=spec[:80], ids=", ".join(row["id"] for row in rows))
    return _model(rows[0])


def _users(db: sqlite3.Connection, tenant: str, model: Model) -> list[str]:
    """Versions of living voices that speak with these weights: "anna@3"."""
    query = """
        SELECT v.voice, v.number FROM voice_versions AS v
        JOIN voices ON voices.tenant = v.tenant AND voices.id = v.voice
        JOIN json_each(v.files) AS file
        WHERE v.tenant = ? AND file.value = ? AND voices.deleted_at IS NULL AND v.number >= voices.first_number
        ORDER BY v.voice, v.number"""
    return [f"{row['voice']}@{row['number']}" for row in db.execute(query, (tenant, model.files["weights"]))]


def _model(row: sqlite3.Row) -> Model:
    plain = ("tenant", "id", "name", "kind", "version", "source_name", "source_sha256", "source_bytes")
    return Model(
        **{column: row[column] for column in (*plain, "licence", "info", "created_at")},
        files=json.loads(row["files"]),
        report=json.loads(row["report"]),
    )
