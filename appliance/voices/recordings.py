"""Recordings: the sound as it was captured, the verdict on it, and what it says.

Sound and words are encrypted under the speaker's key; of a recording whose speaker nobody named, under its own.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import InvalidInput, NotFound
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.vault.keys import RECORDING, Owner, owner_of
from appliance.vault.room import Vault
from appliance.vault.values import open_text, seal_text
from appliance.voices.blobs import BlobStore
from appliance.voices.records import NewRecording, Recording, clean_name, new_id, report_as_json, to_json
from appliance.voices.sounds import is_needed

MAX_TRANSCRIPT = 20_000  # characters; ten minutes of speech are about half of it
_SOURCES = ("", "given", "asr", "prompt")


class RecordingStore:
    """Every query is scoped by tenant."""

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db = db
        self.blobs = blobs
        self._files = asyncio.Lock()  # filing and erasing the same sound must not cross

    async def add(self, tenant: str, new: NewRecording) -> Recording:
        """File the sound untouched, and the row. Raises InvalidInput("transcript_invalid"), StorageFull."""
        _check_transcript(new.transcript, new.transcript_source)
        put = self.blobs.put_file if isinstance(new.source, Path) else self.blobs.put_bytes
        recording_id = new_id("rec")
        owner = owner_of_recording(tenant, new.speaker, recording_id)
        async with self._files:
            sha256 = await asyncio.to_thread(put, new.source, owner)  # type: ignore[arg-type]
            words = await asyncio.to_thread(seal_transcript, self.blobs.vault, new.transcript, owner, recording_id)
            row = _new_row(tenant, recording_id, replace(new, transcript=words), sha256)

            def insert(db: sqlite3.Connection) -> Recording:
                _insert(db, row)
                return self._find(db, tenant, recording_id)

            return await self._db.write(insert, durable=True)

    async def get(self, tenant: str, recording_id: str) -> Recording:
        """Raises NotFound("recording_not_found")."""
        return await self._db.read(lambda db: self._find(db, tenant, recording_id))

    async def get_many(self, tenant: str, recording_ids: Sequence[str]) -> tuple[Recording, ...]:
        """In the order asked for. Raises NotFound("recording_not_found") for the first that is not there."""
        return await self._db.read(lambda db: tuple(self._find(db, tenant, one) for one in recording_ids))

    async def derived_from(self, tenant: str, recording_id: str) -> tuple[Recording, ...]:
        """The living clips that were cut or cleaned from it, in the order they were filed."""
        query = (
            "SELECT * FROM recordings WHERE tenant = ? AND json_extract(lineage, '$.recording') = ?"
            " AND deleted_at IS NULL ORDER BY rowid"
        )
        rows = (tenant, recording_id)
        return await self._db.read(lambda db: tuple(self._shown(row) for row in db.execute(query, rows)))

    async def measures(self, tenant: str, recording_ids: Sequence[str]) -> dict[str, JsonDict]:
        """What the check measured, by id, of erased recordings too; unknown ids are left out."""
        query = "SELECT id, report FROM recordings WHERE tenant = ? AND id = ?"

        def select(db: sqlite3.Connection) -> dict[str, JsonDict]:
            rows = (db.execute(query, (tenant, one)).fetchone() for one in recording_ids)
            return {row["id"]: json.loads(row["report"]).get("measures", {}) for row in rows if row is not None}

        return await self._db.read(select)

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Recording]:
        """Newest first."""
        where = "tenant = ? AND deleted_at IS NULL"
        listing = Listing("SELECT * FROM recordings", where, (tenant,), ("created_at", "id"), is_descending=True)
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, self._shown))

    async def set_transcript(
        self, tenant: str, recording_id: str, text: str, language: str, *, source: str = "given"
    ) -> Recording:
        """Correct what the recording says. Raises NotFound, InvalidInput("transcript_invalid")."""
        _check_transcript(text, source)

        def update(db: sqlite3.Connection) -> Recording:
            known = self._find(db, tenant, recording_id)
            owner = owner_of_recording(tenant, known.speaker, recording_id)
            words = seal_transcript(self.blobs.vault, text, owner, recording_id)
            db.execute(
                "UPDATE recordings SET transcript = ?, language = ?, transcript_source = ? WHERE tenant = ? AND id = ?",
                (words, language, source, tenant, recording_id),
            )
            return self._find(db, tenant, recording_id)

        return await self._db.write(update)

    async def delete(self, tenant: str, recording_id: str) -> None:
        """Erase the words, and the sound unless another recording has the same one; the row stays as a gravestone.

        Voice versions made from it stay. Raises NotFound("recording_not_found").
        """
        async with self._files:
            recording = await self.get(tenant, recording_id)
            orphan = await self._db.write(lambda db: _bury(db, recording), durable=True)
            if orphan:
                await asyncio.to_thread(self.blobs.remove, orphan)
            if self.blobs.vault is not None and not recording.speaker:
                await asyncio.to_thread(self.blobs.vault.keys.destroy, [Owner(tenant, RECORDING, recording.id)])

    async def path(self, recording: Recording) -> Path:
        """A file with its sound. Raises as `BlobStore.path`: NotFound (blob_not_found, erased), Corrupt, …"""
        return await asyncio.to_thread(self.blobs.path, recording.sha256)

    def _find(self, db: sqlite3.Connection, tenant: str, recording_id: str) -> Recording:
        query = "SELECT * FROM recordings WHERE tenant = ? AND id = ? AND deleted_at IS NULL"
        row = db.execute(query, (tenant, clean_name(recording_id))).fetchone()
        if row is None:
            raise NotFound("recording_not_found", recording=clean_name(recording_id)[:80])
        return self._shown(row)

    def _shown(self, row: sqlite3.Row) -> Recording:
        """Opens the words: in a thread of the database."""
        return replace(_recording(row), transcript=open_transcript(self.blobs.vault, row["transcript"], row["id"]))


def owner_of_recording(tenant: str, speaker: str, recording_id: str) -> Owner:
    return owner_of(tenant, speaker, RECORDING, recording_id)


def seal_transcript(vault: Vault | None, words: str, owner: Owner, recording_id: str) -> str:
    """What a recording says, as it is stored in any table."""
    return seal_text(vault, words, owner, f"transcript {recording_id}")


def open_transcript(vault: Vault | None, stored: str, recording_id: str) -> str:
    """The words; empty where the speaker was erased. Raises Corrupt, Unavailable."""
    return open_text(vault, stored, f"transcript {recording_id}")


def _check_transcript(text: str, source: str) -> None:
    is_writable = not any("\ud800" <= character <= "\udfff" or character == "\0" for character in text)
    if len(text) > MAX_TRANSCRIPT or source not in _SOURCES or not is_writable:
        raise InvalidInput("transcript_invalid", characters=len(text), most=MAX_TRANSCRIPT)


def _safe_name(filename: str) -> str:
    """The last part of a file name, printable and short; it is shown, never opened."""
    last = PurePosixPath(filename.replace("\\", "/")).name
    return "".join(character for character in last if character.isprintable())[:200] or "recording"


def _insert(db: sqlite3.Connection, row: JsonDict) -> None:
    if row["speaker"]:
        speaker = {"tenant": row["tenant"], "id": row["speaker"], "name": row["speaker"]}
        insert_row(db, "speakers", {**speaker, "created_at": row["created_at"]}, or_ignore=True)
    insert_row(db, "recordings", row)


def _new_row(tenant: str, recording_id: str, new: NewRecording, sha256: str) -> JsonDict:
    return {
        "tenant": tenant,
        "id": recording_id,
        "sha256": sha256,
        "filename": _safe_name(new.filename),
        "duration_s": float(new.duration_s),
        "sample_rate": int(new.sample_rate),
        "accepted": int(new.report.accepted),
        "report": to_json(report_as_json(new.report)),
        "transcript": new.transcript,
        "language": new.language,
        "transcript_source": new.transcript_source,
        "speaker": new.speaker,
        "lineage": to_json(new.lineage),
        "session": new.session,
        "prompt": new.prompt,
        "created_at": utc_now(),
    }


def _bury(db: sqlite3.Connection, recording: Recording) -> str:
    """Mark the row; returns the digest of its sound when no living row needs it, else ""."""
    sha256, key = recording.sha256, (recording.tenant, recording.id)
    query = "UPDATE recordings SET deleted_at = ?, transcript = '' WHERE tenant = ? AND id = ? AND deleted_at IS NULL"
    if not db.execute(query, (utc_now(), *key)).rowcount:
        raise NotFound("recording_not_found", recording=recording.id)
    return "" if is_needed(db, recording.tenant, (), sha256) else sha256


def _recording(row: sqlite3.Row) -> Recording:
    return Recording(
        tenant=row["tenant"],
        id=row["id"],
        sha256=row["sha256"],
        filename=row["filename"],
        duration_s=row["duration_s"],
        sample_rate=row["sample_rate"],
        accepted=bool(row["accepted"]),
        report=json.loads(row["report"]),
        transcript=row["transcript"],
        language=row["language"],
        transcript_source=row["transcript_source"],
        speaker=row["speaker"],
        created_at=row["created_at"],
        lineage=json.loads(row["lineage"]),
        session=row["session"],
        prompt=row["prompt"],
    )
