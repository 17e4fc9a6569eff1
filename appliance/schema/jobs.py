"""The table of jobs."""

from __future__ import annotations

JOBS = """
CREATE TABLE jobs (
    tenant TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    stage TEXT NOT NULL, fraction REAL NOT NULL, eta_s REAL, metrics TEXT NOT NULL,
    spec TEXT NOT NULL, result TEXT, error TEXT,
    crashes INTEGER NOT NULL DEFAULT 0, is_cancelling INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL, started_at TEXT, finished_at TEXT, changed_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

JOBS_THAT_PAUSE = """
CREATE TABLE jobs_next (
    tenant TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'paused', 'done', 'failed', 'cancelled')),
    stage TEXT NOT NULL, fraction REAL NOT NULL, eta_s REAL, metrics TEXT NOT NULL,
    spec TEXT NOT NULL, result TEXT, error TEXT,
    crashes INTEGER NOT NULL DEFAULT 0,
    died_at REAL,  -- fraction at the last crash
    stuck INTEGER NOT NULL DEFAULT 0,  -- crashes in a row at that fraction
    is_cancelling INTEGER NOT NULL DEFAULT 0, is_pausing INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL, started_at TEXT, finished_at TEXT, changed_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

JOB_COLUMNS = """tenant, id, kind, state, stage, fraction, eta_s, metrics, spec, result, error, crashes, is_cancelling,
    created_at, started_at, finished_at, changed_at"""

FINISHED_JOBS_STAY = """
CREATE TRIGGER jobs_end_once BEFORE UPDATE OF state ON jobs
WHEN old.state IN ('done', 'failed', 'cancelled') AND new.state <> old.state
BEGIN SELECT RAISE(ABORT, 'a finished job stays finished'); END"""

PAUSING = (
    JOBS_THAT_PAUSE,
    f"INSERT INTO jobs_next ({JOB_COLUMNS}) SELECT {JOB_COLUMNS} FROM jobs",  # noqa: S608 (our own words)
    "DROP TABLE jobs",  # its trigger and indexes go with it
    "ALTER TABLE jobs_next RENAME TO jobs",
    FINISHED_JOBS_STAY,
    "CREATE INDEX jobs_by_time ON jobs (tenant, created_at, id)",
    "CREATE INDEX jobs_by_state ON jobs (state, created_at)",
)
