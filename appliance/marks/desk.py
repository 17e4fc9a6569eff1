"""Signing files that leave, and telling what a file that comes back says about itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from appliance.audio.encoding import encode_audio, pcm16
from appliance.audio.files import read_audio, to_mono
from appliance.audio.provenance import Credential, sign_file
from appliance.audio.watermark import embed_watermark
from appliance.contracts import Audio, JsonDict
from appliance.database import Database
from appliance.errors import VoicedError
from appliance.events import Event
from appliance.marks.stage import aigc_tags, mark_id, payload_of
from appliance.security.audit import AuditLog
from appliance.security.content_credential import open_content_credential, read_authority
from appliance.workers import WorkerPool


@dataclass(frozen=True)
class DeskRooms:
    db: Database
    audit: AuditLog
    pool: WorkerPool


class MarksDesk:
    """`key` is the box's watermark key, `folder` where its content credential lies, `name` the box's."""

    def __init__(self, rooms: DeskRooms, key: bytes, folder: Path, name: str) -> None:
        self._rooms = rooms
        self._key = key
        self._folder = folder
        self._name = name
        self._credential: Credential | None = None
        self._opening = threading.Lock()

    async def sign(self, data: bytes, format: str, facts: JsonDict) -> bytes:
        """The file with signed provenance. Raises Unavailable("provenance_missing"), InvalidInput("provenance_format").

        Not reproducible: every signature names its time, so equal requests give files that differ in it.
        """
        return await asyncio.to_thread(self.sign_now, data, format, facts)

    def sign_now(self, data: bytes, format: str, facts: JsonDict) -> bytes:
        """The same for a thread that may wait. Raises as `sign`."""
        with self._opening:
            self._credential = self._credential or open_content_credential(self._folder, self._name)
        return sign_file(data, format, self._credential, facts)

    async def mark_file(self, path: Path, tenant: str) -> bytes:
        """A generated sound that was filed without marks, as a WAV with watermark and metadata.

        Raises what reading the file raises.
        """
        marked, mark, digest = await asyncio.to_thread(self._mark, path, tenant)
        event = Event(tenant, "speech.sample", subject=mark, output_digest=digest)
        self._rooms.audit.note(event)
        return marked

    def _mark(self, path: Path, tenant: str) -> tuple[bytes, str, str]:
        """The file, its mark, and the digest of its samples."""
        data = path.read_bytes()
        decoded = read_audio(data)
        payload = payload_of(tenant, hashlib.sha256(data).hexdigest())
        audio = embed_watermark(Audio(to_mono(decoded.samples), decoded.sample_rate), self._key, payload)
        digest = hashlib.sha256(pcm16(audio.samples)).hexdigest()
        tags = aigc_tags(self._name, payload)
        return encode_audio(audio.samples, audio.sample_rate, "wav", tags), mark_id(payload), digest

    async def detect(self, path: Path, tenant: str | None) -> JsonDict:
        """What a file says: `is_marked`, `is_from_this_box`, and each mark that was found.

        The audit entries behind a watermark are told to the tenant who spoke (`tenant` None: to nobody). Raises what
        reading the file raises.
        """
        anchors = await asyncio.to_thread(read_authority, self._folder)
        told = await self._rooms.pool.detect(path, self._key, anchors)
        watermark, provenance = told["watermark"], told["provenance"]
        is_ours = watermark is not None or (provenance or {}).get("state") == "trusted"
        found = {"is_marked": bool(watermark or provenance or told["aigc"]), "is_from_this_box": is_ours, **told}
        if watermark is not None:
            found["watermark"] = {**watermark, "entries": await self._entries(watermark["mark"], tenant)}
        return found

    async def _entries(self, mark: str, tenant: str | None) -> list[JsonDict]:
        if tenant is None:
            return []
        with contextlib.suppress(VoicedError):  # the disk refuses: what was written before is still found
            await self._rooms.audit.flush()  # speech of the last half second may still wait
        return await self._rooms.db.read(lambda db: _find(db, mark, tenant))


def _find(db: sqlite3.Connection, mark: str, tenant: str) -> list[JsonDict]:
    """Audit entries about speech with this mark, newest first, with their index."""
    query = (
        "SELECT idx, entry FROM audit WHERE subject = ? AND tenant = ? AND action LIKE 'speech%'"
        " ORDER BY idx DESC LIMIT 20"
    )
    return [{"index": row["idx"], **json.loads(row["entry"])} for row in db.execute(query, (mark, tenant))]
