"""The gate before every enrolment and clone: is this the voice of somebody who must not be cloned?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.audio.voiceprint import MODEL, likeness
from appliance.database import Database
from appliance.errors import Forbidden, InvalidInput
from appliance.events import DONE, REFUSED, Event, Witness
from appliance.settings import GateSettings
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import Recording
from appliance.voices.voiceprints import ALLOWED, Print, VoiceprintStore

PROTECTED, SPEAKER = "protected", "speaker"
Listen = Callable[[Path], Awaitable[Print]]  # a sound file -> its print; computed in a worker


@dataclass(frozen=True)
class Match:
    """The nearest voice of one kind."""

    kind: str
    other: str
    score: float  # see `audio.voiceprint.likeness`


@dataclass(frozen=True)
class GateRooms:
    db: Database
    prints: VoiceprintStore
    recordings: RecordingStore
    listen: Listen
    witness: Witness


class VoiceGate:
    """Compares, decides by two thresholds, and has every decision written down."""

    def __init__(self, rooms: GateRooms, settings: GateSettings) -> None:
        self._rooms = rooms
        self.prints = rooms.prints
        self._settings = settings

    async def learn(self, tenant: str, recordings: Sequence[Recording]) -> dict[str, Print]:
        """The prints of recordings, made now where there are none; too little speech gives none."""
        known = await self._rooms.prints.of_recordings(tenant, [one.id for one in recordings], MODEL)
        for recording in recordings:
            if recording.id in known:
                continue
            try:
                print_ = await self._rooms.listen(self._rooms.recordings.path(recording))
            except InvalidInput:
                continue
            await self._rooms.prints.save(tenant, recording.id, MODEL, print_)
            known[recording.id] = print_
        return known

    async def enrol(self, tenant: str, recording: Recording) -> None:
        """Hold a new recording against protected voices. Raises Forbidden("voice_protected")."""
        if not self._settings.enabled:
            return
        found = await self.learn(tenant, (recording,))
        for print_ in found.values():
            match = await self._nearest(print_, await self._rooms.prints.all_protected(MODEL), PROTECTED)
            if match is not None and match.score >= self._settings.block:
                await self._refuse(tenant, "gate.enrol", recording.id, match)

    async def require(self, tenant: str, voice: str, speaker: str, recordings: Sequence[Recording]) -> None:
        """Let the clone of `voice` from these recordings of `speaker` pass.

        Raises Forbidden: voice_protected, voice_of_another_speaker (clear matches); voice_needs_review (a person has to
        judge, see `VoiceprintStore.decide`); voice_review_denied.
        """
        if not self._settings.enabled:
            return
        prints = await self.learn(tenant, recordings)
        if prints:
            await self._judge(tenant, voice, speaker, np.concatenate(list(prints.values()), axis=1))

    async def require_clip(self, tenant: str, voice: str, speaker: str, clip: Path) -> None:
        """The same for a voice from one clip that is no recording. Raises as `require`."""
        if self._settings.enabled:
            await self._judge(tenant, voice, speaker, await self._rooms.listen(clip))

    async def require_speaker(self, tenant: str, speaker: str, clip: Path) -> None:
        """The clip must be in the voice of the speaker's recordings, where there are any.

        Raises Forbidden("consent_other_voice").
        """
        known = (await self._rooms.prints.of_speakers(tenant, MODEL)).get(speaker)
        if self._settings.enabled and known is not None:
            await self._require_same(tenant, speaker, await self._rooms.listen(clip), known)

    async def require_evidence(
        self, tenant: str, speaker: str, evidence: Recording, others: Sequence[Recording]
    ) -> None:
        """Who said the consent must be who is cloned. Raises Forbidden("consent_other_voice")."""
        if not self._settings.enabled:
            return
        prints = await self.learn(tenant, (evidence, *others))
        spoken = prints.pop(evidence.id, None)
        if spoken is not None and prints:
            await self._require_same(tenant, speaker, spoken, np.concatenate(list(prints.values()), axis=1))

    async def _require_same(self, tenant: str, speaker: str, one: Print, other: Print) -> None:
        score = round(await asyncio.to_thread(likeness, one, other), 2)
        details: dict[str, str | float] = {"score": score, "least": self._settings.review, "model": MODEL}
        outcome = DONE if score >= self._settings.review else REFUSED
        await self._record(Event(tenant, "gate.consent", outcome=outcome, details=details))
        if outcome == REFUSED:
            raise Forbidden("consent_other_voice", speaker=speaker, score=score, least=self._settings.review)

    async def _judge(self, tenant: str, voice: str, speaker: str, print_: Print) -> None:
        store = self._rooms.prints
        others = {name: other for name, other in (await store.of_speakers(tenant, MODEL)).items() if name != speaker}
        matches = [
            await self._nearest(print_, await store.all_protected(MODEL), PROTECTED),
            await self._nearest(print_, others, SPEAKER),
        ]
        for match in matches:
            if match is not None and match.score >= self._settings.review:
                await self._hold(tenant, voice, match)
        nearest = max((match.score for match in matches if match), default=0.0)
        event = Event(tenant, "gate.pass", voice=voice, outcome=DONE, details={"nearest": round(nearest, 2)})
        await self._record(event)

    async def _nearest(self, print_: Print, others: Mapping[str, Print], kind: str) -> Match | None:
        def compare() -> Match | None:
            matches = [Match(kind, name, likeness(print_, other)) for name, other in others.items()]
            return max(matches, key=lambda match: match.score, default=None)

        return await asyncio.to_thread(compare)

    async def _hold(self, tenant: str, voice: str, match: Match) -> None:
        """Refuse, unless a person has allowed this very likeness; a protected voice nobody can allow."""
        is_clear = match.score >= self._settings.block
        if match.kind == PROTECTED and is_clear:
            await self._refuse(tenant, "gate.clone", voice, match)
        review = await self._rooms.prints.ask(tenant, voice, match.kind, match.other, round(match.score, 2))
        if review.state == ALLOWED:
            return
        if is_clear or review.state != "waiting":
            await self._refuse(tenant, "gate.clone", voice, match, is_denied=review.state != "waiting")
        await self._refuse(tenant, "gate.review", voice, match, review=review.id)

    async def _refuse(
        self, tenant: str, action: str, voice: str, match: Match, *, review: str = "", is_denied: bool = False
    ) -> None:
        score = round(match.score, 2)
        details: dict[str, str | float] = {"kind": match.kind, "other": match.other, "score": score}
        details |= {"block": self._settings.block, "review": self._settings.review, "model": MODEL}
        await self._record(Event(tenant, action, voice=voice, outcome=REFUSED, details=details))
        measured = {"voice": voice, "score": score, "block": self._settings.block}
        if review:
            raise Forbidden("voice_needs_review", review=review, least=self._settings.review, **measured)
        if is_denied:
            raise Forbidden("voice_review_denied", **measured)
        if match.kind == PROTECTED:
            raise Forbidden("voice_protected", **measured)
        raise Forbidden("voice_of_another_speaker", other=match.other, **measured)

    async def _record(self, event: Event) -> None:
        """A clone whose decision cannot be written down is not decided. Raises what the database raises."""
        await self._rooms.db.write(lambda db: self._rooms.witness(db, event), durable=True)
