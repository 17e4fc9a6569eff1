"""Datasets: the clips that one training run saw, immutable and named by the digest over them.

What the clips say is encrypted under the keys of their speakers: it ends with them, though the row stays.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import NotFound
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.vault.room import Vault
from appliance.voices.recordings import open_transcript, owner_of_recording, seal_transcript
from appliance.voices.records import Dataset, clean_name, new_id, to_json


def digest_of_clips(clips: Sequence[JsonDict]) -> str:
    """SHA-256 over the clips' records in order, independent of how their keys are ordered."""
    return hashlib.sha256(to_json(list(clips)).encode()).hexdigest()


class DatasetStore:
    """Every query is scoped by tenant."""

    def __init__(self, db: Database, vault: Vault | None = None) -> None:
        self._db = db
        self._vault = vault

    async def add(self, tenant: str, clips: Sequence[JsonDict], stats: JsonDict) -> Dataset:
        """File a dataset; the same clips give the dataset that is there."""
        digest = digest_of_clips(clips)

        def insert(db: sqlite3.Connection) -> Dataset:
            sealed = [seal_clip(db, self._vault, tenant, clip) for clip in clips]
            content = {"digest": digest, "clips": to_json(sealed), "stats": to_json(stats)}
            row = {"tenant": tenant, "id": new_id("ds"), **content, "created_at": utc_now()}
            insert_row(db, "datasets", row, or_ignore=True)
            query = "SELECT * FROM datasets WHERE tenant = ? AND digest = ?"
            return self._shown(db.execute(query, (tenant, digest)).fetchone())

        return await self._db.write(insert, durable=True)

    async def get(self, tenant: str, dataset_id: str) -> Dataset:
        """Raises NotFound("dataset_not_found")."""
        query = "SELECT * FROM datasets WHERE tenant = ? AND id = ?"
        found = await self._db.read(
            lambda db: [self._shown(row) for row in db.execute(query, (tenant, clean_name(dataset_id)))]
        )
        if not found:
            raise NotFound("dataset_not_found", dataset=clean_name(dataset_id)[:80])
        return found[0]

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
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, self._shown))

    def _shown(self, row: sqlite3.Row) -> Dataset:
        return Dataset(
            tenant=row["tenant"],
            id=row["id"],
            digest=row["digest"],
            clips=tuple(open_clip(self._vault, clip) for clip in json.loads(row["clips"])),
            stats=json.loads(row["stats"]),
            created_at=row["created_at"],
        )


def seal_clip(db: sqlite3.Connection, vault: Vault | None, tenant: str, clip: JsonDict) -> JsonDict:
    """A clip as it is stored; its speaker is the recording's."""
    query = "SELECT speaker FROM recordings WHERE tenant = ? AND id = ?"
    row = db.execute(query, (tenant, clip["recording"])).fetchone()
    owner = owner_of_recording(tenant, row["speaker"] if row else "", clip["recording"])
    return {**clip, "transcript": seal_transcript(vault, clip["transcript"], owner, clip["recording"])}


def open_clip(vault: Vault | None, clip: JsonDict) -> JsonDict:
    """A clip as it was; without words where the speaker was erased. Raises Corrupt, Unavailable."""
    return {**clip, "transcript": open_transcript(vault, clip["transcript"], clip["recording"])}
