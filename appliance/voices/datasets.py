"""Datasets: the clips that one training run saw, immutable and named by the digest over them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import NotFound
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.voices.records import Dataset, clean_name, new_id, to_json


def digest_of_clips(clips: Sequence[JsonDict]) -> str:
    """SHA-256 over the clips' records in order, independent of how their keys are ordered."""
    return hashlib.sha256(to_json(list(clips)).encode()).hexdigest()


class DatasetStore:
    """Every query is scoped by tenant."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, tenant: str, clips: Sequence[JsonDict], stats: JsonDict) -> Dataset:
        """File a dataset; the same clips give the dataset that is there."""
        digest = digest_of_clips(clips)

        def insert(db: sqlite3.Connection) -> Dataset:
            content = {"digest": digest, "clips": to_json(list(clips)), "stats": to_json(stats)}
            row = {"tenant": tenant, "id": new_id("ds"), **content, "created_at": utc_now()}
            insert_row(db, "datasets", row, or_ignore=True)
            query = "SELECT * FROM datasets WHERE tenant = ? AND digest = ?"
            return _dataset(db.execute(query, (tenant, digest)).fetchone())

        return await self._db.write(insert, durable=True)

    async def get(self, tenant: str, dataset_id: str) -> Dataset:
        """Raises NotFound("dataset_not_found")."""
        query = "SELECT * FROM datasets WHERE tenant = ? AND id = ?"
        row = await self._db.read(lambda db: db.execute(query, (tenant, clean_name(dataset_id))).fetchone())
        if row is None:
            raise NotFound("dataset_not_found", dataset=clean_name(dataset_id)[:80])
        return _dataset(row)

    async def survey(self, tenant: str, dataset_id: str) -> JsonDict | None:
        """What was found out about it once, or None."""
        query = "SELECT survey FROM dataset_surveys WHERE tenant = ? AND dataset = ?"
        row = await self._db.read(lambda db: db.execute(query, (tenant, dataset_id)).fetchone())
        return None if row is None else dict(json.loads(row["survey"]))

    async def keep_survey(self, tenant: str, dataset_id: str, survey: JsonDict) -> JsonDict:
        """File it; of two the first stays."""
        row = {"tenant": tenant, "dataset": dataset_id, "survey": to_json(survey), "created_at": utc_now()}
        await self._db.write(lambda db: insert_row(db, "dataset_surveys", row, or_ignore=True))
        return survey

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Dataset]:
        """Newest first."""
        listing = Listing("SELECT * FROM datasets", "tenant = ?", (tenant,), ("created_at", "id"), is_descending=True)
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _dataset))


def _dataset(row: sqlite3.Row) -> Dataset:
    return Dataset(
        tenant=row["tenant"],
        id=row["id"],
        digest=row["digest"],
        clips=tuple(json.loads(row["clips"])),
        stats=json.loads(row["stats"]),
        created_at=row["created_at"],
    )
