"""Optimize jobs on the daemon's side: imported and fine-tuned weights become networks for the backends of this box.

They follow imports and fine-tunes by themselves. The voices speak meanwhile; what the child writes is the cache, whose
folders appear whole, and a worker takes them up between two requests.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits.pairing import ENGINE, EXPORTED
from appliance.errors import InvalidInput
from appliance.jobs.kinds import JobKind
from appliance.jobs.records import CLONE, IMPORT, OPTIMIZE, ChildSpec, Job, OptimizeRequest, OptimizeTask
from appliance.settings import Settings
from appliance.state_dir import StateDir
from appliance.voices.blobs import BlobStore
from appliance.voices.models import Model, ModelStore
from appliance.voices.registry import VoiceRegistry


class OptimizeKind(JobKind):
    """See `optimize_child` for the work itself."""

    def __init__(self, models: ModelStore, registry: VoiceRegistry, blobs: BlobStore, settings: Settings) -> None:
        self._models = models
        self._registry = registry
        self._blobs = blobs
        self._settings = settings
        self._state = StateDir(settings.state_dir)

    async def prepare(self, tenant: str, request: OptimizeRequest) -> JsonDict:
        """The `spec` of a job.

        Raises NotFound (model_not_imported, voice_not_found, version_not_found), InvalidInput("optimise_nothing").
        """
        files: list[JsonDict] = []
        for spec in request.models:
            files += _of_model(await self._models.get(tenant, spec))
        if request.voice:
            files += _of_voice((await self._registry.resolve(tenant, request.voice)).files)
        if not files:
            raise InvalidInput("optimise_nothing", known=", ".join(EXPORTED))
        return {"voice": request.voice.partition("@")[0], "files": files, "backends": list(request.backends)}

    def requests_after(self, job: Job, result: JsonDict) -> Sequence[OptimizeRequest]:
        """What a job that has just ended leaves to be optimized."""
        if not self._settings.engine.optimise:
            return ()
        if job.kind == IMPORT:
            ids = tuple(model["id"] for model in result["models"] if model["kind"] in EXPORTED)
            return (OptimizeRequest(models=ids),) if ids else ()
        if job.kind == CLONE and job.spec["engine"] == ENGINE:
            return (OptimizeRequest(voice=result["spec"]),)
        return ()

    async def child_spec(self, job: Job) -> ChildSpec:
        settings, state = self._settings, self._state
        threads = settings.worker.threads or max(1, (os.cpu_count() or 1) // settings.worker.count)
        task = OptimizeTask(
            files=await asyncio.to_thread(self._located, job.spec["files"]),
            backends=tuple(job.spec["backends"] or settings.engine.backends),
            cache_dir=str(state.cache.absolute()),
            plugins=settings.plugins.model_dump(mode="json"),
            drop_in_dir=str((settings.plugins.drop_in_dir or state.plugins).absolute()),
        )
        return ChildSpec(
            kind=OPTIMIZE,
            job=job.id,
            job_dir=str((state.jobs / job.id).absolute()),
            threads=threads,  # as a worker has: what is fastest depends on it
            nice=settings.clone.nice,
            socket=str(settings.clone.socket) if settings.clone.socket else None,
            task=task.as_json(),
        )

    def _located(self, files: Sequence[JsonDict]) -> tuple[JsonDict, ...]:
        """Digests -> paths. Raises NotFound("blob_not_found") and what else `BlobStore.path` raises."""
        parts = ("weights", "config")
        return tuple(
            row | {part: str(self._blobs.path(row[part]).absolute()) for part in parts if row[part]} for row in files
        )

    async def require(self, job: Job) -> None:
        """Nothing that could be withdrawn meanwhile."""

    async def file(self, job: Job, outcome: JsonDict) -> JsonDict:
        """The cache holds it already."""
        return outcome


def _of_model(model: Model) -> list[JsonDict]:
    if model.kind not in EXPORTED:
        return []
    row = {"role": model.kind, "name": model.name, "weights": model.files["weights"]}
    return [row | {"config": model.files.get("config", "")}]


def _of_voice(files: Mapping[str, str]) -> list[JsonDict]:
    """By role, the large ones last: what a first sound waits for comes first."""
    return [
        {"role": role, "name": role, "weights": files[role], "config": files.get(f"{role}_config", "")}
        for role in EXPORTED
        if role in files
    ]
