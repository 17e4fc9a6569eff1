"""Tables of what voices are made from: recordings, reading sessions, datasets."""

from __future__ import annotations

RECORDINGS = """
CREATE TABLE recordings (
    tenant TEXT NOT NULL, id TEXT NOT NULL, sha256 TEXT NOT NULL, filename TEXT NOT NULL,
    duration_s REAL NOT NULL, sample_rate INTEGER NOT NULL,
    accepted INTEGER NOT NULL, report TEXT NOT NULL,
    transcript TEXT NOT NULL, language TEXT NOT NULL, transcript_source TEXT NOT NULL, speaker TEXT NOT NULL,
    created_at TEXT NOT NULL, deleted_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

DATASETS = """
CREATE TABLE datasets (
    tenant TEXT NOT NULL, id TEXT NOT NULL, digest TEXT NOT NULL, clips TEXT NOT NULL, stats TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id), UNIQUE (tenant, digest)
) STRICT"""

SESSIONS = """
CREATE TABLE recording_sessions (
    tenant TEXT NOT NULL, id TEXT NOT NULL, speaker TEXT NOT NULL, language TEXT NOT NULL, sheet TEXT NOT NULL,
    prompts TEXT NOT NULL,  -- as they were when it began: a later release may have other sheets
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

SURVEYS = """
CREATE TABLE dataset_surveys (
    tenant TEXT NOT NULL, dataset TEXT NOT NULL, survey TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, dataset),
    FOREIGN KEY (tenant, dataset) REFERENCES datasets (tenant, id)
) STRICT"""

COLLECTING = (
    "ALTER TABLE recordings ADD COLUMN lineage TEXT NOT NULL DEFAULT '{}'",  # what it was cut or cleaned from
    "ALTER TABLE recordings ADD COLUMN session TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE recordings ADD COLUMN prompt TEXT NOT NULL DEFAULT ''",  # id of the prompt that was read
    "CREATE INDEX recordings_by_session ON recordings (tenant, session)",
    "ALTER TABLE alias_moves ADD COLUMN kind TEXT NOT NULL DEFAULT 'promote'",
    "ALTER TABLE alias_moves ADD COLUMN actor TEXT NOT NULL DEFAULT ''",  # who asked; empty: the box itself
    SESSIONS,
    SURVEYS,
)
