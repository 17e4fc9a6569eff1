"""Clone jobs on the daemon's side: who may be cloned, from what, and what becomes of the clone."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from appliance.contracts import JsonDict
from appliance.errors import Forbidden, InvalidInput, NotFound
from appliance.jobs.bases import BaseWeights, takes_base
from appliance.jobs.dataset import plan_dataset
from appliance.jobs.filing import Filing
from appliance.jobs.kinds import JobKind
from appliance.jobs.records import CLONE, ChildSpec, CloneRequest, CloneTask, Job
from appliance.settings import Settings
from appliance.state_dir import StateDir
from appliance.voices.consents import ConsentStore
from appliance.voices.datasets import DatasetStore
from appliance.voices.gate import VoiceGate
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import SPOKEN, Consent, Recording, is_voice_id
from appliance.voices.registry import VoiceRegistry

LANGUAGES = ("auto", "zh", "en", "ja")
MAX_STEPS = 10_000


@dataclass(frozen=True)
class CloneRooms:
    """What a clone is made of and filed in."""

    registry: VoiceRegistry
    recordings: RecordingStore
    consents: ConsentStore
    datasets: DatasetStore
    filing: Filing
    base: BaseWeights
    gate: VoiceGate | None  # None: a program that works alone and clones nothing


class CloneKind(JobKind):
    """See `clone_child` for the work itself."""

    def __init__(self, rooms: CloneRooms, settings: Settings) -> None:
        self._rooms = rooms
        self._settings = settings
        self._state = StateDir(settings.state_dir)

    async def prepare(self, tenant: str, request: CloneRequest) -> JsonDict:
        """The `spec` of a job. Raises as `JobRunner.submit_clone`."""
        _check(request)
        consent = await self._require_right(tenant, request.voice)
        recordings = await self._rooms.recordings.get_many(tenant, tuple(dict.fromkeys(request.recording_ids)))
        speaker, limits = _one_speaker(recordings), self._settings.clone
        if self._rooms.gate is not None:
            await self._rooms.gate.require(tenant, request.voice, speaker, recordings)
            if consent is not None and consent.strength == SPOKEN:
                evidence = await self._rooms.recordings.get(tenant, consent.evidence)
                await self._rooms.gate.require_evidence(tenant, consent.speaker, evidence, recordings)
        engine = request.engine or self._settings.engine.default
        base = await self._base(tenant, engine, request)
        plan = plan_dataset(recordings, limits.min_speech_s, denoise=limits.denoise)
        dataset = await self._rooms.datasets.add(tenant, plan.clips, plan.stats)
        return {
            "voice": request.voice,
            "title": request.title,
            "engine": engine,
            "language": request.language,
            "languages": plan.stats["languages"],
            "speaker": speaker,
            "recordings": [clip["recording"] for clip in plan.clips],
            "dataset": dataset.id,
            "steps": request.steps or (0 if base else self._settings.clone.steps),  # 0: as the engine plans
            "seed": request.seed,
            "base": base,
            "options": {"rank": request.rank} if base else {},
        }

    async def _base(self, tenant: str, engine: str, request: CloneRequest) -> dict[str, str]:
        """Raises as `BaseWeights.choose`, and InvalidInput("engine_takes_no_weights")."""
        if takes_base(engine):
            return await self._rooms.base.choose(tenant, request.base)
        if request.base:
            raise InvalidInput("engine_takes_no_weights", engine=engine[:80])
        return {}

    async def child_spec(self, job: Job) -> ChildSpec:
        dataset = await self._rooms.datasets.get(job.tenant, job.spec["dataset"])
        recordings = await self._rooms.recordings.get_many(
            job.tenant, job.spec["recordings"]
        )  # one may have been erased
        paths = {recording.id: str(await self._rooms.recordings.path(recording)) for recording in recordings}
        settings, state = self._settings, self._state
        task = CloneTask(
            cache_dir=str(state.cache.absolute()),
            engine=job.spec["engine"],
            backends=settings.engine.backends,
            transcriber=settings.engine.transcriber,
            plugins=settings.plugins.model_dump(mode="json"),
            drop_in_dir=str((settings.plugins.drop_in_dir or state.plugins).absolute()),
            clone=settings.clone.model_dump(mode="json"),
            clips=tuple(clip | {"path": paths[clip["recording"]]} for clip in dataset.clips),
            language=job.spec["language"],
            steps=job.spec["steps"],
            seed=job.spec["seed"],
            max_duration_s=settings.intake.max_duration_s,
            base=await self._rooms.base.files(job.tenant, job.spec.get("base", {})),
            options=job.spec.get("options", {}),
        )
        return ChildSpec(
            kind=CLONE,
            job=job.id,
            job_dir=str((state.jobs / job.id).absolute()),
            threads=settings.clone.threads,
            nice=settings.clone.nice,
            socket=str(settings.clone.socket) if settings.clone.socket else None,
            task=task.as_json(),
            memory_mb=settings.clone.max_memory_mb,
        )

    async def require(self, job: Job) -> None:
        """The speaker may withdraw the consent while the job runs."""
        await self._rooms.consents.require(job.tenant, job.spec["voice"], "clone")

    async def file(self, job: Job, outcome: JsonDict) -> JsonDict:
        return await self._rooms.filing.file(job, outcome)

    async def _require_right(self, tenant: str, voice: str) -> Consent | None:
        """A clone needs the speaker's consent, and never goes under the name of a starter voice."""
        with contextlib.suppress(NotFound):
            if (await self._rooms.registry.get_voice(tenant, voice)).origin == "starter":
                raise Forbidden("starter_voice_protected", voice=voice)
        return await self._rooms.consents.require(tenant, voice, "clone")


def _check(request: CloneRequest) -> None:
    if not is_voice_id(request.voice):
        raise InvalidInput("voice_id_invalid", voice=request.voice[:80])
    if request.language not in LANGUAGES:
        raise InvalidInput("language_unknown", language=request.language[:20], known=", ".join(LANGUAGES))
    if request.steps is not None and not 1 <= request.steps <= MAX_STEPS:
        raise InvalidInput("steps_out_of_range", steps=request.steps, highest=MAX_STEPS)


def _one_speaker(recordings: tuple[Recording, ...]) -> str:
    """Whose voice it is; empty when no recording says. Raises InvalidInput("dataset_mixed_speakers")."""
    speakers = sorted({recording.speaker for recording in recordings if recording.speaker})
    if len(speakers) > 1:
        raise InvalidInput("dataset_mixed_speakers", speakers=", ".join(speakers)[:200])
    return speakers[0] if speakers else ""
