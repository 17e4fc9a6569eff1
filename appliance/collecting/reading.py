"""A speaker reads, prompt by prompt: each clip is held against its prompt and its session's speaker, then kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.collecting.prompts import LANGUAGES, prompt_sheet
from appliance.contracts import JsonDict, QualityReport
from appliance.errors import Conflict, InvalidInput
from appliance.voices.gate import VoiceGate
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import NewRecording, Recording
from appliance.voices.sessions import RecordingSession, SessionStore
from appliance.workers import WorkerPool

REFERENCE_S = 30.0  # of earlier clips are enough to know the speaker by


@dataclass(frozen=True)
class Clip:
    """What came in for a prompt. An empty prompt means the next one."""

    path: Path  # read, never moved
    filename: str = ""
    prompt: str = ""


class ReadingRoom:
    """Sessions of reading. Every call is scoped by tenant."""

    def __init__(self, sessions: SessionStore, recordings: RecordingStore, gate: VoiceGate, pool: WorkerPool) -> None:
        self.sessions = sessions
        self._recordings = recordings
        self._gate = gate
        self._pool = pool

    async def begin(self, tenant: str, speaker: str, language: str) -> RecordingSession:
        """Raises InvalidInput (prompt_language_unknown, session_speaker_missing)."""
        sheet = prompt_sheet(language)
        prompts = [prompt.as_json() for prompt in sheet.prompts]
        return await self.sessions.begin(tenant, speaker, language, sheet.name, prompts)

    async def add(self, tenant: str, session_id: str, clip: Clip) -> tuple[RecordingSession, Recording]:
        """Judge a clip and keep a good one; a prompt may be read again, the newest counts.

        Raises InvalidInput("recording_refused") with all reasons (nothing is kept), NotFound("session_not_found"),
        InvalidInput("prompt_unknown"), Conflict("session_complete"), Forbidden("voice_protected").
        """
        session = await self.sessions.get(tenant, session_id)
        prompt = _prompt_of(session, clip.prompt)
        references = await self._references(tenant, session, prompt["id"])
        report, _ = await self._pool.judge(clip.path, prompt["text"], prompt["language"], references)
        if not report.accepted:
            raise InvalidInput(
                "recording_refused", reasons=report.reasons, warnings=report.warnings, **dict(report.measures)
            )
        recording = await self._gate.admit(tenant, _new_recording(session, prompt, clip, report))
        return await self.sessions.get(tenant, session_id), recording

    async def _references(self, tenant: str, session: RecordingSession, prompt: str) -> list[Path]:
        """Sound of the session's speaker: its first clips, without the one that is read again."""
        ids = [recording for read, recording in session.recorded.items() if read != prompt]
        paths: list[Path] = []
        seconds = 0.0
        for recording in await self._recordings.get_many(tenant, ids):
            paths.append(await self._recordings.path(recording))
            seconds += recording.duration_s
            if seconds >= REFERENCE_S:
                break
        return paths


def _prompt_of(session: RecordingSession, prompt_id: str) -> JsonDict:
    if not prompt_id:
        if session.next is None:
            raise Conflict("session_complete", session=session.id, prompts=len(session.prompts))
        return session.next
    found = next((prompt for prompt in session.prompts if prompt["id"] == prompt_id), None)
    if found is None:
        raise InvalidInput("prompt_unknown", prompt=prompt_id[:80], session=session.id)
    return found


def _new_recording(session: RecordingSession, prompt: JsonDict, clip: Clip, report: QualityReport) -> NewRecording:
    return NewRecording(
        source=clip.path,
        filename=clip.filename or f"{prompt['id']}.wav",
        duration_s=float(report.measures["duration_s"]),
        sample_rate=int(report.measures["sample_rate"]),
        report=report,
        transcript=prompt["text"],
        language=language_of(prompt["language"]),
        transcript_source="prompt",
        speaker=session.speaker,
        session=session.id,
        prompt=prompt["id"],
    )


def language_of(prompt_language: str) -> str:
    """As recordings are labelled: Chinese with English words in it is Chinese."""
    return "zh" if prompt_language == LANGUAGES[2] else prompt_language
