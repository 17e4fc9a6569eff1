"""Voiceprints: what the box keeps of the voices in recordings and of voices that must not be cloned; and verdicts."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import InvalidInput, NotFound
from appliance.events import ACTOR, Event, Witness
from appliance.vault.room import Vault
from appliance.vault.values import open_bytes, seal_bytes
from appliance.voices.recordings import owner_of_recording
from appliance.voices.records import clean_name, new_id

Print = NDArray[np.float32]  # (conditions, pieces, width), see `audio.voiceprint`
Prints = dict[str, Print]  # of one voice, by model
_CONDITIONS = 3

WAITING, ALLOWED, DENIED = "waiting", "allowed", "denied"


@dataclass(frozen=True)
class ProtectedVoice:
    """Somebody who must not be cloned on this box, whoever asks."""

    tenant: str  # who enrolled it
    id: str
    name: str
    created_at: str
    pieces: int  # embeddings kept; the sound is not

    def as_json(self) -> JsonDict:
        return asdict(self)


@dataclass(frozen=True)
class Review:
    """A likeness that a person has to judge: may `voice` be made although it resembles `other`?"""

    tenant: str
    id: str
    voice: str
    kind: str  # "protected" | "speaker"
    other: str  # id of the protected voice or of the other speaker
    score: float
    state: str  # "waiting" | "allowed" | "denied"
    created_at: str
    decided_at: str | None
    decided_by: str | None

    def as_json(self) -> JsonDict:
        return asdict(self)


class VoiceprintStore:
    """Prints and reviews are scoped by tenant; a protected voice is so for all, and listed to who enrolled it."""

    def __init__(self, db: Database, witness: Witness, vault: Vault | None = None) -> None:
        self._db = db
        self._witness = witness
        self._vault = vault

    # ------------------------------------------------------------ prints of recordings

    async def save(self, tenant: str, recording: str, model: str, print_: Print) -> None:
        """Keep the print of a recording, encrypted under its speaker's key."""
        row = {"tenant": tenant, "recording": recording, "model": model, **_packed(print_)}

        def insert(db: sqlite3.Connection) -> None:
            sealed = seal_print(db, self._vault, tenant, recording, row["vectors"])
            insert_row(db, "voiceprints", {**row, "vectors": sealed}, or_ignore=True)

        await self._db.write(insert)

    async def of_recordings(self, tenant: str, recordings: Sequence[str]) -> dict[str, Prints]:
        """The prints there are, by recording."""
        query, wanted = "SELECT * FROM voiceprints WHERE tenant = ?", set(recordings)

        def select(db: sqlite3.Connection) -> dict[str, Prints]:
            found: dict[str, dict[str, Print]] = {}
            for row in db.execute(query, (tenant,)):
                if row["recording"] in wanted and (print_ := self._opened(row)) is not None:
                    found.setdefault(row["recording"], {})[row["model"]] = print_
            return dict(found)

        return await self._db.read(select)

    async def of_speakers(self, tenant: str) -> Mapping[str, Prints]:
        """All prints of each named speaker of the tenant, of living recordings."""
        query = (
            "SELECT r.speaker, p.* FROM voiceprints AS p JOIN recordings AS r"
            " ON r.tenant = p.tenant AND r.id = p.recording"
            " WHERE p.tenant = ? AND r.speaker <> '' AND r.deleted_at IS NULL"
        )

        def select(db: sqlite3.Connection) -> dict[str, Prints]:
            found: dict[str, dict[str, dict[str, Print]]] = {}
            for row in db.execute(query, (tenant,)):
                if (print_ := self._opened(row)) is not None:
                    found.setdefault(row["speaker"], {}).setdefault(row["recording"], {})[row["model"]] = print_
            return {speaker: joined(list(recordings.values())) for speaker, recordings in found.items()}

        return await self._db.read(select)

    def _opened(self, row: sqlite3.Row) -> Print | None:
        """None where the speaker was erased. Raises Corrupt, Unavailable."""
        vectors = open_bytes(self._vault, row["vectors"], f"voiceprint {row['recording']}")
        return None if vectors is None else _unpacked({"pieces": row["pieces"], "vectors": vectors})

    async def unheard(self, model: str, limit: int) -> tuple[tuple[str, str], ...]:
        """Tenant and id of living recordings that have a print, but none of this model; the newest first."""
        query = (
            "SELECT r.tenant, r.id FROM recordings AS r WHERE r.deleted_at IS NULL AND r.accepted = 1"
            " AND EXISTS (SELECT 1 FROM voiceprints AS p WHERE p.tenant = r.tenant AND p.recording = r.id)"
            " AND NOT EXISTS (SELECT 1 FROM voiceprints AS p WHERE p.tenant = r.tenant AND p.recording = r.id"
            " AND p.model = ?) ORDER BY r.created_at DESC LIMIT ?"
        )
        rows = await self._db.read(lambda db: db.execute(query, (model, limit)).fetchall())
        return tuple((row["tenant"], row["id"]) for row in rows)

    # ------------------------------------------------------------ protected voices

    async def protect(self, tenant: str, name: str, prints: Prints) -> ProtectedVoice:
        """Enrol a voice nobody may clone, by its prints, that of the shipped model first.

        Raises InvalidInput("protected_name_invalid").
        """
        if not name.strip() or len(name) > 200:
            raise InvalidInput("protected_name_invalid")
        voice_id = new_id("prt")
        (model, first), *others = prints.items()
        row = {"tenant": tenant, "id": voice_id, "name": name.strip(), "model": model, "created_at": utc_now()}
        event = Event(tenant, "protected.add", subject=voice_id)

        def insert(db: sqlite3.Connection) -> ProtectedVoice:
            insert_row(db, "protected_voices", {**row, **_packed(first)})
            for other, print_ in others:
                about = {"tenant": tenant, "voice": voice_id, "model": other}
                insert_row(db, "protected_prints", {**about, **_packed(print_)})
            self._witness(db, event)
            return _find_protected(db, tenant, voice_id)

        return await self._db.write(insert, durable=True)

    async def protected(self, tenant: str) -> tuple[ProtectedVoice, ...]:
        """Those that this tenant enrolled, newest first."""
        query = "SELECT * FROM protected_voices WHERE tenant = ? ORDER BY created_at DESC, id"
        return await self._db.read(lambda db: tuple(_protected(row) for row in db.execute(query, (tenant,))))

    async def unprotect(self, tenant: str, voice_id: str) -> None:
        """Raises NotFound("protected_voice_not_found")."""
        event = Event(tenant, "protected.remove", subject=clean_name(voice_id))

        def delete(db: sqlite3.Connection) -> None:
            found = _find_protected(db, tenant, voice_id)
            db.execute("DELETE FROM protected_voices WHERE tenant = ? AND id = ?", (tenant, found.id))
            db.execute("DELETE FROM protected_prints WHERE tenant = ? AND voice = ?", (tenant, found.id))
            self._witness(db, event)

        await self._db.write(delete, durable=True)

    async def all_protected(self) -> dict[str, Prints]:
        """The prints that every clone on the box is held against, by id."""
        query = (
            "SELECT id, model, pieces, vectors FROM protected_voices"
            " UNION ALL SELECT voice, model, pieces, vectors FROM protected_prints"
        )
        found: dict[str, Prints] = {}
        for row in await self._db.read(lambda db: db.execute(query).fetchall()):
            found.setdefault(row["id"], {})[row["model"]] = _unpacked(row)
        return found

    # ------------------------------------------------------------ reviews

    async def ask(self, tenant: str, voice: str, kind: str, other: str, score: float) -> Review:
        """The review of this likeness: the one there is, whatever became of it, or a new one that waits."""
        about = (tenant, voice, kind, other)

        def find_or_insert(db: sqlite3.Connection) -> Review:
            query = "SELECT * FROM gate_reviews WHERE tenant = ? AND voice = ? AND kind = ? AND other = ?"
            known = db.execute(query, about).fetchone()
            if known is None:
                row: JsonDict = dict(zip(("tenant", "voice", "kind", "other"), about, strict=True))
                row |= {"id": new_id("rev"), "score": score, "state": WAITING, "created_at": utc_now()}
                insert_row(db, "gate_reviews", row)
                known = db.execute(query, about).fetchone()
            return Review(**dict(known))

        return await self._db.write(find_or_insert, durable=True)

    async def reviews(self, tenant: str) -> tuple[Review, ...]:
        """Newest first."""
        query = "SELECT * FROM gate_reviews WHERE tenant = ? ORDER BY created_at DESC, id"
        return await self._db.read(lambda db: tuple(Review(**dict(row)) for row in db.execute(query, (tenant,))))

    async def decide(self, tenant: str, review_id: str, *, is_allowed: bool) -> Review:
        """What a person decided, who may think again. Raises NotFound("review_not_found")."""
        state, actor = ALLOWED if is_allowed else DENIED, ACTOR.get()
        event = Event(tenant, "gate.review", subject=clean_name(review_id), details={"decision": state})

        def update(db: sqlite3.Connection) -> Review:
            row = (state, utc_now(), actor, tenant, clean_name(review_id))
            query = "UPDATE gate_reviews SET state = ?, decided_at = ?, decided_by = ? WHERE tenant = ? AND id = ?"
            if db.execute(query, row).rowcount == 0:
                raise NotFound("review_not_found", review=clean_name(review_id)[:80])
            self._witness(db, event)
            found = "SELECT * FROM gate_reviews WHERE tenant = ? AND id = ?"
            return Review(**dict(db.execute(found, row[3:]).fetchone()))

        return await self._db.write(update, durable=True)


def joined(recordings: Sequence[Prints]) -> Prints:
    """The prints of one voice from several recordings. A model that has not heard all of them says nothing."""
    models = set.intersection(*(set(prints) for prints in recordings)) if recordings else set()
    return {model: np.concatenate([prints[model] for prints in recordings], axis=1) for model in sorted(models)}


def seal_print(db: sqlite3.Connection, vault: Vault | None, tenant: str, recording: str, vectors: bytes) -> bytes:
    """The vectors as they are stored."""
    query = "SELECT speaker FROM recordings WHERE tenant = ? AND id = ?"
    row = db.execute(query, (tenant, recording)).fetchone()
    owner = owner_of_recording(tenant, row["speaker"] if row else "", recording)
    return seal_bytes(vault, vectors, owner, f"voiceprint {recording}")


def _packed(print_: Print) -> JsonDict:
    return {"pieces": print_.shape[1], "vectors": np.ascontiguousarray(print_, "<f4").tobytes()}


def _unpacked(row: sqlite3.Row | JsonDict) -> Print:
    return np.frombuffer(row["vectors"], "<f4").reshape(_CONDITIONS, row["pieces"], -1)


def _find_protected(db: sqlite3.Connection, tenant: str, voice_id: str) -> ProtectedVoice:
    query = "SELECT * FROM protected_voices WHERE tenant = ? AND id = ?"
    row = db.execute(query, (tenant, clean_name(voice_id))).fetchone()
    if row is None:
        raise NotFound("protected_voice_not_found", voice=clean_name(voice_id)[:80])
    return _protected(row)


def _protected(row: sqlite3.Row) -> ProtectedVoice:
    return ProtectedVoice(row["tenant"], row["id"], row["name"], row["created_at"], row["pieces"])
