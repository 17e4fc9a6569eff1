"""Consent by word of mouth: the speaker says a statement with a fresh number, and the box checks both, offline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from appliance.contracts import QualityReport
from appliance.errors import Forbidden, InvalidInput
from appliance.text.spoken_digits import says_digits
from appliance.voices.challenges import Challenge, ChallengeStore
from appliance.voices.consents import ConsentStore
from appliance.voices.gate import VoiceGate
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import SPOKEN, Consent, NewConsent, NewRecording
from appliance.workers import WorkerPool


@dataclass(frozen=True)
class ConsentRooms:
    challenges: ChallengeStore
    consents: ConsentStore
    recordings: RecordingStore
    gate: VoiceGate
    pool: WorkerPool


class SpokenConsents:
    """Asks for statements and hears them."""

    def __init__(self, rooms: ConsentRooms) -> None:
        self._rooms = rooms

    async def ask(self, tenant: str, new: NewConsent, language: str) -> Challenge:
        """The words to be said. Raises InvalidInput("consent_invalid" | "purpose_unknown")."""
        await self._rooms.consents.check(tenant, replace(new, strength=SPOKEN))
        about = (new.speaker, new.voice, new.purposes, language, new.expires_at)
        return await self._rooms.challenges.make(tenant, *about)

    async def hear(self, tenant: str, challenge_id: str, clip: Path) -> Consent:
        """The consent, when the clip holds the number in the voice of the speaker's recordings (where there are any).

        The clip is filed as evidence. Raises NotFound("challenge_not_found"), Forbidden (challenge_over,
        consent_phrase_not_heard, consent_other_voice), InvalidInput("recording_refused"), Unavailable, and what
        reading the clip raises.
        """
        challenge = await self._rooms.challenges.attempt(tenant, challenge_id)
        report = await self._rooms.pool.check(clip)
        if not report.accepted:
            raise InvalidInput("recording_refused", reasons=report.reasons, warnings=report.warnings)
        heard = await self._rooms.pool.transcribe(clip, challenge.language)
        if not says_digits(heard.text, challenge.digits):
            raise Forbidden("consent_phrase_not_heard", heard=heard.text[:200])
        await self._rooms.gate.require_speaker(tenant, challenge.speaker, clip)
        await self._rooms.challenges.use(challenge)
        return await self._file(challenge, clip, report, heard.text)

    async def _file(self, challenge: Challenge, clip: Path, report: QualityReport, heard: str) -> Consent:
        evidence = NewRecording(
            source=clip,
            filename=f"consent {challenge.id}",
            duration_s=float(report.measures.get("duration_s", 0.0)),
            sample_rate=int(report.measures.get("sample_rate", 0)),
            report=report,
            transcript=heard,
            language=challenge.language,
            transcript_source="asr",
            speaker=challenge.speaker,
        )
        recording = await self._rooms.gate.admit(challenge.tenant, evidence)
        new = NewConsent(
            speaker=challenge.speaker,
            voice=challenge.voice,
            purposes=challenge.purposes,
            statement=challenge.statement,
            evidence=recording.id,
            expires_at=challenge.expires_at,
            strength=SPOKEN,
        )
        return await self._rooms.consents.record(challenge.tenant, new)
