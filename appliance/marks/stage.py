"""The marks as one stage of synthesis: audible label, then watermark, and the fields that the file will carry."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from appliance.audio.rhythm import rhythm, rhythm_s
from appliance.audio.tags import Tags
from appliance.audio.watermark import WatermarkEmbedder
from appliance.contracts import Audio
from appliance.database import utc_now
from appliance.errors import StorageFull
from appliance.marks.ledger import Marked, MarkLedger, payload_of
from appliance.settings import MarksSettings

log = logging.getLogger(__name__)

LABEL_BELOW_SPEECH_DB = 6.0  # the rhythm is clearly heard and startles nobody
AIGC = "AIGC"  # name of the metadata field in GB 45438-2025


@dataclass(frozen=True)
class Spoken:
    """What is about to be spoken, and for whom."""

    tenant: str
    rendition: str
    voice: str
    number: int
    is_own_voice: bool  # sounds like an existing person; a starter voice does not
    text: str
    sample_rate: int
    client: str


@dataclass(frozen=True)
class Marks:
    """What one answer carries."""

    payload: int
    tags: Tags
    label_s: float  # how much later the words begin
    sample_rate: int
    key: bytes
    label_dbfs: float

    async def apply(self, chunks: AsyncIterator[Audio]) -> AsyncGenerator[Audio, None]:
        """The same sound with label and watermark; what is finished of a chunk is handed on at once."""
        embedder = WatermarkEmbedder(self.key, self.payload, self.sample_rate)
        if self.label_s:
            label = rhythm(self.sample_rate, self.label_dbfs)
            yield Audio(await asyncio.to_thread(embedder.embed, label), self.sample_rate)
        is_empty = True
        async with _closing(chunks):
            async for chunk in chunks:
                is_empty = is_empty and not len(chunk.samples)
                samples = await asyncio.to_thread(embedder.embed, chunk.samples)
                if len(samples):
                    yield Audio(samples, self.sample_rate)
        if not is_empty:
            yield Audio(await asyncio.to_thread(embedder.finish), self.sample_rate)


@dataclass(frozen=True)
class BoxMarks:
    """Who marks: the box's watermark key, and the name that its metadata carries."""

    key: bytes
    producer: str


class MarksStage:
    """Decides the marks of each answer by the site's profile, and keeps book."""

    def __init__(self, box: BoxMarks, ledger: MarkLedger, settings: MarksSettings, speech_lufs: float) -> None:
        self.ledger = ledger
        self._box = box
        self._settings = settings
        self._label_dbfs = speech_lufs - LABEL_BELOW_SPEECH_DB + 3.0  # a sine's peak lies 3 dB above its level

    async def prepare(self, spoken: Spoken) -> Marks:
        """The marks of one answer, noted in the ledger. Raises StorageFull where the law wants a log first."""
        payload = payload_of(spoken.tenant, spoken.rendition)
        is_labelled = self._is_labelled(spoken)
        await self._note(spoken, payload, is_labelled)
        return Marks(
            payload=payload,
            tags=aigc_tags(self._settings.producer or self._box.producer, payload),
            label_s=rhythm_s(spoken.sample_rate) if is_labelled else 0.0,
            sample_rate=spoken.sample_rate,
            key=self._box.key,
            label_dbfs=self._label_dbfs,
        )

    def _is_labelled(self, spoken: Spoken) -> bool:
        match self._settings.profile:
            case "cn":
                return True
            case "eu":
                return spoken.is_own_voice
            case _:
                return False

    async def _note(self, spoken: Spoken, payload: int, is_labelled: bool) -> None:
        now, digest = utc_now(), hashlib.sha256(spoken.text.encode()).hexdigest()
        about = (spoken.tenant, payload, spoken.rendition, spoken.voice, spoken.number, digest)
        try:
            await self.ledger.record(Marked(*about, first_at=now, last_at=now, times=1))
        except StorageFull as error:  # speech goes on; the mark still says that this box made the sound
            log.warning("a mark was not noted: %s", error)
        if not is_labelled and self._settings.profile == "off-by-agreement":
            row = {"recipient": spoken.client, "agreement": self._settings.agreement, "rendition": spoken.rendition}
            await self.ledger.record_unlabelled(
                spoken.tenant, row | {"voice": spoken.voice, "number": spoken.number, "payload": payload}
            )


def aigc_tags(producer: str, payload: int) -> Tags:
    """The implicit label of GB 45438-2025: who made it, and the number it can be found by."""
    fields = {
        "Label": "1",  # certainly generated
        "ContentProducer": producer,
        "ProduceID": f"{payload:010x}",
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    return {AIGC: json.dumps(fields, ensure_ascii=False, separators=(",", ":"))}


def _closing(chunks: AsyncIterator[Audio]) -> aclosing[AsyncGenerator[Audio, None]]:
    return aclosing(chunks)  # type: ignore[type-var,arg-type]
