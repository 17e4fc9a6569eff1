"""The gate before every enrolment and clone: is this the voice of somebody who must not be cloned?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.audio.voiceprint import PrintModel, shipped_model
from appliance.database import Database
from appliance.errors import Corrupt, Forbidden, InvalidInput, Unavailable
from appliance.events import DONE, FAILED, REFUSED, Event, Witness
from appliance.settings import GateSettings
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import NewRecording, Recording
from appliance.voices.voiceprints import ALLOWED, Print, Prints, ProtectedVoice, VoiceprintStore, joined

PROTECTED, SPEAKER = "protected", "speaker"
Listen = Callable[..., Awaitable[Print]]  # a sound file (and imported weights) -> its print; computed in a worker


@dataclass(frozen=True)
class Match:
    """The nearest voice of one kind."""

    kind: str
    other: str
    score: float  # see `audio.voiceprint.PrintModel.likeness`
    model: str  # that said so


@dataclass(frozen=True)
class ImportedModel:
    """A network that an operator brought, in the place of the one that ships."""

    model: PrintModel
    weights: Path


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
        self.listen = rooms.listen
        self._settings = settings
        self._imported: ImportedModel | None = None
        self.problem = ""  # code of why the imported model does not decide

    @property
    def models(self) -> tuple[PrintModel, ...]:
        """Those that decide, the better one first."""
        return (*((self._imported.model,) if self._imported else ()), shipped_model())

    def state(self) -> dict[str, str]:
        """Which network decides, and the code of why an imported one does not."""
        return {"model": self.models[0].id, "problem": self.problem}

    async def take(self, imported: ImportedModel | None, problem: str = "") -> None:
        """Let an imported model decide from now on, or the shipped one alone; what changes is written down."""
        before, self.problem = self.models[0].id, problem
        self._imported = imported
        after = self.models[0].id
        if before != after:
            details: dict[str, str | float] = {"model": after, "before": before, "problem": problem}
            await self._record(Event("", "gate.model", outcome=FAILED if problem else DONE, details=details))

    async def hear(self, path: Path) -> Prints:
        """The prints of a sound by every model in use, that of the shipped one first. Raises what listening raises.

        An imported model that fails goes; the shipped one decides then.
        """
        found = {shipped_model().id: await self._rooms.listen(path)}
        imported = self._imported
        if imported is not None:
            try:
                found[imported.model.id] = await self._rooms.listen(path, imported.weights)
            except (Corrupt, Unavailable) as error:
                await self.take(None, error.code)
        return found

    async def protect(self, tenant: str, name: str, clip: Path) -> ProtectedVoice:
        """Nobody clones the voice of this clip from now on. Raises as `VoiceprintStore.protect`."""
        return await self.prints.protect(tenant, name, await self.hear(clip))

    async def learn(self, tenant: str, recordings: Sequence[Recording]) -> dict[str, Prints]:
        """The prints of recordings, made now where there are none; too little speech gives none."""
        wanted = {model.id for model in self.models}
        known = await self._rooms.prints.of_recordings(tenant, [one.id for one in recordings])
        for recording in recordings:
            if wanted <= known.get(recording.id, {}).keys():
                continue
            try:
                prints = await self.hear(await self._rooms.recordings.path(recording))
            except InvalidInput:
                continue
            for model, print_ in prints.items():
                await self._rooms.prints.save(tenant, recording.id, model, print_)
            known[recording.id] = prints
        return known

    async def admit(self, tenant: str, new: NewRecording) -> Recording:
        """File a recording: the one way by which speech comes in. Of whom nobody may clone, nothing is kept.

        Raises Forbidden("voice_protected"), and what `RecordingStore.add` and the listener raise.
        """
        recording = await self._rooms.recordings.add(tenant, new)
        try:
            if recording.accepted:  # others are never trained on
                await self.enrol(tenant, recording)
        except BaseException:
            await asyncio.shield(self._rooms.recordings.delete(tenant, recording.id))
            raise
        return recording

    async def enrol(self, tenant: str, recording: Recording) -> None:
        """Hold a new recording against protected voices. Raises Forbidden("voice_protected")."""
        if not self._settings.enabled:
            return
        found = await self.learn(tenant, (recording,))
        for prints in found.values():
            match = await self._nearest(prints, await self._rooms.prints.all_protected(), PROTECTED)
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
            await self._judge(tenant, voice, speaker, joined(list(prints.values())))

    async def require_clip(self, tenant: str, voice: str, speaker: str, clip: Path) -> None:
        """The same for a voice from one clip that is no recording. Raises as `require`."""
        if self._settings.enabled:
            await self._judge(tenant, voice, speaker, await self.hear(clip))

    async def require_speaker(self, tenant: str, speaker: str, clip: Path) -> None:
        """The clip must be in the voice of the speaker's recordings, where there are any.

        Raises Forbidden("consent_other_voice").
        """
        known = (await self._rooms.prints.of_speakers(tenant)).get(speaker)
        if self._settings.enabled and known is not None:
            await self._require_same(tenant, speaker, await self.hear(clip), known)

    async def require_evidence(
        self, tenant: str, speaker: str, evidence: Recording, others: Sequence[Recording]
    ) -> None:
        """Who said the consent must be who is cloned. Raises Forbidden("consent_other_voice")."""
        if not self._settings.enabled:
            return
        prints = await self.learn(tenant, (evidence, *others))
        spoken = prints.pop(evidence.id, None)
        if spoken is not None and prints:
            await self._require_same(tenant, speaker, spoken, joined(list(prints.values())))

    async def _require_same(self, tenant: str, speaker: str, one: Prints, other: Prints) -> None:
        match = await self._nearest(one, {speaker: other}, SPEAKER)
        if match is None:  # no model has heard both; a clone is held against everybody all the same
            return
        score, least = round(match.score, 2), self._settings.review
        details: dict[str, str | float] = {"score": score, "least": least, "model": match.model}
        outcome = DONE if score >= least else REFUSED
        await self._record(Event(tenant, "gate.consent", outcome=outcome, details=details))
        if outcome == REFUSED:
            raise Forbidden("consent_other_voice", speaker=speaker, score=score, least=least)

    async def _judge(self, tenant: str, voice: str, speaker: str, prints: Prints) -> None:
        store = self._rooms.prints
        others = {name: other for name, other in (await store.of_speakers(tenant)).items() if name != speaker}
        matches = [
            await self._nearest(prints, await store.all_protected(), PROTECTED),
            await self._nearest(prints, others, SPEAKER),
        ]
        for match in matches:
            if match is not None and match.score >= self._settings.review:
                await self._hold(tenant, voice, match)
        nearest = max((match.score for match in matches if match), default=0.0)
        details: dict[str, str | float] = {"nearest": round(nearest, 2), "model": self.models[0].id}
        await self._record(Event(tenant, "gate.pass", voice=voice, outcome=DONE, details=details))

    async def _nearest(self, prints: Prints, others: Mapping[str, Prints], kind: str) -> Match | None:
        """The most alike; each pair by the best model that has heard both: prints of different models never meet."""
        models = self.models

        def compare() -> Match | None:
            matches = []
            for name, other in others.items():
                model = next((one for one in models if one.id in prints and one.id in other), None)
                if model is not None:
                    score = model.likeness(prints[model.id], other[model.id])
                    matches.append(Match(kind, name, score, model.id))
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
        details |= {"block": self._settings.block, "review": self._settings.review, "model": match.model}
        await self._record(Event(tenant, action, voice=voice, outcome=REFUSED, details=details))
        measured = {"voice": voice, "score": score, "block": self._settings.block, "model": match.model}
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
