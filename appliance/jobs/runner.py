"""Runs jobs, one at a time, each in a child process, and takes them up again after a crash or a restart.

The daemon only reads lines and moves rows. A child that dies without a word is started again (the engine goes on from
its last checkpoint); one that dies in the same place again and again fails the job with its reason. Stopping the daemon
puts the job back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

from appliance.contracts import JsonDict, Progress
from appliance.database import Database
from appliance.errors import Forbidden, StorageFull, VoicedError, error_from_record, error_record
from appliance.jobs.artifacts import Sample
from appliance.jobs.bases import BaseWeights
from appliance.jobs.cloning import CloneKind, CloneRooms
from appliance.jobs.filing import Filing
from appliance.jobs.folders import JobFolders
from appliance.jobs.importing import ImportKind
from appliance.jobs.kinds import JobKind
from appliance.jobs.listeners import Listeners
from appliance.jobs.optimizing import OptimizeKind
from appliance.jobs.process import ChildProcess, Ended, start_child
from appliance.jobs.queue import JobQueue
from appliance.jobs.records import (
    CANCELLED,
    CLONE,
    DONE,
    FAILED,
    IMPORT,
    OPTIMIZE,
    SLICE,
    ChildSpec,
    CloneRequest,
    ImportRequest,
    Job,
    OptimizeRequest,
    SliceRequest,
)
from appliance.jobs.slicing import SliceKind
from appliance.paging import DEFAULT_LIMIT, Page
from appliance.security.audit import append_entry
from appliance.settings import Settings
from appliance.state_dir import StateDir
from appliance.voices.blobs import BlobStore
from appliance.voices.consents import ConsentStore
from appliance.voices.datasets import DatasetStore
from appliance.voices.gate import VoiceGate
from appliance.voices.models import ModelStore
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import new_id
from appliance.voices.registry import VoiceRegistry

log = logging.getLogger(__name__)

MAX_STUCK = 3  # deaths in a row at one place after which a job is started again; after one more it fails
RECORD_EVERY_S = 0.5  # progress goes to the row no faster than this
WATCH_EVERY_S = 2.0  # consent is looked at again while a job runs, and listeners look at the row
FULL_DISK_RETRY_S = 30.0
WITHDRAWN_GRACE_S = 1.0  # nothing has to be kept of a clone that nobody may make


class JobRunner:
    """The jobs of the box. `start` and `stop` frame its life; everything else may be called from any task."""

    def __init__(
        self,
        db: Database,
        registry: VoiceRegistry,
        recordings: RecordingStore,
        blobs: BlobStore,
        settings: Settings,
        gate: VoiceGate | None = None,
    ) -> None:
        self._queue = JobQueue(db)
        state = StateDir(settings.state_dir)
        self._folders = JobFolders(state.jobs)
        self.models = ModelStore(db, blobs)
        self.registry = registry
        consents = ConsentStore(db, append_entry, settings.consent.floor)
        filing, base = Filing(registry, blobs, consents, settings.clone), BaseWeights(self.models, blobs)
        rooms = CloneRooms(registry, recordings, consents, DatasetStore(db, blobs.vault), filing, base, gate)
        self._cloning = CloneKind(rooms, settings)
        self._importing = ImportKind(self.models, state, settings.clone)
        self._slicing = SliceKind(recordings, gate, settings)
        self._optimizing = OptimizeKind(self.models, registry, blobs, settings)
        self._kinds: dict[str, JobKind] = {
            CLONE: self._cloning,
            IMPORT: self._importing,
            SLICE: self._slicing,
            OPTIMIZE: self._optimizing,
        }
        self._wake = asyncio.Event()
        self._listeners = Listeners()
        self._working: asyncio.Task[None] | None = None
        self._child: tuple[str, ChildProcess] | None = None  # (job id, process)
        self._gives_way = False  # whether the running job may be interrupted by one that somebody asked for
        self._full_disk_retry_s = FULL_DISK_RETRY_S

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Put back what a previous daemon left running, sweep old folders, begin to work."""
        waiting = await self._queue.recover()
        if waiting:
            log.info("%d interrupted jobs wait to be taken up again", waiting)
        keep = await self._queue.unfinished()
        await asyncio.to_thread(self._folders.sweep, keep)
        self._working = asyncio.create_task(self._work(), name="jobs")

    async def stop(self) -> None:
        """End the running child; its job goes on after the next start. Idempotent."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
            self._working = None

    # ------------------------------------------------------------ for doors

    async def submit_clone(self, tenant: str, request: CloneRequest) -> Job:
        """Queue a clone of the speaker of these recordings.

        Raises InvalidInput (voice_id_invalid, language_unknown, steps_out_of_range, dataset_empty, dataset_too_short,
        dataset_mixed_speakers), NotFound (recording_not_found), Forbidden (consent_…, starter_voice_protected), Busy.
        """
        return await self._add(tenant, CLONE, await self._cloning.prepare(tenant, request))

    async def submit_slice(self, tenant: str, request: SliceRequest) -> Job:
        """Keep a long recording and queue its cutting into clips. Raises StorageFull, Busy."""
        return await self._add(tenant, SLICE, await self._slicing.prepare(tenant, request))

    async def submit_import(self, tenant: str, request: ImportRequest) -> Job:
        """Queue the import of weights.

        Raises InvalidInput (model_file_not_found, licence_invalid), StorageFull, Busy.
        """
        job_id = new_id("job")
        spec = await asyncio.to_thread(self._importing.prepare, request, job_id)
        try:
            return await self._add(tenant, IMPORT, spec, job_id)
        except VoicedError:
            await self._importing.discard(job_id)
            raise

    async def submit_optimize(self, tenant: str, request: OptimizeRequest) -> Job:
        """Queue the preparation of weights for the backends of this box; one that waits already is not queued twice.

        Raises NotFound (model_not_imported, voice_not_found, version_not_found), InvalidInput("optimise_nothing"),
        Busy.
        """
        spec = await self._optimizing.prepare(tenant, request)
        return await self._queue.waiting_like(tenant, OPTIMIZE, spec) or await self._add(tenant, OPTIMIZE, spec)

    async def _add(self, tenant: str, kind: str, spec: JsonDict, job_id: str = "") -> Job:
        job = await self._queue.add(tenant, kind, spec, job_id)
        self._wake.set()
        if kind != OPTIMIZE and self._gives_way and self._child is not None:
            await self._child[1].stop()  # what it has exported stays; it goes on when nobody waits
        return job

    async def finish(self, job: Job) -> Job:
        """Run this one job to its end, here and now: for a program that works alone, without `start`."""
        while (claimed := await self._queue.claim(job)) is not None:
            await self._run(claimed)
        return await self._queue.get(job.tenant, job.id)

    async def get(self, tenant: str, job_id: str) -> Job:
        """Raises NotFound("job_not_found")."""
        return await self._queue.get(tenant, job_id)

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Job]:
        """Newest first."""
        return await self._queue.list(tenant, cursor, limit)

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """Stop a job; the row says so within seconds. A job that has ended stays as it ended. Raises NotFound."""
        job = await self._queue.ask_to_cancel(tenant, job_id)
        self._listeners.tell(job_id)
        if job.is_cancelling and self._child is not None and self._child[0] == job_id:
            await self._child[1].stop()
        return await self._queue.get(tenant, job_id)

    async def pause(self, tenant: str, job_id: str) -> Job:
        """Let a job rest: a running one ends its child and keeps its checkpoint. Raises NotFound, Conflict."""
        job = await self._queue.ask_to_pause(tenant, job_id)
        self._listeners.tell(job_id)
        if job.is_pausing and self._child is not None and self._child[0] == job_id:
            await self._child[1].stop()
        return await self._queue.get(tenant, job_id)

    async def resume(self, tenant: str, job_id: str) -> Job:
        """A resting job waits for its turn again and goes on from its checkpoint. Raises NotFound, Conflict."""
        job = await self._queue.resume(tenant, job_id)
        self._listeners.tell(job_id)
        self._wake.set()
        return job

    async def withdraw(self, tenant: str, ended: Mapping[str, frozenset[str]]) -> None:
        """Consents ended: waiting, resting and running jobs that are not allowed any more fail. See `consent_watch`."""
        for job in await self._queue.open_jobs(tenant):
            if job.spec.get("voice") not in ended:
                continue
            try:
                await self._kinds[job.kind].require(job)
            except Forbidden as error:
                await self._queue.end(job, FAILED, error=error_record(error))
                self._listeners.tell(job.id)
                if self._child is not None and self._child[0] == job.id:
                    await self._child[1].stop(WITHDRAWN_GRACE_S)
                else:
                    await asyncio.to_thread(self._folders.clear, job.id, keeps_samples=False)

    async def curves(self, tenant: str, job_id: str) -> tuple[JsonDict, ...]:
        """What the trainer measured, step by step; see `artifacts.read_curves`. Raises NotFound("job_not_found")."""
        job = await self._queue.get(tenant, job_id)
        return await asyncio.to_thread(self._folders.curves, job.id)

    async def samples(self, tenant: str, job_id: str) -> tuple[Sample, ...]:
        """What the voice sounded like as it learnt, oldest first. Raises NotFound("job_not_found")."""
        job = await self._queue.get(tenant, job_id)
        return await asyncio.to_thread(self._folders.samples, job.id)

    async def sample(self, tenant: str, job_id: str, name: str) -> Path:
        """One of `samples`, as a file. Raises NotFound("job_not_found" | "job_sample_not_found")."""
        job = await self._queue.get(tenant, job_id)
        return await asyncio.to_thread(self._folders.sample, job.id, name)

    async def events(self, tenant: str, job_id: str) -> AsyncIterator[Job]:
        """The row now and after every change, the last time when it has ended. Raises NotFound("job_not_found")."""
        last = ""
        with self._listeners.of(job_id) as changed:
            while True:
                changed.clear()
                job = await self._queue.get(tenant, job_id)
                if f"{job.state} {job.changed_at}" != last:
                    last = f"{job.state} {job.changed_at}"
                    yield job
                if job.has_ended:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), WATCH_EVERY_S)

    # ------------------------------------------------------------ work

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                while (job := await self._queue.claim()) is not None:
                    self._listeners.tell(job.id)
                    await self._run(job)
                await self._wake.wait()
            except VoicedError as error:  # the disk is full, say: jobs wait, the box goes on
                log.warning("jobs pause: %s", error)
                await asyncio.sleep(self._full_disk_retry_s)

    async def _run(self, job: Job) -> None:
        """One child's life; the row has left `running` afterwards, whatever happened."""
        try:
            ended = await self._attend(job, await self._kinds[job.kind].child_spec(job))
            await self._settle(job, ended)
        except asyncio.CancelledError:
            await asyncio.shield(self._queue.requeue(job))
            raise
        except StorageFull:
            await self._wait_for_space(job)
        except VoicedError as error:
            await self._fail(job, error)
        except Exception as error:
            log.exception("job %s failed", job.id)
            await self._fail(job, error)
        finally:
            self._listeners.tell(job.id)

    async def _fail(self, job: Job, error: Exception) -> None:
        """Written as soon as the disk takes it: a job that stayed "running" would never be looked at again."""
        while True:
            try:
                await self._queue.end(job, FAILED, error=error_record(error))
                return
            except StorageFull:
                log.warning("the end of job %s is not written yet: the disk is full", job.id)
                await asyncio.sleep(self._full_disk_retry_s)

    async def _attend(self, job: Job, spec: ChildSpec) -> Ended:
        """Start the child, keep the row up to date, and see it out."""
        word: JsonDict | None = None
        unrecorded: JsonDict | None = None  # the last progress, where it came too soon after another
        recorded = 0.0
        async with start_child(spec) as child:
            self._child, self._gives_way = (job.id, child), job.kind == OPTIMIZE
            watching = asyncio.create_task(self._watch(job, child))
            try:
                async with aclosing(child.lines()) as lines:
                    async for line in lines:
                        if line.get("event") != "progress":
                            word = line
                        elif time.monotonic() - recorded >= RECORD_EVERY_S:
                            recorded, unrecorded = time.monotonic(), None
                            await self._record(job, line)
                        else:
                            unrecorded = line
                if unrecorded is not None:
                    await self._record(job, unrecorded)
                status, was_stopped = await child.wait(), child.is_stopped
            finally:
                self._child = None
                watching.cancel()
        row = await self._queue.get(job.tenant, job.id)
        return Ended(word, status, was_stopped, row.is_cancelling)

    async def _watch(self, job: Job, child: ChildProcess) -> None:
        """End the child when it was cancelled or paused meanwhile or what it needs was withdrawn."""
        while True:
            try:
                row = await self._queue.get(job.tenant, job.id)
                if not (row.is_cancelling or row.is_pausing):
                    await self._kinds[job.kind].require(job)
                    await asyncio.sleep(WATCH_EVERY_S)
                    continue
            except Forbidden as error:
                try:
                    await self._queue.end(job, FAILED, error=error_record(error))
                except StorageFull:  # it is asked again before the job may go on
                    log.warning("job %s is stopped; that is not written yet: the disk is full", job.id)
                await child.stop(WITHDRAWN_GRACE_S)
            await child.stop()
            return

    async def _record(self, job: Job, line: JsonDict) -> None:
        progress = Progress(line["stage"], float(line["fraction"]), line["eta_s"], line["metrics"])
        try:
            await self._queue.record(job, progress)
        except StorageFull as error:
            log.warning("progress of %s not written: %s", job.id, error)
        self._listeners.tell(job.id)

    async def _settle(self, job: Job, ended: Ended) -> None:
        word, row = ended.word or {}, await self._queue.get(job.tenant, job.id)
        if ended.was_cancelled:
            await self._queue.end(job, CANCELLED)
        elif word.get("event") == "done":
            await self._kinds[job.kind].require(job)  # it may have been withdrawn in the last moment
            await self._queue.record(job, Progress("file", 0.99))
            result = await self._kinds[job.kind].file(job, word["result"])
            await self._queue.end(job, DONE, result=result)
        elif word.get("event") == "failed":
            if word["error"]["code"] == "storage_full":
                raise error_from_record(word["error"])
            await self._queue.end(job, FAILED, error=word["error"])
        elif row.has_ended:
            log.info("job %s was ended while it ran", job.id)
        elif ended.was_stopped:
            await self._queue.requeue(job)
            return
        elif row.fraction != row.died_at or row.stuck < MAX_STUCK:
            log.warning("the child of job %s died (status %d); it is started again", job.id, ended.status)
            await self._queue.requeue(job, crashed=True)
            return
        else:
            error = {"kind": "Unavailable", "code": "job_crashed", "measured": {"status": ended.status}}
            await self._queue.end(job, FAILED, error=error)
        row = await self._queue.get(job.tenant, job.id)
        await asyncio.to_thread(self._folders.clear, job.id, keeps_samples=row.state == DONE)
        if row.state == DONE and row.result is not None:
            await self._follow(row, row.result)

    async def _follow(self, job: Job, result: JsonDict) -> None:
        """Queue what a finished job leaves to be done; where it cannot be, a worker does it at first need."""
        for request in self._optimizing.requests_after(job, result):
            try:
                await self.submit_optimize(job.tenant, request)
            except VoicedError as error:
                log.warning("%s is not followed by %s: %s", job.id, OPTIMIZE, error)

    async def _wait_for_space(self, job: Job) -> None:
        """A full disk fails no job: it goes on from its checkpoint once something can be written again."""
        log.warning("job %s waits for space on the disk", job.id)
        await asyncio.sleep(self._full_disk_retry_s)
        while True:
            try:
                await self._queue.requeue(job, stage="storage_full")
                return
            except StorageFull:
                await asyncio.sleep(self._full_disk_retry_s)
