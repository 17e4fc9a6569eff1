"""Tables of voices: versions, aliases, consents, imported models, voiceprints, what was spoken."""

from __future__ import annotations

SPEAKERS = """
CREATE TABLE speakers (
    tenant TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

VOICES = """
CREATE TABLE voices (
    tenant TEXT NOT NULL, id TEXT NOT NULL,
    title TEXT NOT NULL, description TEXT NOT NULL, gender TEXT NOT NULL, languages TEXT NOT NULL,
    speaker TEXT NOT NULL DEFAULT '',
    origin TEXT NOT NULL CHECK (origin IN ('starter', 'own')),
    first_number INTEGER NOT NULL DEFAULT 1,  -- versions below belong to a deleted voice of the same id
    created_at TEXT NOT NULL, deleted_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

VERSIONS = """
CREATE TABLE voice_versions (
    tenant TEXT NOT NULL, voice TEXT NOT NULL, number INTEGER NOT NULL CHECK (number > 0),
    engine TEXT NOT NULL, files TEXT NOT NULL, settings TEXT NOT NULL, metrics TEXT NOT NULL, lineage TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, voice, number),
    FOREIGN KEY (tenant, voice) REFERENCES voices (tenant, id)
) STRICT"""

ALIASES = """
CREATE TABLE aliases (
    tenant TEXT NOT NULL, name TEXT NOT NULL, voice TEXT NOT NULL, number INTEGER NOT NULL, moved_at TEXT NOT NULL,
    PRIMARY KEY (tenant, name),
    FOREIGN KEY (tenant, voice, number) REFERENCES voice_versions (tenant, voice, number)
) STRICT"""

ALIAS_MOVES = """
CREATE TABLE alias_moves (
    sequence INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, voice TEXT NOT NULL,
    from_number INTEGER, to_number INTEGER, reason TEXT NOT NULL, moved_at TEXT NOT NULL
) STRICT"""

CONSENTS = """
CREATE TABLE consents (
    tenant TEXT NOT NULL, id TEXT NOT NULL, speaker TEXT NOT NULL, voice TEXT NOT NULL,
    purposes TEXT NOT NULL, statement TEXT NOT NULL, evidence TEXT NOT NULL,
    created_at TEXT NOT NULL, expires_at TEXT, revoked_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

RENDITIONS = """
CREATE TABLE renditions (
    tenant TEXT NOT NULL, id TEXT NOT NULL, sha256 TEXT NOT NULL, voice TEXT NOT NULL, number INTEGER NOT NULL,
    text TEXT NOT NULL, language TEXT NOT NULL, seed INTEGER NOT NULL, settings TEXT NOT NULL, marks TEXT NOT NULL,
    duration_s REAL NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

MODELS = """
CREATE TABLE models (
    tenant TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL,
    kind TEXT NOT NULL, version TEXT NOT NULL,
    files TEXT NOT NULL,  -- role -> digest: weights (safetensors), config (JSON)
    source_name TEXT NOT NULL, source_sha256 TEXT NOT NULL, source_bytes INTEGER NOT NULL,
    licence TEXT NOT NULL, info TEXT NOT NULL, report TEXT NOT NULL,
    created_at TEXT NOT NULL, removed_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

LEXICON = """
CREATE TABLE lexicon (
    tenant TEXT NOT NULL, language TEXT NOT NULL,
    word TEXT NOT NULL COLLATE NOCASE,  -- as in texts: Siobhan is SIOBHAN
    reading TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, language, word)
) STRICT"""

VOICEPRINTS = """
CREATE TABLE voiceprints (
    tenant TEXT NOT NULL, recording TEXT NOT NULL, model TEXT NOT NULL,
    pieces INTEGER NOT NULL, vectors BLOB NOT NULL,
    PRIMARY KEY (tenant, recording, model)
) STRICT"""

PROTECTED = """
CREATE TABLE protected_voices (
    tenant TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, model TEXT NOT NULL,
    pieces INTEGER NOT NULL, vectors BLOB NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

PROTECTED_PRINTS = """
CREATE TABLE protected_prints (  -- by other models than the one that ships
    tenant TEXT NOT NULL, voice TEXT NOT NULL, model TEXT NOT NULL,
    pieces INTEGER NOT NULL, vectors BLOB NOT NULL,
    PRIMARY KEY (tenant, voice, model)
) STRICT"""

PRINT_MODELS = """
CREATE TABLE print_models (
    id TEXT PRIMARY KEY, weights TEXT NOT NULL, voices INTEGER NOT NULL, cohort BLOB NOT NULL,
    slope REAL NOT NULL, offset REAL NOT NULL, created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID"""

REVIEWS = """
CREATE TABLE gate_reviews (
    tenant TEXT NOT NULL, id TEXT NOT NULL, voice TEXT NOT NULL, kind TEXT NOT NULL, other TEXT NOT NULL,
    score REAL NOT NULL, state TEXT NOT NULL CHECK (state IN ('waiting', 'allowed', 'denied')),
    created_at TEXT NOT NULL, decided_at TEXT, decided_by TEXT,
    PRIMARY KEY (tenant, id), UNIQUE (tenant, voice, kind, other)
) STRICT"""

CHALLENGES = """
CREATE TABLE consent_challenges (
    tenant TEXT NOT NULL, id TEXT NOT NULL, speaker TEXT NOT NULL, voice TEXT NOT NULL, purposes TEXT NOT NULL,
    language TEXT NOT NULL, digits TEXT NOT NULL, statement TEXT NOT NULL, expires_at TEXT,
    valid_until TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, used_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""
