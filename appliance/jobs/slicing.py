"""Slice jobs on the daemon's side: a long recording is received whole, kept whole, and cut into clips by a child."""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance.contracts import JsonDict, QualityReport, Reason
from appliance.errors import Forbidden, Unavailable
from appliance.jobs.kinds import JobKind
from appliance.jobs.records import SLICE, ChildSpec, Job, SliceRequest, SliceTask
from appliance.settings import Settings
from appliance.state_dir import StateDir
from appliance.voices.gate import VoiceGate
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import NewRecording, Recording
from appliance.workers.records import report_from_json


class SliceKind(JobKind):
    """See `slice_child` for the work itself."""

    def __init__(self, recordings: RecordingStore, gate: VoiceGate | None, settings: Settings) -> None:
        """`gate` None: a program that works alone and takes no recordings in."""
        self._recordings = recordings
        self._gate = gate
        self._settings = settings
        self._state = StateDir(settings.state_dir)

    async def prepare(self, tenant: str, request: SliceRequest) -> JsonDict:
        """The `spec` of a job; the long recording is filed untouched, as one that is not trained on itself."""
        report = QualityReport(False, (Reason("recording_is_source"),), (), {})
        new = NewRecording(request.path, request.filename, 0.0, 0, report, speaker=request.speaker)
        source = await self._admit(tenant, new)
        return {"recording": source.id, "speaker": request.speaker, "language": request.language}

    async def child_spec(self, job: Job) -> ChildSpec:
        source = await self._recordings.get(job.tenant, job.spec["recording"])
        settings, state = self._settings, self._state
        task = SliceTask(
            path=str(await self._recordings.path(source)),
            language=job.spec["language"],
            cache_dir=str(state.cache.absolute()),
            transcriber=settings.engine.transcriber,
            plugins=settings.plugins.model_dump(mode="json"),
            drop_in_dir=str((settings.plugins.drop_in_dir or state.plugins).absolute()),
            intake=settings.intake.model_dump(mode="json"),
        )
        return ChildSpec(
            kind=SLICE,
            job=job.id,
            job_dir=str((state.jobs / job.id).absolute()),
            threads=settings.clone.threads,
            nice=settings.clone.nice,
            socket=str(settings.clone.socket) if settings.clone.socket else None,
            task=task.as_json(),
        )

    async def require(self, job: Job) -> None:
        """Nothing that could be withdrawn meanwhile."""

    async def file(self, job: Job, outcome: JsonDict) -> JsonDict:
        """Every clip that passed becomes a recording; what was filed before a crash is not filed again.

        A clip of somebody who is protected is dropped, and the long recording with it. Raises
        Forbidden("voice_protected") when there is nobody else in it.
        """
        source = await self._recordings.get(job.tenant, job.spec["recording"])
        done = await self._recordings.derived_from(job.tenant, source.id)
        filed = {recording.lineage["start_s"]: recording.id for recording in done if "start_s" in recording.lineage}
        protected: Forbidden | None = None
        for clip in outcome["clips"]:
            if clip["start_s"] not in filed:
                new = await asyncio.to_thread(_new_recording, job, source, clip)
                try:
                    filed[clip["start_s"]] = (await self._admit(job.tenant, new)).id
                except Forbidden as error:
                    protected = error
        ids = [filed[clip["start_s"]] for clip in outcome["clips"] if clip["start_s"] in filed]
        if protected is not None:
            await self._recordings.delete(job.tenant, source.id)
            if not ids:
                raise protected
        dropped = outcome["dropped"] | ({protected.code: len(outcome["clips"]) - len(ids)} if protected else {})
        return {"source": source.id, "recordings": ids, "duration_s": outcome["duration_s"], "dropped": dropped}

    async def _admit(self, tenant: str, new: NewRecording) -> Recording:
        if self._gate is None:
            raise Unavailable("gate_missing")
        return await self._gate.admit(tenant, new)


def _new_recording(job: Job, source: Recording, clip: JsonDict) -> NewRecording:
    report = report_from_json(clip["report"])
    place = {key: clip[key] for key in ("start_s", "end_s", "derivation")}
    return NewRecording(
        source=Path(clip["path"]),
        filename=f"{Path(source.filename).stem}-{clip['start_s']:.1f}s.wav",
        duration_s=float(report.measures["duration_s"]),
        sample_rate=int(report.measures["sample_rate"]),
        report=report,
        transcript=clip["transcript"],
        language=clip["language"],
        transcript_source="asr" if clip["transcript"] else "",
        speaker=job.spec["speaker"],
        lineage={"recording": source.id, "job": job.id, **place},
    )
