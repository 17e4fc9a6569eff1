"""Work on a state directory whose daemon is not running: the same rooms, the same lock, no door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from appliance.contracts import JsonDict
from appliance.database import open_database
from appliance.errors import NotFound
from appliance.jobs.records import ImportRequest, OptimizeRequest
from appliance.jobs.runner import JobRunner
from appliance.settings import Settings
from appliance.state_dir import open_state_dir
from appliance.vault.room import open_vault
from appliance.voices.blobs import BlobStore
from appliance.voices.models import Model, ModelStore
from appliance.voices.recordings import RecordingStore
from appliance.voices.registry import VoiceRegistry

T = TypeVar("T")


@dataclass(frozen=True)
class Alone:
    """Each call opens the box, holds its lock, and closes it again. Raises Conflict("state_dir_locked")."""

    settings: Settings
    language: str

    def import_models(self, paths: list[Path], licence: str) -> JsonDict:
        """The job's row after its end; the files are read where they lie, in a child without network."""

        async def work(jobs: JobRunner) -> JsonDict:
            request = ImportRequest(tuple(path.absolute() for path in paths), licence)
            job = await jobs.finish(await jobs.submit_import(self.settings.tenant, request))
            return job.as_json(self.language)

        return self._run(work)

    def list_models(self) -> list[JsonDict]:
        async def work(jobs: JobRunner) -> list[JsonDict]:
            rows: list[JsonDict] = []
            cursor: str | None = None
            while True:
                page = await jobs.models.list(self.settings.tenant, cursor)
                rows += [model.as_json() for model in page.items]
                cursor = page.next
                if cursor is None:
                    return rows

        return self._run(work)

    def get_model(self, spec: str) -> JsonDict:
        return self._with_models(lambda models: models.get(self.settings.tenant, spec))

    def optimize(self, spec: str, backends: Sequence[str]) -> JsonDict:
        """The row of the job for the model of this id or name, or for the voice, after its end."""

        async def work(jobs: JobRunner) -> JsonDict:
            tenant, asked = self.settings.tenant, tuple(backends)
            try:
                job = await jobs.submit_optimize(tenant, OptimizeRequest((spec,), backends=asked))
            except NotFound as error:
                try:
                    job = await jobs.submit_optimize(tenant, OptimizeRequest(voice=spec, backends=asked))
                except NotFound as other:
                    raise (error if other.code == "voice_not_found" else other) from other
            return (await jobs.finish(job)).as_json(self.language)

        return self._run(work)

    def verify_model(self, spec: str) -> JsonDict:
        return self._with_models(lambda models: models.verify(self.settings.tenant, spec))

    def remove_model(self, spec: str) -> JsonDict:
        return self._with_models(lambda models: models.remove(self.settings.tenant, spec))

    def _with_models(self, work: Callable[[ModelStore], Awaitable[Model]]) -> JsonDict:
        async def call(jobs: JobRunner) -> JsonDict:
            return (await work(jobs.models)).as_json()

        return self._run(call)

    def _run(self, work: Callable[[JobRunner], Awaitable[T]]) -> T:
        async def call() -> T:
            async with _open(self.settings) as jobs:
                return await work(jobs)

        return asyncio.run(call())


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[JobRunner]:
    with open_state_dir(settings.state_dir) as state, open_vault(state, settings.security) as vault:
        async with open_database(state.database) as db:
            blobs = BlobStore(state.blobs, vault)
            yield JobRunner(db, VoiceRegistry(db, blobs), RecordingStore(db, blobs), blobs, settings)
