"""Renditions: finished lines, kept with the voice version, text and seed that made them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from appliance.database import Database, insert_row, utc_now
from appliance.errors import NotFound
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.voices.blobs import BlobStore
from appliance.voices.records import NewRendition, Rendition, clean_name, new_id, to_json


class RenditionStore:
    """Every query is scoped by tenant."""

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db = db
        self._blobs = blobs

    async def add(self, tenant: str, new: NewRendition) -> Rendition:
        """File a rendered line; adding an id again gives what was filed first. Raises StorageFull."""
        put = self._blobs.put_file if isinstance(new.source, Path) else self._blobs.put_bytes
        sha256 = await asyncio.to_thread(put, new.source, new.owner)  # type: ignore[arg-type]
        return await self._db.write(lambda db: _insert(db, tenant, new, sha256))

    async def get(self, tenant: str, rendition_id: str) -> Rendition:
        """Raises NotFound("rendition_not_found")."""
        return await self._db.read(lambda db: _find(db, tenant, rendition_id))

    async def get_present(self, tenant: str, rendition_id: str) -> Rendition:
        """The rendition, if its sound is on the disk. Raises NotFound (rendition_not_found, blob_not_found)."""
        rendition = await self.get(tenant, rendition_id)
        await asyncio.to_thread(self._blobs.require, rendition.sha256)
        return rendition

    async def held(self, tenant: str, digests: Sequence[str]) -> frozenset[str]:
        """Those of these files that are sounds of the tenant's renditions."""
        query = "SELECT sha256 FROM renditions WHERE tenant = ? AND sha256 IN (SELECT value FROM json_each(?))"
        rows = await self._db.read(lambda db: db.execute(query, (tenant, json.dumps(list(digests)))).fetchall())
        return frozenset(row["sha256"] for row in rows)

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Rendition]:
        """Newest first."""
        listing = Listing("SELECT * FROM renditions", "tenant = ?", (tenant,), ("created_at", "id"), is_descending=True)
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _rendition))

    async def path(self, rendition: Rendition) -> Path:
        """A file with its sound. Raises as `BlobStore.path`."""
        return await asyncio.to_thread(self._blobs.path, rendition.sha256)


def _insert(db: sqlite3.Connection, tenant: str, new: NewRendition, sha256: str) -> Rendition:
    rendition_id = new.id or new_id("rnd")
    row = {
        "tenant": tenant,
        "id": rendition_id,
        "sha256": sha256,
        "voice": new.voice,
        "number": new.number,
        "text": new.text,
        "language": new.language,
        "seed": new.seed,
        "settings": to_json(new.settings),
        "marks": to_json(new.marks),
        "duration_s": float(new.duration_s),
        "created_at": utc_now(),
    }
    insert_row(db, "renditions", row, or_ignore=True)
    return _find(db, tenant, rendition_id)


def _find(db: sqlite3.Connection, tenant: str, rendition_id: str) -> Rendition:
    row = db.execute(
        "SELECT * FROM renditions WHERE tenant = ? AND id = ?", (tenant, clean_name(rendition_id))
    ).fetchone()
    if row is None:
        raise NotFound("rendition_not_found", rendition=clean_name(rendition_id)[:80])
    return _rendition(row)


def _rendition(row: sqlite3.Row) -> Rendition:
    return Rendition(
        tenant=row["tenant"],
        id=row["id"],
        sha256=row["sha256"],
        voice=row["voice"],
        number=row["number"],
        text=row["text"],
        language=row["language"],
        seed=row["seed"],
        settings=json.loads(row["settings"]),
        marks=json.loads(row["marks"]),
        duration_s=row["duration_s"],
        created_at=row["created_at"],
    )
