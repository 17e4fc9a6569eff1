"""Tables of scripts and where they are carried."""

from __future__ import annotations

SCRIPTS = """
CREATE TABLE scripts (
    tenant TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL,
    published INTEGER,  -- the publication that its channels carry
    created_at TEXT NOT NULL, deleted_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

SCRIPT_REVISIONS = """
CREATE TABLE script_revisions (
    tenant TEXT NOT NULL, script TEXT NOT NULL, number INTEGER NOT NULL CHECK (number > 0),
    lines TEXT NOT NULL, variables TEXT NOT NULL, voice TEXT NOT NULL, language TEXT NOT NULL,
    comment TEXT NOT NULL, author TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, script, number),
    FOREIGN KEY (tenant, script) REFERENCES scripts (tenant, id)
) STRICT"""

PUBLICATIONS = """
CREATE TABLE publications (
    tenant TEXT NOT NULL, script TEXT NOT NULL, number INTEGER NOT NULL CHECK (number > 0),
    kind TEXT NOT NULL CHECK (kind IN ('publish', 'rollback')), revision INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('rendering', 'delivering', 'published', 'failed')),
    lines TEXT NOT NULL, rendered INTEGER NOT NULL DEFAULT 0, to_render INTEGER NOT NULL,
    channels TEXT NOT NULL, error TEXT, author TEXT NOT NULL, created_at TEXT NOT NULL, finished_at TEXT,
    PRIMARY KEY (tenant, script, number),
    FOREIGN KEY (tenant, script) REFERENCES scripts (tenant, id)
) STRICT"""

CHANNELS = """
CREATE TABLE channels (
    tenant TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, settings TEXT NOT NULL,
    scripts TEXT NOT NULL,  -- ids of the scripts that go there; [] for all
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

PEERS = """
CREATE TABLE peers (
    tenant TEXT NOT NULL, uuid TEXT NOT NULL, name TEXT NOT NULL, url TEXT NOT NULL, public_key TEXT NOT NULL,
    authority TEXT NOT NULL,  -- PEM of its TLS; empty where it speaks plainly
    received INTEGER NOT NULL DEFAULT 0,  -- number of the last message from it
    paired_at TEXT NOT NULL,
    PRIMARY KEY (tenant, uuid)
) STRICT"""

DUBBINGS = """
CREATE TABLE dubbings (
    tenant TEXT NOT NULL, id TEXT NOT NULL, filename TEXT NOT NULL, voice TEXT NOT NULL, spec TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    spoken INTEGER NOT NULL DEFAULT 0, cues TEXT NOT NULL, track TEXT, duration_s REAL, error TEXT,
    created_at TEXT NOT NULL, finished_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""
