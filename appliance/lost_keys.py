"""Going on without a master key that is lost for good.

What was encrypted under it cannot be read by anybody. Until somebody says so, the box waits for the key and keeps
everything; afterwards it is as if those speakers had been erased: their voices are retired, their files removed, and
new recordings get new keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from appliance.contracts import JsonDict
from appliance.database import Database
from appliance.errors import Conflict, NotFound
from appliance.events import ASKED, Event
from appliance.security.audit import AuditLog
from appliance.synthesis import Synthesis
from appliance.vault.keys import RECORDING, VOICE, KeyRing, Owner, owner_of
from appliance.voices.recordings import RecordingStore
from appliance.voices.registry import VoiceRegistry

_OWN_VOICES = "SELECT tenant, id, speaker FROM voices WHERE origin = 'own' AND deleted_at IS NULL"

_RECORDINGS = "SELECT tenant, id, speaker FROM recordings WHERE deleted_at IS NULL"


@dataclass(frozen=True)
class LostKeys:
    """Of all tenants: the master key is the box's."""

    db: Database
    registry: VoiceRegistry
    recordings: RecordingStore
    synthesis: Synthesis
    audit: AuditLog

    async def state(self, language: str) -> JsonDict:
        """Whether the keys of the speakers are open; if not, why, what to do, and of how many owners."""
        trouble, owners = await asyncio.to_thread(lambda: (self._keys.trouble(), len(self._keys.lost())))
        if trouble is None:
            return {"state": "open", "code": "", "message": "", "remedy": "", "owners": 0}
        told = {"message": trouble.message(language), "remedy": trouble.remedy(language)}
        return {"state": "closed", "code": trouble.code, **told, "owners": owners}

    async def abandon(self) -> JsonDict:
        """Retire every voice that nobody can read any more, give up the keys, remove recordings and files.

        Raises Conflict("master_key_not_lost"), StorageFull: without an entry in the log nothing is done.
        """
        owners = frozenset(await asyncio.to_thread(self._keys.lost))
        if not owners:
            raise Conflict("master_key_not_lost")
        await self.audit.record(Event("", "keys.abandon", outcome=ASKED, details={"owners": len(owners)}))
        voices = await self._retire(owners)
        gone = await asyncio.to_thread(self._keys.abandon)
        files = await asyncio.to_thread(self.recordings.blobs.sweep, frozenset(gone))
        recordings = await self._remove_recordings(owners)
        counts = {"owners": len(gone), "voices": len(voices), "recordings": recordings, "files": files}
        await self.audit.record(Event("", "keys.abandoned", details={**counts, "key_ids": " ".join(gone)}))
        return counts

    async def _retire(self, owners: Collection[Owner]) -> list[str]:
        rows = await self.db.read(lambda db: db.execute(_OWN_VOICES).fetchall())
        lost = [row for row in rows if owner_of(row["tenant"], row["speaker"], VOICE, row["id"]) in owners]
        for row in lost:
            await self.synthesis.forget(row["tenant"], row["id"])
            try:
                await self.registry.delete_voice(row["tenant"], row["id"])
            except NotFound:  # somebody else retired it meanwhile
                continue
        return [row["id"] for row in lost]

    async def _remove_recordings(self, owners: Collection[Owner]) -> int:
        rows = await self.db.read(lambda db: db.execute(_RECORDINGS).fetchall())
        lost = [row for row in rows if owner_of(row["tenant"], row["speaker"], RECORDING, row["id"]) in owners]
        for row in lost:
            await self.recordings.delete(row["tenant"], row["id"])
        return len(lost)

    @property
    def _keys(self) -> KeyRing:
        vault = self.recordings.blobs.vault
        if vault is None:
            raise Conflict("master_key_not_lost")
        return vault.keys
