"""Statements that the box asks a speaker to say aloud: the words of a consent and a number nobody could know before."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Forbidden, NotFound
from appliance.messages import text
from appliance.voices.records import clean_name, new_id, to_json

DIGITS = 6
VALID = timedelta(minutes=10)
MAX_ATTEMPTS = 5


@dataclass(frozen=True)
class Challenge:
    """A statement that waits to be said."""

    tenant: str
    id: str
    speaker: str
    voice: str
    purposes: tuple[str, ...]
    language: str  # "en" or "zh"
    digits: str
    statement: str
    expires_at: str | None  # of the consent
    valid_until: str  # of the number

    def as_json(self) -> JsonDict:
        told = ("id", "speaker", "voice", "language", "statement", "expires_at", "valid_until")
        return {name: getattr(self, name) for name in told} | {"purposes": list(self.purposes)}


class ChallengeStore:
    """Every query is scoped by tenant. A challenge counts once, for ten minutes and five attempts."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def make(
        self, tenant: str, speaker: str, voice: str, purposes: Sequence[str], language: str, expires_at: str | None
    ) -> Challenge:
        digits = "".join(secrets.choice("0123456789") for _ in range(DIGITS))
        valid_until = (datetime.now(UTC) + VALID).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        row = {
            "tenant": tenant,
            "id": new_id("say"),
            "speaker": speaker,
            "voice": voice,
            "purposes": to_json(sorted(set(purposes))),
            "language": language,
            "digits": digits,
            "statement": _statement(speaker, purposes, language, digits),
            "expires_at": expires_at,
            "valid_until": valid_until,
        }

        def insert(db: sqlite3.Connection) -> Challenge:
            insert_row(db, "consent_challenges", row)
            return _find(db, tenant, row["id"] or "")

        return await self._db.write(insert, durable=True)

    async def attempt(self, tenant: str, challenge_id: str) -> Challenge:
        """Count an attempt. Raises NotFound("challenge_not_found"), Forbidden("challenge_over")."""

        def count(db: sqlite3.Connection) -> Challenge:
            challenge = _find(db, tenant, challenge_id)
            where = "tenant = ? AND id = ? AND used_at IS NULL AND attempts < ? AND valid_until > ?"
            query = f"UPDATE consent_challenges SET attempts = attempts + 1 WHERE {where}"  # noqa: S608 - the line above
            if not db.execute(query, (tenant, challenge.id, MAX_ATTEMPTS, utc_now())).rowcount:
                raise Forbidden("challenge_over", attempts=MAX_ATTEMPTS, minutes=int(VALID.total_seconds() // 60))
            return challenge

        return await self._db.write(count, durable=True)

    async def use(self, challenge: Challenge) -> None:
        """It has been said; a second one needs another number. Raises Forbidden("challenge_over")."""

        def mark(db: sqlite3.Connection) -> None:
            row = (utc_now(), challenge.tenant, challenge.id)
            query = "UPDATE consent_challenges SET used_at = ? WHERE tenant = ? AND id = ? AND used_at IS NULL"
            if not db.execute(query, row).rowcount:
                raise Forbidden("challenge_over", attempts=MAX_ATTEMPTS, minutes=int(VALID.total_seconds() // 60))

        await self._db.write(mark, durable=True)


def _statement(speaker: str, purposes: Sequence[str], language: str, digits: str) -> str:
    listed = ("、" if language == "zh" else ", ").join(
        text(f"purpose.{one}", language) for one in sorted(set(purposes))
    )
    spoken = f"{' '.join(digits[:3])}, {' '.join(digits[3:])}"
    return text("consent.statement", language, speaker=speaker, purposes=listed, number=spoken)


def _find(db: sqlite3.Connection, tenant: str, challenge_id: str) -> Challenge:
    query = "SELECT * FROM consent_challenges WHERE tenant = ? AND id = ?"
    row = db.execute(query, (tenant, clean_name(challenge_id))).fetchone()
    if row is None:
        raise NotFound("challenge_not_found", challenge=clean_name(challenge_id)[:80])
    fields = {name: row[name] for name in Challenge.__dataclass_fields__}
    return Challenge(**fields | {"purposes": tuple(json.loads(row["purposes"]))})
