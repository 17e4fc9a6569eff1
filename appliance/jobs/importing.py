"""Import jobs on the daemon's side: received files become the job's own, what the child converted becomes models."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from appliance.contracts import JsonDict
from appliance.errors import InvalidInput, StorageFull
from appliance.jobs.kinds import JobKind
from appliance.jobs.records import IMPORT, ChildSpec, ImportRequest, ImportTask, Job
from appliance.settings import CloneSettings
from appliance.state_dir import StateDir
from appliance.voices.models import Model, ModelStore, NewModel

UPLOAD = "upload"  # folder of received files in the job's folder


class ImportKind(JobKind):
    """Weights come in; see `import_child` for the work itself."""

    def __init__(self, models: ModelStore, state: StateDir, limits: CloneSettings) -> None:
        self._models = models
        self._state = state
        self._limits = limits

    def prepare(self, request: ImportRequest, job_id: str) -> JsonDict:
        """The `spec` of a job to be filed as `job_id`; received files move into its folder.

        Raises InvalidInput (model_file_not_found, licence_invalid), StorageFull.
        """
        if len(request.licence) > 100:
            raise InvalidInput("licence_invalid", characters=len(request.licence))
        for path in request.paths:
            if not path.exists():
                raise InvalidInput("model_file_not_found", path=path.name)
        if request.upload is None:
            return {"paths": [str(path.absolute()) for path in request.paths], "licence": request.licence}
        folder = self._state.jobs / job_id
        try:
            folder.mkdir(parents=True, mode=0o700)
            request.upload.rename(folder / UPLOAD)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise StorageFull("storage_full", path=str(folder), free_mb=0) from error
        return {"upload": sorted(path.name for path in (folder / UPLOAD).iterdir()), "licence": request.licence}

    async def child_spec(self, job: Job) -> ChildSpec:
        folder = (self._state.jobs / job.id).absolute()
        names = job.spec.get("upload")
        paths = job.spec["paths"] if names is None else [str(folder / UPLOAD / name) for name in names]
        return ChildSpec(
            kind=IMPORT,
            job=job.id,
            job_dir=str(folder),
            threads=1,
            nice=self._limits.nice,
            # a unit of its own sees the state directory only: not a folder that somebody named on the command line
            socket=str(self._limits.socket) if self._limits.socket and names is not None else None,
            task=ImportTask(tuple(paths)).as_json(),
        )

    async def require(self, job: Job) -> None:
        """Nothing that could be withdrawn meanwhile."""

    async def file(self, job: Job, outcome: JsonDict) -> JsonDict:
        """All models or none."""
        found = [_new_model(row, job.spec["licence"]) for row in outcome["models"]]
        models = await self._models.add_all(job.tenant, found)
        return {"models": [_told(model) for model in models], "skipped": outcome["skipped"]}

    async def discard(self, job_id: str) -> None:
        """The folder of a job that could not be filed."""
        await asyncio.to_thread(shutil.rmtree, self._state.jobs / job_id, ignore_errors=True)


def _new_model(row: JsonDict, licence: str) -> NewModel:
    files = {role: Path(path) for role, path in row["files"].items()}
    return NewModel(**row | {"files": files, "licence": licence or row["licence"]})


def _told(model: Model) -> JsonDict:
    return {"id": model.id, "name": model.name, "kind": model.kind, "version": model.version, "report": model.report}


def paths_of_upload(folder: Path) -> Sequence[Path]:
    """What lies at the top of a received folder."""
    return tuple(sorted(folder.iterdir()))
