"""The marks as one stage of synthesis: audible label, then watermark, and the fields that the file will carry."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from appliance.audio.encoding import pcm16
from appliance.audio.rhythm import rhythm
from appliance.audio.tags import Tags
from appliance.audio.watermark import WatermarkEmbedder
from appliance.audio.watermark_code import PAYLOAD_BITS
from appliance.contracts import Audio, Samples
from appliance.events import DONE, FAILED, UNLABELLED, Event
from appliance.security.audit import AuditLog
from appliance.settings import MarksSettings
from appliance.voices.records import VoiceVersion

LABEL_BELOW_SPEECH_DB = 6.0  # the rhythm is clearly heard and startles nobody
AIGC = "AIGC"  # name of the metadata field in GB 45438-2025
OFF = "off-by-agreement"


@dataclass(frozen=True)
class Spoken:
    """What is about to be spoken, and for whom."""

    voice: VoiceVersion
    rendition: str
    text: str
    sample_rate: int  # Hz
    client: str  # who gets it
    consent: str  # id; empty for a starter voice, which is nobody's
    continues: bool = False  # the listener has just heard what comes before it, label included


@dataclass(frozen=True)
class Marks:
    """What one answer carries."""

    payload: int
    tags: Tags
    label: Samples  # (n,) what is heard before the words; may be empty
    sample_rate: int
    key: bytes
    event: Event  # for the audit log, but for what is known at the end
    audit: AuditLog

    @property
    def label_s(self) -> float:
        """How much later than the first sample the words begin."""
        return len(self.label) / self.sample_rate

    async def apply(self, chunks: AsyncGenerator[Audio, None]) -> AsyncGenerator[Audio, None]:
        """The same sound with label and watermark; what is finished of a chunk is handed on at once.

        Raises what writing the audit log raises where a site owes an entry before the sound (no audible label).
        """
        if self.event.action != "speech":
            await self.audit.record(self.event)
        embedder, digest = _Marker(self.key, self.payload, self.sample_rate), hashlib.sha256()
        outcome, count = FAILED, 0
        try:
            async with aclosing(self._labelled(chunks)) as sounds:
                async for sound in sounds:
                    samples, coded = await asyncio.to_thread(embedder.mark, sound)
                    digest.update(coded)
                    count += len(samples)
                    if len(samples):
                        yield Audio(samples, self.sample_rate)
            outcome = DONE
        finally:
            details = {**self.event.details, "seconds": round(count / self.sample_rate, 2)}
            spoken = replace(self.event, action="speech", outcome=outcome, details=details)
            self.audit.note(replace(spoken, output_digest=digest.hexdigest()))

    async def _labelled(self, chunks: AsyncGenerator[Audio, None]) -> AsyncGenerator[Samples | None, None]:
        """Label, chunks, and None for the end; nothing at all when there is no sound."""
        if len(self.label):
            yield self.label
        is_empty = True
        async with aclosing(chunks):
            async for chunk in chunks:
                is_empty = is_empty and not len(chunk.samples)
                yield chunk.samples
        if not is_empty:
            yield None


class _Marker:
    """Watermark and 16 bit form of one stream; blocks."""

    def __init__(self, key: bytes, payload: int, sample_rate: int) -> None:
        self._embedder = WatermarkEmbedder(key, payload, sample_rate)

    def mark(self, samples: Samples | None) -> tuple[Samples, bytes]:
        """Marked samples, and the same as the bytes that the digest of the answer is made of; None ends the stream."""
        marked = self._embedder.finish() if samples is None else self._embedder.embed(samples)
        return marked, pcm16(marked)


@dataclass(frozen=True)
class BoxMarks:
    """Who marks: the box's watermark key, and the name that its metadata carries."""

    key: bytes
    producer: str


class MarksStage:
    """Decides the marks of each answer by the site's profile."""

    def __init__(self, box: BoxMarks, audit: AuditLog, settings: MarksSettings, speech_lufs: float) -> None:
        self._box = box
        self._audit = audit
        self._settings = settings
        self._label_dbfs = speech_lufs - LABEL_BELOW_SPEECH_DB + 3.0  # a sine's peak lies 3 dB above its level

    def prepare(self, spoken: Spoken) -> Marks:
        """The marks of one answer."""
        payload, rate = payload_of(spoken.voice.tenant, spoken.rendition), spoken.sample_rate
        label = rhythm(rate, self._label_dbfs)
        return Marks(
            payload=payload,
            tags=aigc_tags(self._settings.producer or self._box.producer, payload),
            label=label if self._is_labelled(spoken) else label[:0],
            sample_rate=rate,
            key=self._box.key,
            event=self._event(spoken, payload),
            audit=self._audit,
        )

    def _is_labelled(self, spoken: Spoken) -> bool:
        if spoken.continues:
            return False
        match self._settings.profile:
            case "cn":
                return True
            case "eu":
                return bool(spoken.consent)
            case _:
                return False

    def _event(self, spoken: Spoken, payload: int) -> Event:
        details = {"rendition": spoken.rendition, "to": spoken.client}
        is_owed = self._settings.profile == OFF
        return Event(
            spoken.voice.tenant,
            UNLABELLED if is_owed else "speech",
            voice=spoken.voice.spec,
            subject=mark_id(payload),
            consent=spoken.consent,
            text_digest=self._audit.text_digest(spoken.text),
            details=details | ({"agreement": self._settings.agreement} if is_owed else {}),
        )


def payload_of(tenant: str, rendition: str) -> int:
    """40 bits that depend on the rendition alone, so that equal requests stay bit-identical, mark included."""
    digest = hashlib.sha256(f"watermark payload\0{tenant}\0{rendition}".encode()).digest()
    return int.from_bytes(digest[: PAYLOAD_BITS // 8], "big")


def mark_id(payload: int) -> str:
    """A payload as it stands in the audit log and in metadata: ten hex digits."""
    return f"{payload:0{PAYLOAD_BITS // 4}x}"


def aigc_tags(producer: str, payload: int) -> Tags:
    """The implicit label of GB 45438-2025: who made it, and the number it can be found by."""
    fields = {
        "Label": "1",  # certainly generated
        "ContentProducer": producer,
        "ProduceID": mark_id(payload),
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    return {AIGC: json.dumps(fields, ensure_ascii=False, separators=(",", ":"))}
