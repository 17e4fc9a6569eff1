"""Tables of who may do what, and of who did it."""

from __future__ import annotations

# `tenant`, `voice`, … are read from the entry itself: there is no second copy that could be changed behind its hash
AUDIT = """
CREATE TABLE audit (
    idx INTEGER PRIMARY KEY, entry TEXT NOT NULL, link BLOB NOT NULL,
    tenant TEXT GENERATED ALWAYS AS (coalesce(json_extract(entry, '$.tenant'), '')) VIRTUAL,
    voice TEXT GENERATED ALWAYS AS (coalesce(json_extract(entry, '$.voice'), '')) VIRTUAL,
    subject TEXT GENERATED ALWAYS AS (coalesce(json_extract(entry, '$.subject'), '')) VIRTUAL,
    action TEXT GENERATED ALWAYS AS (json_extract(entry, '$.action')) VIRTUAL,
    at TEXT GENERATED ALWAYS AS (json_extract(entry, '$.at')) VIRTUAL
) STRICT"""

AUDIT_HEAD = """
CREATE TABLE audit_head (
    id INTEGER PRIMARY KEY CHECK (id = 0), size INTEGER NOT NULL, link BLOB NOT NULL, at TEXT NOT NULL
) STRICT"""

AUDIT_CHECKPOINTS = """
CREATE TABLE audit_checkpoints (
    size INTEGER NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('checkpoint', 'tombstone')),
    note TEXT NOT NULL, peaks BLOB NOT NULL,
    PRIMARY KEY (size, kind)
) STRICT, WITHOUT ROWID"""

AUDIT_RULES = (
    "CREATE INDEX audit_by_voice ON audit (tenant, voice)",
    "CREATE INDEX audit_by_subject ON audit (subject) WHERE subject <> ''",
    "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are immutable'); END",
    "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit WHEN old.idx >= "
    "coalesce((SELECT max(size) FROM audit_checkpoints WHERE kind = 'tombstone'), 0) "
    "BEGIN SELECT RAISE(ABORT, 'audit rows are immutable'); END",
)

TENANTS = """
CREATE TABLE tenants (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, quota TEXT NOT NULL, created_at TEXT NOT NULL, disabled_at TEXT
) STRICT, WITHOUT ROWID"""

PEOPLE = """
CREATE TABLE people (
    tenant TEXT NOT NULL, id TEXT NOT NULL, login TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL,
    password TEXT NOT NULL, created_at TEXT NOT NULL, disabled_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

TOKENS = """
CREATE TABLE tokens (
    tenant TEXT NOT NULL, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, role TEXT NOT NULL,
    voices TEXT NOT NULL, doors TEXT NOT NULL, digest TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL,
    expires_at TEXT, revoked_at TEXT, last_used_at TEXT, previous_digest TEXT NOT NULL, previous_until TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

QUOTA_USAGE = """
CREATE TABLE quota_usage (
    tenant TEXT NOT NULL, day TEXT NOT NULL, characters INTEGER NOT NULL,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID"""
