"""The queue of jobs in the database: every change of state is one transaction; what has ended stays as it ended."""

from __future__ import annotations

import json
import sqlite3

from appliance.contracts import JsonDict, Progress
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Busy, Conflict, NotFound
from appliance.events import Event
from appliance.jobs.records import CANCELLED, ENDED, PAUSED, QUEUED, RUNNING, UNFINISHED, Job
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.security.audit import append_entry
from appliance.security.quotas import check_jobs
from appliance.voices.records import clean_name, new_id, to_json

MAX_WAITING = 100  # jobs not yet begun, of all tenants: days of work for such a box


class JobQueue:
    """Rows of the table `jobs`. What clients ask for is scoped by tenant; only the runner sees all."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, tenant: str, kind: str, spec: JsonDict, job_id: str = "") -> Job:
        """File a job, under `job_id` where its folder had to be made first. Raises Busy("jobs_full" | "quota_jobs")."""

        def insert(db: sqlite3.Connection) -> Job:
            waiting = db.execute("SELECT count(*) FROM jobs WHERE state = ?", (QUEUED,)).fetchone()[0]
            if waiting >= MAX_WAITING:
                raise Busy("jobs_full", waiting=waiting, limit=MAX_WAITING, retry_after_s=600)
            check_jobs(db, tenant)
            now = utc_now()
            row = {
                "tenant": tenant,
                "id": name,
                "kind": kind,
                "state": QUEUED,
                "stage": QUEUED,
                "fraction": 0.0,
                "metrics": "{}",
                "spec": to_json(spec),
                "created_at": now,
                "changed_at": now,
            }
            insert_row(db, "jobs", row)
            append_entry(db, event)
            return _find(db, tenant, name)

        name = job_id or new_id("job")
        event = Event(tenant, f"{kind}.submit", voice=str(spec.get("voice", "")), subject=name)
        return await self._db.write(insert, durable=True)

    async def waiting_like(self, tenant: str, kind: str, spec: JsonDict) -> Job | None:
        """A job that waits to do just this."""
        query = "SELECT * FROM jobs WHERE tenant = ? AND kind = ? AND state = ? AND spec = ?"
        row = await self._db.read(lambda db: db.execute(query, (tenant, kind, QUEUED, to_json(spec))).fetchone())
        return None if row is None else _job(row)

    async def get(self, tenant: str, job_id: str) -> Job:
        """Raises NotFound("job_not_found")."""
        return await self._db.read(lambda db: _find(db, tenant, job_id))

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Job]:
        """Newest first."""
        listing = Listing("SELECT * FROM jobs", "tenant = ?", (tenant,), ("created_at", "id"), is_descending=True)
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _job))

    async def claim(self, only: Job | None = None) -> Job | None:
        """The job that has waited longest, or `only` this one, becomes running; None when none waits."""
        # what people asked for comes before what only makes the box faster
        query = (
            "SELECT * FROM jobs WHERE state = ? AND id = coalesce(?, id)"
            " ORDER BY kind = 'optimize', created_at, rowid LIMIT 1"
        )

        def take(db: sqlite3.Connection) -> Job | None:
            row = db.execute(query, (QUEUED, only.id if only else None)).fetchone()
            if row is None:
                return None
            now = utc_now()
            db.execute(
                "UPDATE jobs SET state = ?, started_at = coalesce(started_at, ?), changed_at = ?"
                " WHERE tenant = ? AND id = ?",
                (RUNNING, now, now, row["tenant"], row["id"]),
            )
            return _find(db, row["tenant"], row["id"])

        return await self._db.write(take, durable=True)

    async def record(self, job: Job, progress: Progress) -> None:
        """Where a running job is. Not durable: a power cut costs a moment of the display."""
        row = (progress.stage, progress.fraction, progress.eta_s, to_json(dict(progress.metrics)), utc_now())
        query = (
            "UPDATE jobs SET stage = ?, fraction = ?, eta_s = ?, metrics = ?, changed_at = ?"
            " WHERE tenant = ? AND id = ? AND state = 'running'"
        )
        await self._db.write(lambda db: db.execute(query, (*row, job.tenant, job.id)) and None)

    async def end(self, job: Job, state: str, *, result: JsonDict | None = None, error: JsonDict | None = None) -> Job:
        """Reach an end; a job that has ended already stays as it is."""

        def settle(db: sqlite3.Connection) -> Job:
            if not _find(db, job.tenant, job.id).has_ended:
                _end(db, job.tenant, job.id, state, result, error)
            return _find(db, job.tenant, job.id)

        return await self._db.write(settle, durable=True)

    async def requeue(self, job: Job, *, crashed: bool = False, stage: str = QUEUED) -> Job:
        """A running job waits again, at its old place; `crashed` is noted, `stage` says what it waits for.

        One that was cancelled meanwhile ends instead; one that was to pause is paused.
        """
        row = {"stage": stage, "now": utc_now(), "tenant": job.tenant, "id": job.id}
        crash = (
            "UPDATE jobs SET crashes = crashes + 1, stuck = CASE WHEN died_at = fraction THEN stuck + 1 ELSE 1 END,"
            " died_at = fraction WHERE tenant = :tenant AND id = :id AND state = 'running'"
        )
        query = (
            "UPDATE jobs SET state = CASE WHEN is_pausing THEN 'paused' ELSE 'queued' END,"
            " stage = CASE WHEN is_pausing THEN 'paused' ELSE :stage END, is_pausing = 0, eta_s = NULL,"
            " changed_at = :now WHERE tenant = :tenant AND id = :id AND state = 'running'"
        )

        def put_back(db: sqlite3.Connection) -> Job:
            found = _find(db, job.tenant, job.id)
            if found.is_cancelling and not found.has_ended:
                _end(db, job.tenant, job.id, CANCELLED, None, None)
            if crashed:
                db.execute(crash, row)
            db.execute(query, row)
            return _find(db, job.tenant, job.id)

        return await self._db.write(put_back, durable=True)

    async def ask_to_cancel(self, tenant: str, job_id: str) -> Job:
        """A waiting job ends now, a running one is marked for the runner, an ended one stays. Raises NotFound."""

        def mark(db: sqlite3.Connection) -> Job:
            job = _find(db, tenant, job_id)
            if job.state in {QUEUED, PAUSED}:
                _end(db, tenant, job_id, CANCELLED, None, None)
            elif job.state == RUNNING:
                query = "UPDATE jobs SET is_cancelling = 1, changed_at = ? WHERE tenant = ? AND id = ?"
                db.execute(query, (utc_now(), tenant, job_id))
            return _find(db, tenant, job_id)

        return await self._db.write(mark, durable=True)

    async def ask_to_pause(self, tenant: str, job_id: str) -> Job:
        """A waiting job rests now, a running one is marked for the runner. Raises NotFound, Conflict."""

        def mark(db: sqlite3.Connection) -> Job:
            job = _unfinished(db, tenant, job_id)
            if job.state == QUEUED:
                _set_state(db, job, PAUSED)
            elif job.state == RUNNING:
                query = "UPDATE jobs SET is_pausing = 1, changed_at = ? WHERE tenant = ? AND id = ?"
                db.execute(query, (utc_now(), tenant, job.id))
            return _find(db, tenant, job_id)

        return await self._db.write(mark, durable=True)

    async def resume(self, tenant: str, job_id: str) -> Job:
        """A paused job waits again, at its old place; one that was about to pause goes on. Raises as `ask_to_pause`."""

        def mark(db: sqlite3.Connection) -> Job:
            job = _unfinished(db, tenant, job_id)
            if job.state == PAUSED:
                _set_state(db, job, QUEUED)
            query = "UPDATE jobs SET is_pausing = 0, changed_at = ? WHERE tenant = ? AND id = ?"
            db.execute(query, (utc_now(), tenant, job.id))
            return _find(db, tenant, job_id)

        return await self._db.write(mark, durable=True)

    async def recover(self) -> int:
        """Once, before anything else: what ran when the box went down waits again; returns how many."""

        def repair(db: sqlite3.Connection) -> int:
            now = utc_now()
            db.execute(
                "UPDATE jobs SET state = ?, finished_at = ?, changed_at = ? WHERE state = 'running' AND is_cancelling",
                (CANCELLED, now, now),
            )
            query = "UPDATE jobs SET state = 'paused', stage = 'paused' WHERE state = 'running' AND is_pausing"
            db.execute(query)
            db.execute("UPDATE jobs SET is_pausing = 0 WHERE is_pausing")
            query = "UPDATE jobs SET state = 'queued', eta_s = NULL, changed_at = ? WHERE state = 'running'"
            return db.execute(query, (now,)).rowcount

        return await self._db.write(repair, durable=True)

    async def open_jobs(self, tenant: str) -> tuple[Job, ...]:
        """What has not ended, in the order in which it came."""
        query = "SELECT * FROM jobs WHERE tenant = ? AND state IN (?, ?, ?) ORDER BY created_at, rowid"
        rows = await self._db.read(lambda db: db.execute(query, (tenant, *UNFINISHED)).fetchall())
        return tuple(_job(row) for row in rows)

    async def unfinished(self) -> frozenset[str]:
        """Ids of the jobs that have not ended: their folders are needed."""
        query = "SELECT id FROM jobs WHERE state IN (?, ?, ?)"
        rows = await self._db.read(lambda db: db.execute(query, UNFINISHED).fetchall())
        return frozenset(row["id"] for row in rows)


def _end(
    db: sqlite3.Connection, tenant: str, job_id: str, state: str, result: JsonDict | None, error: JsonDict | None
) -> None:
    if state not in ENDED:
        raise ValueError(f"{state} is not an end")
    now = utc_now()
    db.execute(
        "UPDATE jobs SET state = :state, stage = :state, result = :result, error = :error, eta_s = NULL,"
        " fraction = CASE WHEN :state = 'done' THEN 1.0 ELSE fraction END, finished_at = :now, changed_at = :now"
        " WHERE tenant = :tenant AND id = :id",
        {
            "state": state,
            "result": None if result is None else to_json(result),
            "error": None if error is None else to_json(error),
            "now": now,
            "tenant": tenant,
            "id": job_id,
        },
    )


def _set_state(db: sqlite3.Connection, job: Job, state: str) -> None:
    """Between waiting and resting."""
    query = "UPDATE jobs SET state = ?, stage = ?, eta_s = NULL, changed_at = ? WHERE tenant = ? AND id = ?"
    db.execute(query, (state, state, utc_now(), job.tenant, job.id))


def _unfinished(db: sqlite3.Connection, tenant: str, job_id: str) -> Job:
    """Raises NotFound("job_not_found"), Conflict("job_has_ended")."""
    job = _find(db, tenant, job_id)
    if job.has_ended:
        raise Conflict("job_has_ended", job=job.id, state=job.state)
    return job


def _find(db: sqlite3.Connection, tenant: str, job_id: str) -> Job:
    row = db.execute("SELECT * FROM jobs WHERE tenant = ? AND id = ?", (tenant, clean_name(job_id))).fetchone()
    if row is None:
        raise NotFound("job_not_found", job=clean_name(job_id)[:80])
    return _job(row)


def _job(row: sqlite3.Row) -> Job:
    return Job(
        tenant=row["tenant"],
        id=row["id"],
        kind=row["kind"],
        state=row["state"],
        stage=row["stage"],
        fraction=row["fraction"],
        eta_s=row["eta_s"],
        metrics=json.loads(row["metrics"]),
        spec=json.loads(row["spec"]),
        result=None if row["result"] is None else json.loads(row["result"]),
        error=None if row["error"] is None else json.loads(row["error"]),
        crashes=row["crashes"],
        died_at=row["died_at"],
        stuck=row["stuck"],
        is_cancelling=bool(row["is_cancelling"]),
        is_pausing=bool(row["is_pausing"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        changed_at=row["changed_at"],
    )
