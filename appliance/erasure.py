"""Erasing a speaker: everything that is made of their voice goes; what happened stays on record, as ids and digests.

What is destroyed: the sound and words of recordings, voiceprints, statements, reading sessions, the files of voice
versions, rendered lines and announcements, cached speech, the folders of their jobs; and the key that all of it was
encrypted under, so that no copy of the disk or of a backup can be read. What stays: rows without sound or words (that
a consent was given and ended, that a version existed), and the audit log, whose chain is not touched.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.contracts import JsonDict
from appliance.database import Database, utc_now
from appliance.engine.artifact_store import FOLDER, MANIFEST
from appliance.errors import NotFound
from appliance.events import Event
from appliance.security.audit import AuditLog
from appliance.security.signing import DeviceKey
from appliance.state_dir import StateDir
from appliance.synthesis import Synthesis
from appliance.vault.keys import RECORDING, SPEAKER, VOICE, Owner
from appliance.voices.blobs import BlobStore
from appliance.voices.consents import ConsentStore
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import clean_name
from appliance.voices.registry import VoiceRegistry
from appliance.voices.sounds import forget_announced, is_needed

FORMAT = "voiced-erasure-1"

_VOICES = "SELECT id FROM voices WHERE tenant = :tenant AND speaker = :speaker AND origin = 'own'"
_OF_VOICES = "FROM voice_versions WHERE tenant = :tenant AND voice IN (SELECT value FROM json_each(:voices))"
_RECORDINGS = """
SELECT id FROM recordings WHERE tenant = :tenant AND deleted_at IS NULL AND (
    speaker = :speaker OR speaker = '' AND id IN (
        SELECT made_from.value FROM voice_versions AS v, json_each(v.lineage, '$.recordings') AS made_from
        WHERE v.tenant = :tenant AND v.voice IN (SELECT value FROM json_each(:voices))))"""
_NARRATED = "tenant = ?1 AND track IS NOT NULL AND (voice = ?2 OR substr(voice, 1, length(?2) + 1) = ?2 || '@')"


@dataclass(frozen=True)
class ErasureRooms:
    db: Database
    blobs: BlobStore
    registry: VoiceRegistry
    recordings: RecordingStore
    consents: ConsentStore
    synthesis: Synthesis
    audit: AuditLog
    key: DeviceKey
    jobs: Path  # folder of the job folders


@dataclass(frozen=True)
class _Inventory:
    """What there is of a speaker."""

    voices: tuple[str, ...]
    recordings: tuple[str, ...]
    consents: tuple[str, ...]
    jobs: tuple[str, ...]

    def owners(self, tenant: str, speaker: str) -> tuple[Owner, ...]:
        """Whose keys are to go: the speaker's, and those of things that nobody had named a speaker for."""
        nameless = [(VOICE, voice) for voice in self.voices] + [(RECORDING, one) for one in self.recordings]
        return (Owner(tenant, SPEAKER, speaker), *(Owner(tenant, kind, one) for kind, one in nameless))


class Erasure:
    """Destroys a speaker's data and gives a receipt. Everything in it may be called again after a crash."""

    def __init__(self, rooms: ErasureRooms) -> None:
        self._rooms = rooms

    async def erase(self, tenant: str, speaker: str) -> JsonDict:
        """`{"receipt", "speaker", "counts"}`: the receipt is a note signed with the box's key.

        Raises NotFound("speaker_not_found"), and what the database raises: without an entry in the audit log nothing
        is destroyed.
        """
        found = await self._rooms.db.read(lambda db: _inventory(db, tenant, speaker))
        begun = await self._rooms.audit.record(Event(tenant, "speaker.erase", subject=clean_name(speaker)))
        keys = await asyncio.to_thread(self._keys_of, found.owners(tenant, clean_name(speaker)))
        counts = {
            "consents_ended": await self._end_consents(tenant, found.consents),
            "recordings": await self._erase_recordings(tenant, found.recordings),
            "files": await self._erase_voices(tenant, found.voices),
            "rows": await self._rooms.db.write(lambda db: _erase_rows(db, tenant, speaker, found.voices), durable=True),
            "jobs": await asyncio.to_thread(self._erase_jobs, found.jobs),
            "voices": len(found.voices),
        }
        keys = await asyncio.to_thread(self._destroy_keys, keys, found.owners(tenant, clean_name(speaker)))
        await self._rooms.db.fold()
        counts["keys"] = len(keys)
        ended = await self._rooms.audit.record(
            Event(tenant, "speaker.erased", subject=clean_name(speaker), details={**counts, "key_ids": " ".join(keys)})
        )
        receipt = _receipt(tenant, speaker, counts, keys, (begun, ended))
        return {"id": speaker, "receipt": self._rooms.key.sign_note(receipt), "counts": counts}

    async def _end_consents(self, tenant: str, consents: Sequence[str]) -> int:
        for consent in consents:  # first: from now on nothing of the speaker can be spoken or trained
            await self._rooms.consents.revoke(tenant, consent)
        return len(consents)

    async def _erase_recordings(self, tenant: str, recordings: Sequence[str]) -> int:
        for recording in recordings:
            await self._rooms.recordings.delete(tenant, recording)
        return len(recordings)

    async def _erase_voices(self, tenant: str, voices: Sequence[str]) -> int:
        """Retire the voices and remove every file that only they needed."""
        for voice in voices:
            await self._rooms.synthesis.forget(tenant, voice)
            try:
                await self._rooms.registry.delete_voice(tenant, voice)
            except NotFound:  # retired before
                continue
        digests = await self._rooms.db.write(lambda db: _unneeded(db, tenant, voices), durable=True)
        for digest in digests:
            await asyncio.to_thread(self._rooms.blobs.remove, digest)
        await asyncio.to_thread(_remove_graphs, StateDir(self._rooms.jobs.parent).cache, frozenset(digests))
        return len(digests)

    def _keys_of(self, owners: Sequence[Owner]) -> tuple[str, ...]:
        """Ids of their keys; those of recordings go with the recordings. Raises Unavailable."""
        vault = self._rooms.blobs.vault
        found = [vault.keys.find(owner) for owner in owners] if vault else []
        return tuple(key.id for key in found if key is not None)

    def _destroy_keys(self, known: Sequence[str], owners: Sequence[Owner]) -> tuple[str, ...]:
        """The ids of all keys that are gone now. Files under them that nothing led to are removed as well."""
        vault = self._rooms.blobs.vault
        if vault is None:
            return ()
        gone = tuple(dict.fromkeys((*known, *vault.keys.destroy(owners))))
        self._rooms.blobs.sweep(gone)
        return gone

    def _erase_jobs(self, jobs: Sequence[str]) -> int:
        for job in jobs:
            shutil.rmtree(self._rooms.jobs / job, ignore_errors=True)
        return len(jobs)


def _remove_graphs(cache: Path, digests: frozenset[str]) -> None:
    """What was exported from these weights goes with them."""
    for manifest in (cache / FOLDER).glob(f"*/{MANIFEST}"):
        try:
            weights = json.loads(manifest.read_bytes())["source"]["weights"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if weights in digests:
            shutil.rmtree(manifest.parent, ignore_errors=True)


def _inventory(db: sqlite3.Connection, tenant: str, speaker: str) -> _Inventory:
    about = {"tenant": tenant, "speaker": clean_name(speaker)}
    own = tuple(row[0] for row in db.execute(_VOICES, about))
    named = "SELECT DISTINCT voice FROM consents WHERE tenant = :tenant AND speaker = :speaker AND voice <> ''"
    voices = tuple(dict.fromkeys((*own, *(row[0] for row in db.execute(named, about)))))

    def ids(query: str) -> tuple[str, ...]:
        return tuple(row[0] for row in db.execute(query, {**about, "voices": json.dumps(voices)}))

    found = _Inventory(
        voices=voices,
        recordings=ids(_RECORDINGS),
        consents=ids("SELECT id FROM consents WHERE tenant = :tenant AND speaker = :speaker AND revoked_at IS NULL"),
        jobs=ids(
            "SELECT id FROM jobs WHERE tenant = :tenant AND kind = 'clone'"
            " AND json_extract(spec, '$.voice') IN (SELECT value FROM json_each(:voices))"
        ),
    )
    known = db.execute("SELECT 1 FROM speakers WHERE tenant = :tenant AND id = :speaker", about).fetchone()
    if known is None and not any((found.voices, found.recordings, found.consents)):
        raise NotFound("speaker_not_found", speaker=clean_name(speaker)[:80])
    return found


def _unneeded(db: sqlite3.Connection, tenant: str, voices: Sequence[str]) -> list[str]:
    """Digests of files that nobody but these voices needs; their rendered lines are taken off the books on the way."""
    about = {"tenant": tenant, "voices": json.dumps(list(voices))}
    digests = {
        digest for row in db.execute(f"SELECT files {_OF_VOICES}", about) for digest in json.loads(row[0]).values()
    }
    spoken = "FROM renditions WHERE tenant = :tenant AND voice IN (SELECT value FROM json_each(:voices))"
    digests |= {row[0] for row in db.execute(f"SELECT sha256 {spoken}", about)}
    db.execute(f"DELETE {spoken}", about)
    digests |= forget_announced(db, tenant, voices) | _forget_narrated(db, tenant, voices)
    return sorted(one for one in digests if not is_needed(db, tenant, voices, one))


def _forget_narrated(db: sqlite3.Connection, tenant: str, voices: Sequence[str]) -> set[str]:
    """Take the tracks of narrations off the books; their digests."""
    digests: set[str] = set()
    for voice in voices:
        query = f"SELECT track FROM dubbings WHERE {_NARRATED}"  # noqa: S608 - constants
        digests |= {row[0] for row in db.execute(query, (tenant, voice))}
        db.execute(f"UPDATE dubbings SET track = NULL WHERE {_NARRATED}", (tenant, voice))  # noqa: S608
    return digests


def _erase_rows(db: sqlite3.Connection, tenant: str, speaker: str, voices: Sequence[str]) -> int:
    """Prints, statements, sessions and reviews of the speaker; how many rows."""
    about = (tenant, clean_name(speaker))
    statements = (
        "DELETE FROM voiceprints WHERE tenant = ?1 AND recording IN"
        " (SELECT id FROM recordings WHERE tenant = ?1 AND speaker = ?2)",
        "DELETE FROM consent_challenges WHERE tenant = ?1 AND speaker = ?2",
        "DELETE FROM recording_sessions WHERE tenant = ?1 AND speaker = ?2",
        "DELETE FROM gate_reviews WHERE tenant = ?1 AND kind = 'speaker' AND other = ?2",
        "UPDATE speakers SET name = '' WHERE tenant = ?1 AND id = ?2",
    )
    count = sum(db.execute(statement, about).rowcount for statement in statements)
    for voice in voices:
        count += db.execute("DELETE FROM gate_reviews WHERE tenant = ? AND voice = ?", (tenant, voice)).rowcount
    return count


def _receipt(tenant: str, speaker: str, counts: JsonDict, keys: Sequence[str], entries: tuple[int, int]) -> str:
    lines = [FORMAT, f"tenant {tenant}", f"speaker {clean_name(speaker)}", f"at {utc_now()}"]
    lines += [f"{name} {count}" for name, count in counts.items()]
    lines += [f"key {key}" for key in keys]
    return "\n".join([*lines, f"audit {entries[0]} {entries[1]}", ""])
