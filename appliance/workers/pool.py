"""What the rest of the daemon sees of the workers: speak, check, transcribe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Audio, AudioChunk, JsonDict, QualityReport, SpeakTask, Transcript, VoiceAssets
from appliance.settings import WorkerSettings
from appliance.workers.crew import Crew, Ticket
from appliance.workers.records import (
    LISTENER,
    SPEAKER,
    WorkerSpec,
    report_from_json,
    speak_task_as_json,
    transcript_from_json,
    voice_as_json,
)

LISTEN_DEADLINE_S = 300.0  # ten minutes of sound, written down on a slow box


class SpeechTicket:
    """One clause under way. Iterate `chunks()`, or `cancel()`; a ticket begun early is worked on early."""

    def __init__(self, crew: Crew, ticket: Ticket) -> None:
        self._crew = crew
        self._ticket = ticket

    async def chunks(self) -> AsyncIterator[AudioChunk]:
        """The clause's audio in order. Raises its error; leaving early cancels it."""
        try:
            async for header, payload in self._ticket.results():
                if header["event"] == "chunk":
                    samples = np.frombuffer(payload, dtype=np.float32)
                    audio = Audio(samples, int(header["rate"]))
                    yield AudioChunk(audio, header.get("timings", {}), header.get("lufs"))
        finally:
            await self.cancel()

    async def cancel(self) -> None:
        """Nobody wants the rest; harmless once it is done."""
        await self._crew.cancel(self._ticket)


class WorkerPool:
    """Speakers (always there) and a listener (started when first needed, stopped when idle)."""

    def __init__(self, spec: WorkerSpec, settings: WorkerSettings, clause_deadline_s: float) -> None:
        self._clause_deadline_s = clause_deadline_s
        self._speakers = Crew(replace(spec, role=SPEAKER), settings.count, settings.start_timeout_s)
        self._listeners = Crew(
            replace(spec, role=LISTENER), 1, settings.start_timeout_s, idle_s=settings.idle_listener_s
        )

    def start(self) -> None:
        self._speakers.start()
        self._listeners.start()

    async def stop(self) -> None:
        await self._speakers.stop()
        await self._listeners.stop()

    async def warm(self) -> None:
        """Wait for the first speaker. Raises why there is none (weights missing, …)."""
        await self._speakers.settled()

    @property
    def is_ready(self) -> bool:
        return any(row["state"] in ("ready", "busy") for row in self._speakers.state())

    @property
    def depth(self) -> int:
        """Clauses that wait for a speaker."""
        return self._speakers.depth

    def state(self) -> list[JsonDict]:
        """One row per process: id, state, pid, served, restarts, resident_bytes, uptime_s, placement."""
        return self._speakers.state() + self._listeners.state()

    async def begin(self, task: SpeakTask, *, priority: int = 0, after: SpeechTicket | None = None) -> SpeechTicket:
        """Queue one clause; higher priorities go first, equals in order of arrival.

        Clauses of several requests may be spoken together; one that comes `after` another of its request waits.
        """
        order = {"op": "speak", "speak": speak_task_as_json(task)}
        earlier = after._ticket if after is not None else None
        ticket = await self._speakers.submit(order, priority, self._clause_deadline_s, earlier)
        return SpeechTicket(self._speakers, ticket)

    async def prepare(self, voice: VoiceAssets) -> None:
        """Have the speakers make this voice ready, beside what they do; see `Engine.prepare`. Returns at once."""
        await self._speakers.prepare(voice_as_json(voice))

    def forget_voices(self) -> None:
        """No voice that spoke until now is made ready again in a process that replaces another."""
        self._speakers.forget_voices()

    async def check(self, path: Path) -> QualityReport:
        """Measure a recording. Raises what reading it raised (InvalidInput, TooLarge, …)."""
        done = await self._listen({"op": "check", "path": str(path)})
        return report_from_json(done["report"])

    async def judge(
        self, path: Path, prompt: str, language: str, references: Sequence[Path]
    ) -> tuple[QualityReport, Transcript | None]:
        """Check a clip that was read from a prompt: its sound, its words, and its speaker against `references`."""
        order = {"op": "judge", "path": str(path), "prompt": prompt, "language": language}
        done = await self._listen({**order, "references": [str(one) for one in references]})
        heard = transcript_from_json(done["transcript"]) if done["transcript"] else None
        return report_from_json(done["report"]), heard

    async def cover(self, texts: Mapping[str, Sequence[str]]) -> JsonDict:
        """Which sounds the texts have, by language; `texts` by how they are read: "en" or "mixed"."""
        order = {"op": "cover", "texts": {language: list(rows) for language, rows in texts.items()}}
        found: JsonDict = (await self._listen(order))["coverage"]
        return found

    async def transcribe(self, path: Path, language: str | None = None) -> Transcript:
        """Write down what a recording says. Raises Unavailable("transcriber_missing")."""
        done = await self._listen({"op": "transcribe", "path": str(path), "language": language})
        return transcript_from_json(done["transcript"])

    async def detect(self, path: Path, key: bytes, anchors: str) -> JsonDict:
        """What marks a sound file carries; see `audio.detection.detect_file`. Raises what reading it raised."""
        order = {"op": "detect", "path": str(path), "key": key.hex(), "anchors": anchors}
        done = await self._listen(order)
        found: JsonDict = done["found"]
        return found

    async def voiceprint(self, path: Path, weights: Path | None = None) -> NDArray[np.float32]:
        """(conditions, pieces, width): whose voice it is; see `audio.voiceprint`. `weights`: of an imported network.

        Raises InvalidInput, Corrupt, Unavailable.
        """
        order = {"op": "voiceprint", "path": str(path), "weights": None if weights is None else str(weights)}
        done, vectors = await self._listen_for(order)
        return np.frombuffer(vectors, "<f4").reshape(done["shape"])

    async def _listen(self, order: JsonDict) -> JsonDict:
        return (await self._listen_for(order))[0]

    async def _listen_for(self, order: JsonDict) -> tuple[JsonDict, bytes]:
        ticket = await self._listeners.submit(order, 0, LISTEN_DEADLINE_S)
        try:
            async for header, payload in ticket.results():
                done = header, bytes(payload)
        finally:
            await self._listeners.cancel(ticket)
        return done
