"""Recording sessions: one speaker reads one sheet. How far it is follows from its recordings: it can go on any time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import InvalidInput, NotFound
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.voices.records import clean_name, new_id, to_json

MOST_NAME = 100


@dataclass(frozen=True)
class RecordingSession:
    """A sheet of prompts and which of them are read."""

    tenant: str
    id: str
    speaker: str
    language: str
    sheet: str
    prompts: tuple[JsonDict, ...]  # id, language, text, seconds; as they were when the session began
    recorded: dict[str, str]  # prompt id -> id of its newest accepted recording
    created_at: str

    @property
    def next(self) -> JsonDict | None:
        """The first prompt without a recording; None: all are read."""
        return next((prompt for prompt in self.prompts if prompt["id"] not in self.recorded), None)

    def as_json(self) -> JsonDict:
        prompts = [{**prompt, "recording": self.recorded.get(prompt["id"])} for prompt in self.prompts]
        return {
            "id": self.id,
            "speaker": self.speaker,
            "language": self.language,
            "sheet": self.sheet,
            "prompts": prompts,
            "recordings": [prompt["recording"] for prompt in prompts if prompt["recording"]],
            "next": self.next,
            "is_complete": self.next is None,
            "created_at": self.created_at,
        }


class SessionStore:
    """Every query is scoped by tenant."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(
        self, tenant: str, speaker: str, language: str, sheet: str, prompts: Sequence[JsonDict]
    ) -> RecordingSession:
        """Raises InvalidInput("session_speaker_missing")."""
        name = clean_name(speaker).strip()[:MOST_NAME]
        if not name:
            raise InvalidInput("session_speaker_missing")
        row = {"tenant": tenant, "id": new_id("ses"), "speaker": name, "language": language, "sheet": sheet}
        row |= {"prompts": to_json(list(prompts)), "created_at": utc_now()}

        def insert(db: sqlite3.Connection) -> RecordingSession:
            insert_row(db, "recording_sessions", row)
            return _find(db, tenant, row["id"])

        return await self._db.write(insert, durable=True)

    async def get(self, tenant: str, session_id: str) -> RecordingSession:
        """Raises NotFound("session_not_found")."""
        return await self._db.read(lambda db: _find(db, tenant, session_id))

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[RecordingSession]:
        """Newest first."""
        select, key = "SELECT * FROM recording_sessions", ("created_at", "id")
        listing = Listing(select, "tenant = ?", (tenant,), key, is_descending=True)
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, lambda row: _session(db, row)))


def _find(db: sqlite3.Connection, tenant: str, session_id: str) -> RecordingSession:
    query = "SELECT * FROM recording_sessions WHERE tenant = ? AND id = ?"
    row = db.execute(query, (tenant, clean_name(session_id))).fetchone()
    if row is None:
        raise NotFound("session_not_found", session=clean_name(session_id)[:80])
    return _session(db, row)


def _session(db: sqlite3.Connection, row: sqlite3.Row) -> RecordingSession:
    query = (
        "SELECT prompt, id FROM recordings WHERE tenant = ? AND session = ? AND accepted = 1 AND deleted_at IS NULL"
        " ORDER BY created_at, rowid"
    )
    found = db.execute(query, (row["tenant"], row["id"])).fetchall()
    return RecordingSession(
        tenant=row["tenant"],
        id=row["id"],
        speaker=row["speaker"],
        language=row["language"],
        sheet=row["sheet"],
        prompts=tuple(json.loads(row["prompts"])),
        recorded={one["prompt"]: one["id"] for one in found},
        created_at=row["created_at"],
    )
