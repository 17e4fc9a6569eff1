"""The tables of the box, as numbered migrations.

A migration that has shipped is never edited: a change is a new function at the end of `MIGRATIONS`. Every table that
holds somebody's data has a `tenant` column, which leads its primary key. Times are ISO 8601 text in UTC; JSON is text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

Step = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True)
class Migration:
    """One step from `number - 1` to `number`; runs inside a transaction of its own."""

    number: int
    name: str
    apply: Step


def _run(*statements: str) -> Step:
    """A step made of single statements (`executescript` would commit behind the migration's back)."""

    def apply(connection: sqlite3.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    return apply


_META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID"

_SPEAKERS = """
CREATE TABLE speakers (
    tenant TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

_VOICES = """
CREATE TABLE voices (
    tenant TEXT NOT NULL, id TEXT NOT NULL,
    title TEXT NOT NULL, description TEXT NOT NULL, gender TEXT NOT NULL, languages TEXT NOT NULL,
    speaker TEXT NOT NULL DEFAULT '',
    origin TEXT NOT NULL CHECK (origin IN ('starter', 'own')),
    first_number INTEGER NOT NULL DEFAULT 1,  -- versions below belong to a deleted voice of the same id
    created_at TEXT NOT NULL, deleted_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

_VERSIONS = """
CREATE TABLE voice_versions (
    tenant TEXT NOT NULL, voice TEXT NOT NULL, number INTEGER NOT NULL CHECK (number > 0),
    engine TEXT NOT NULL, files TEXT NOT NULL, settings TEXT NOT NULL, metrics TEXT NOT NULL, lineage TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, voice, number),
    FOREIGN KEY (tenant, voice) REFERENCES voices (tenant, id)
) STRICT"""

_ALIASES = """
CREATE TABLE aliases (
    tenant TEXT NOT NULL, name TEXT NOT NULL, voice TEXT NOT NULL, number INTEGER NOT NULL, moved_at TEXT NOT NULL,
    PRIMARY KEY (tenant, name),
    FOREIGN KEY (tenant, voice, number) REFERENCES voice_versions (tenant, voice, number)
) STRICT"""

_ALIAS_MOVES = """
CREATE TABLE alias_moves (
    sequence INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, voice TEXT NOT NULL,
    from_number INTEGER, to_number INTEGER, reason TEXT NOT NULL, moved_at TEXT NOT NULL
) STRICT"""

_RECORDINGS = """
CREATE TABLE recordings (
    tenant TEXT NOT NULL, id TEXT NOT NULL, sha256 TEXT NOT NULL, filename TEXT NOT NULL,
    duration_s REAL NOT NULL, sample_rate INTEGER NOT NULL,
    accepted INTEGER NOT NULL, report TEXT NOT NULL,
    transcript TEXT NOT NULL, language TEXT NOT NULL, transcript_source TEXT NOT NULL, speaker TEXT NOT NULL,
    created_at TEXT NOT NULL, deleted_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

_CONSENTS = """
CREATE TABLE consents (
    tenant TEXT NOT NULL, id TEXT NOT NULL, speaker TEXT NOT NULL, voice TEXT NOT NULL,
    purposes TEXT NOT NULL, statement TEXT NOT NULL, evidence TEXT NOT NULL,
    created_at TEXT NOT NULL, expires_at TEXT, revoked_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

_DATASETS = """
CREATE TABLE datasets (
    tenant TEXT NOT NULL, id TEXT NOT NULL, digest TEXT NOT NULL, clips TEXT NOT NULL, stats TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id), UNIQUE (tenant, digest)
) STRICT"""

_RENDITIONS = """
CREATE TABLE renditions (
    tenant TEXT NOT NULL, id TEXT NOT NULL, sha256 TEXT NOT NULL, voice TEXT NOT NULL, number INTEGER NOT NULL,
    text TEXT NOT NULL, language TEXT NOT NULL, seed INTEGER NOT NULL, settings TEXT NOT NULL, marks TEXT NOT NULL,
    duration_s REAL NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

_JOBS = """
CREATE TABLE jobs (
    tenant TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    stage TEXT NOT NULL, fraction REAL NOT NULL, eta_s REAL, metrics TEXT NOT NULL,
    spec TEXT NOT NULL, result TEXT, error TEXT,
    crashes INTEGER NOT NULL DEFAULT 0, is_cancelling INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL, started_at TEXT, finished_at TEXT, changed_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

_ANNOUNCEMENTS = """
CREATE TABLE announcements (
    tenant TEXT NOT NULL, id TEXT NOT NULL, text TEXT NOT NULL, voice TEXT NOT NULL, language TEXT NOT NULL,
    priority INTEGER NOT NULL, volume REAL, chime INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', repeated INTEGER NOT NULL DEFAULT 0,
    rendition TEXT, audio TEXT, duration_s REAL, max_age_s REAL, zone TEXT NOT NULL DEFAULT 'main',
    created_at TEXT NOT NULL, started_at TEXT, finished_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

_MODELS = """
CREATE TABLE models (
    tenant TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL,
    kind TEXT NOT NULL, version TEXT NOT NULL,
    files TEXT NOT NULL,  -- role -> digest: weights (safetensors), config (JSON)
    source_name TEXT NOT NULL, source_sha256 TEXT NOT NULL, source_bytes INTEGER NOT NULL,
    licence TEXT NOT NULL, info TEXT NOT NULL, report TEXT NOT NULL,
    created_at TEXT NOT NULL, removed_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

_LEXICON = """
CREATE TABLE lexicon (
    tenant TEXT NOT NULL, language TEXT NOT NULL,
    word TEXT NOT NULL COLLATE NOCASE,  -- as in texts: Siobhan is SIOBHAN
    reading TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, language, word)
) STRICT"""

# `tenant`, `voice`, … are read from the entry itself: there is no second copy that could be changed behind its hash
_AUDIT = """
CREATE TABLE audit (
    idx INTEGER PRIMARY KEY, entry TEXT NOT NULL, link BLOB NOT NULL,
    tenant TEXT GENERATED ALWAYS AS (coalesce(json_extract(entry, '$.tenant'), '')) VIRTUAL,
    voice TEXT GENERATED ALWAYS AS (coalesce(json_extract(entry, '$.voice'), '')) VIRTUAL,
    subject TEXT GENERATED ALWAYS AS (coalesce(json_extract(entry, '$.subject'), '')) VIRTUAL,
    action TEXT GENERATED ALWAYS AS (json_extract(entry, '$.action')) VIRTUAL,
    at TEXT GENERATED ALWAYS AS (json_extract(entry, '$.at')) VIRTUAL
) STRICT"""

_AUDIT_HEAD = """
CREATE TABLE audit_head (
    id INTEGER PRIMARY KEY CHECK (id = 0), size INTEGER NOT NULL, link BLOB NOT NULL, at TEXT NOT NULL
) STRICT"""

_AUDIT_CHECKPOINTS = """
CREATE TABLE audit_checkpoints (
    size INTEGER NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('checkpoint', 'tombstone')),
    note TEXT NOT NULL, peaks BLOB NOT NULL,
    PRIMARY KEY (size, kind)
) STRICT, WITHOUT ROWID"""

_AUDIT_RULES = (
    "CREATE INDEX audit_by_voice ON audit (tenant, voice)",
    "CREATE INDEX audit_by_subject ON audit (subject) WHERE subject <> ''",
    "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit rows are immutable'); END",
    "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit WHEN old.idx >= "
    "coalesce((SELECT max(size) FROM audit_checkpoints WHERE kind = 'tombstone'), 0) "
    "BEGIN SELECT RAISE(ABORT, 'audit rows are immutable'); END",
)

_SESSIONS = """
CREATE TABLE recording_sessions (
    tenant TEXT NOT NULL, id TEXT NOT NULL, speaker TEXT NOT NULL, language TEXT NOT NULL, sheet TEXT NOT NULL,
    prompts TEXT NOT NULL,  -- as they were when it began: a later release may have other sheets
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

_SURVEYS = """
CREATE TABLE dataset_surveys (
    tenant TEXT NOT NULL, dataset TEXT NOT NULL, survey TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, dataset),
    FOREIGN KEY (tenant, dataset) REFERENCES datasets (tenant, id)
) STRICT"""

_COLLECTING = (
    "ALTER TABLE recordings ADD COLUMN lineage TEXT NOT NULL DEFAULT '{}'",  # what it was cut or cleaned from
    "ALTER TABLE recordings ADD COLUMN session TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE recordings ADD COLUMN prompt TEXT NOT NULL DEFAULT ''",  # id of the prompt that was read
    "CREATE INDEX recordings_by_session ON recordings (tenant, session)",
    "ALTER TABLE alias_moves ADD COLUMN kind TEXT NOT NULL DEFAULT 'promote'",
    "ALTER TABLE alias_moves ADD COLUMN actor TEXT NOT NULL DEFAULT ''",  # who asked; empty: the box itself
    _SESSIONS,
    _SURVEYS,
)

_TENANTS = """
CREATE TABLE tenants (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, quota TEXT NOT NULL, created_at TEXT NOT NULL, disabled_at TEXT
) STRICT, WITHOUT ROWID"""

_PEOPLE = """
CREATE TABLE people (
    tenant TEXT NOT NULL, id TEXT NOT NULL, login TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL,
    password TEXT NOT NULL, created_at TEXT NOT NULL, disabled_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

_TOKENS = """
CREATE TABLE tokens (
    tenant TEXT NOT NULL, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, role TEXT NOT NULL,
    voices TEXT NOT NULL, doors TEXT NOT NULL, digest TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL,
    expires_at TEXT, revoked_at TEXT, last_used_at TEXT, previous_digest TEXT NOT NULL, previous_until TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

_QUOTA_USAGE = """
CREATE TABLE quota_usage (
    tenant TEXT NOT NULL, day TEXT NOT NULL, characters INTEGER NOT NULL,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID"""


_JOBS_THAT_PAUSE = """
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

_JOB_COLUMNS = """tenant, id, kind, state, stage, fraction, eta_s, metrics, spec, result, error, crashes, is_cancelling,
    created_at, started_at, finished_at, changed_at"""


_DELIVERIES = """
CREATE TABLE deliveries (
    tenant TEXT NOT NULL, announcement TEXT NOT NULL, zone TEXT NOT NULL,
    priority INTEGER NOT NULL, place INTEGER NOT NULL,  -- the order in which messages came
    state TEXT NOT NULL CHECK (state IN ('queued', 'playing', 'done', 'failed', 'cancelled', 'expired')),
    reason TEXT NOT NULL DEFAULT '', repeated INTEGER NOT NULL DEFAULT 0, preempted INTEGER NOT NULL DEFAULT 0,
    position_s REAL NOT NULL DEFAULT 0, started_at TEXT, finished_at TEXT,
    PRIMARY KEY (tenant, announcement, zone),
    FOREIGN KEY (tenant, announcement) REFERENCES announcements (tenant, id)
) STRICT"""

_ZONES = (
    _DELIVERIES,
    """INSERT INTO deliveries
    (tenant, announcement, zone, priority, place, state, reason, repeated, started_at, finished_at)
    SELECT tenant, id, zone, priority, rowid, CASE state WHEN 'rendering' THEN 'queued' ELSE state END, reason,
    repeated, started_at, finished_at FROM announcements""",
    *(f"ALTER TABLE announcements DROP COLUMN {gone}" for gone in ("repeated", "zone", "started_at", "finished_at")),
    "ALTER TABLE announcements ADD COLUMN repeats INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE announcements ADD COLUMN pause_s REAL NOT NULL DEFAULT 2",
    "ALTER TABLE announcements ADD COLUMN key TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE announcements ADD COLUMN interrupted TEXT NOT NULL DEFAULT 'restart'",
    "CREATE INDEX deliveries_by_turn ON deliveries (zone, state, priority DESC, place)",
    "CREATE INDEX deliveries_by_state ON deliveries (state)",
    "CREATE INDEX announcements_by_key ON announcements (tenant, key, state) WHERE key <> ''",
    # sounds that were made already: a sentence that is said again need not be made again
    """CREATE TABLE spoken (
        tenant TEXT NOT NULL, rendition TEXT NOT NULL, audio TEXT NOT NULL, duration_s REAL NOT NULL,
        made_at TEXT NOT NULL, PRIMARY KEY (tenant, rendition)
    ) STRICT""",
)
_SCRIPTS = """
CREATE TABLE scripts (
    tenant TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL,
    published INTEGER,  -- the publication that its channels carry
    created_at TEXT NOT NULL, deleted_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

_SCRIPT_REVISIONS = """
CREATE TABLE script_revisions (
    tenant TEXT NOT NULL, script TEXT NOT NULL, number INTEGER NOT NULL CHECK (number > 0),
    lines TEXT NOT NULL, variables TEXT NOT NULL, voice TEXT NOT NULL, language TEXT NOT NULL,
    comment TEXT NOT NULL, author TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, script, number),
    FOREIGN KEY (tenant, script) REFERENCES scripts (tenant, id)
) STRICT"""

_PUBLICATIONS = """
CREATE TABLE publications (
    tenant TEXT NOT NULL, script TEXT NOT NULL, number INTEGER NOT NULL CHECK (number > 0),
    kind TEXT NOT NULL CHECK (kind IN ('publish', 'rollback')), revision INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('rendering', 'delivering', 'published', 'failed')),
    lines TEXT NOT NULL, rendered INTEGER NOT NULL DEFAULT 0, to_render INTEGER NOT NULL,
    channels TEXT NOT NULL, error TEXT, author TEXT NOT NULL, created_at TEXT NOT NULL, finished_at TEXT,
    PRIMARY KEY (tenant, script, number),
    FOREIGN KEY (tenant, script) REFERENCES scripts (tenant, id)
) STRICT"""

_CHANNELS = """
CREATE TABLE channels (
    tenant TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, settings TEXT NOT NULL,
    scripts TEXT NOT NULL,  -- ids of the scripts that go there; [] for all
    created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

_PEERS = """
CREATE TABLE peers (
    tenant TEXT NOT NULL, uuid TEXT NOT NULL, name TEXT NOT NULL, url TEXT NOT NULL, public_key TEXT NOT NULL,
    authority TEXT NOT NULL,  -- PEM of its TLS; empty where it speaks plainly
    received INTEGER NOT NULL DEFAULT 0,  -- number of the last message from it
    paired_at TEXT NOT NULL,
    PRIMARY KEY (tenant, uuid)
) STRICT"""

_DUBBINGS = """
CREATE TABLE dubbings (
    tenant TEXT NOT NULL, id TEXT NOT NULL, filename TEXT NOT NULL, voice TEXT NOT NULL, spec TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    spoken INTEGER NOT NULL DEFAULT 0, cues TEXT NOT NULL, track TEXT, duration_s REAL, error TEXT,
    created_at TEXT NOT NULL, finished_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

_VOICEPRINTS = """
CREATE TABLE voiceprints (
    tenant TEXT NOT NULL, recording TEXT NOT NULL, model TEXT NOT NULL,
    pieces INTEGER NOT NULL, vectors BLOB NOT NULL,
    PRIMARY KEY (tenant, recording, model)
) STRICT"""

_PROTECTED = """
CREATE TABLE protected_voices (
    tenant TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, model TEXT NOT NULL,
    pieces INTEGER NOT NULL, vectors BLOB NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT"""

_PROTECTED_PRINTS = """
CREATE TABLE protected_prints (  -- by other models than the one that ships
    tenant TEXT NOT NULL, voice TEXT NOT NULL, model TEXT NOT NULL,
    pieces INTEGER NOT NULL, vectors BLOB NOT NULL,
    PRIMARY KEY (tenant, voice, model)
) STRICT"""

_PRINT_MODELS = """
CREATE TABLE print_models (
    id TEXT PRIMARY KEY, weights TEXT NOT NULL, voices INTEGER NOT NULL, cohort BLOB NOT NULL,
    slope REAL NOT NULL, offset REAL NOT NULL, created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID"""

_REVIEWS = """
CREATE TABLE gate_reviews (
    tenant TEXT NOT NULL, id TEXT NOT NULL, voice TEXT NOT NULL, kind TEXT NOT NULL, other TEXT NOT NULL,
    score REAL NOT NULL, state TEXT NOT NULL CHECK (state IN ('waiting', 'allowed', 'denied')),
    created_at TEXT NOT NULL, decided_at TEXT, decided_by TEXT,
    PRIMARY KEY (tenant, id), UNIQUE (tenant, voice, kind, other)
) STRICT"""

_CHALLENGES = """
CREATE TABLE consent_challenges (
    tenant TEXT NOT NULL, id TEXT NOT NULL, speaker TEXT NOT NULL, voice TEXT NOT NULL, purposes TEXT NOT NULL,
    language TEXT NOT NULL, digits TEXT NOT NULL, statement TEXT NOT NULL, expires_at TEXT,
    valid_until TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, used_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""


_SCHEDULES = (
    """CREATE TABLE schedules (
        tenant TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, rule TEXT NOT NULL, message TEXT NOT NULL,
        time_zone TEXT NOT NULL, if_missed TEXT NOT NULL CHECK (if_missed IN ('play', 'skip')), grace_s REAL NOT NULL,
        is_enabled INTEGER NOT NULL DEFAULT 1, decided_until TEXT NOT NULL,
        created_at TEXT NOT NULL, removed_at TEXT,
        PRIMARY KEY (tenant, id)
    ) STRICT""",
    """CREATE TABLE schedule_runs (
        tenant TEXT NOT NULL, schedule TEXT NOT NULL, due_at TEXT NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('played', 'missed')), reason TEXT NOT NULL,
        announcement TEXT NOT NULL, decided_at TEXT NOT NULL,
        PRIMARY KEY (tenant, schedule, due_at),
        FOREIGN KEY (tenant, schedule) REFERENCES schedules (tenant, id)
    ) STRICT""",
    """CREATE TABLE music (
        zone TEXT PRIMARY KEY, tenant TEXT NOT NULL, playlist TEXT NOT NULL, volume REAL NOT NULL,
        is_shuffled INTEGER NOT NULL, started_at TEXT NOT NULL
    ) STRICT""",
)


def immutable(table: str) -> tuple[str, str]:
    """Triggers that refuse to rewrite history, whoever asks: `TABLE_no_update`, `TABLE_no_delete`."""
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} rows are immutable'); END",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} rows are immutable'); END",
    )


_FINISHED_JOBS_STAY = """
CREATE TRIGGER jobs_end_once BEFORE UPDATE OF state ON jobs
WHEN old.state IN ('done', 'failed', 'cancelled') AND new.state <> old.state
BEGIN SELECT RAISE(ABORT, 'a finished job stays finished'); END"""

_PEER_ZONES = (
    "ALTER TABLE deliveries ADD COLUMN handed TEXT NOT NULL DEFAULT ''",  # what the box of a zone elsewhere has of it
    "ALTER TABLE peers ADD COLUMN zones TEXT NOT NULL DEFAULT '[]'",  # where it may announce; ["*"]: everywhere
    "ALTER TABLE peers ADD COLUMN most_priority TEXT NOT NULL DEFAULT 'normal'",
    """CREATE TABLE peer_lanes (
        tenant TEXT NOT NULL, peer TEXT NOT NULL, lane TEXT NOT NULL,
        received INTEGER NOT NULL,  -- number of the last message
        PRIMARY KEY (tenant, peer, lane), FOREIGN KEY (tenant, peer) REFERENCES peers (tenant, uuid) ON DELETE CASCADE
    ) STRICT""",
)

_SOUND_INDEXES = (
    "CREATE INDEX announcements_by_rendition ON announcements (tenant, rendition)",
    "CREATE INDEX announcements_by_sound ON announcements (audio)",
    "CREATE INDEX spoken_by_sound ON spoken (audio)",
    "CREATE INDEX renditions_by_sound ON renditions (sha256)",
)

_INDEXES = (
    "CREATE INDEX recordings_by_time ON recordings (tenant, created_at, id)",
    "CREATE INDEX recordings_by_digest ON recordings (sha256)",
    "CREATE INDEX consents_by_voice ON consents (tenant, voice)",
    "CREATE INDEX consents_by_speaker ON consents (tenant, speaker)",
    "CREATE INDEX renditions_by_time ON renditions (tenant, created_at, id)",
    "CREATE INDEX jobs_by_time ON jobs (tenant, created_at, id)",
    "CREATE INDEX jobs_by_state ON jobs (state, created_at)",
    "CREATE INDEX announcements_by_time ON announcements (tenant, created_at, id)",
    "CREATE INDEX announcements_by_state ON announcements (state, priority, created_at)",
)

_PAUSING = (
    _JOBS_THAT_PAUSE,
    f"INSERT INTO jobs_next ({_JOB_COLUMNS}) SELECT {_JOB_COLUMNS} FROM jobs",  # noqa: S608 (our own words)
    "DROP TABLE jobs",  # its trigger and indexes go with it
    "ALTER TABLE jobs_next RENAME TO jobs",
    _FINISHED_JOBS_STAY,
    "CREATE INDEX jobs_by_time ON jobs (tenant, created_at, id)",
    "CREATE INDEX jobs_by_state ON jobs (state, created_at)",
)

MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, "box", _run(_META)),
    Migration(
        2,
        "voices",
        _run(
            _SPEAKERS,
            _VOICES,
            _VERSIONS,
            _ALIASES,
            _ALIAS_MOVES,
            *immutable("voice_versions"),
            *immutable("alias_moves"),
        ),
    ),
    Migration(3, "recordings", _run(_RECORDINGS, _CONSENTS, _DATASETS, _RENDITIONS, *immutable("datasets"))),
    Migration(4, "work", _run(_JOBS, _ANNOUNCEMENTS, _FINISHED_JOBS_STAY)),
    Migration(5, "indexes", _run(*_INDEXES)),
    Migration(6, "models", _run(_MODELS, "CREATE INDEX models_by_time ON models (tenant, created_at, id)")),
    Migration(7, "lexicon", _run(_LEXICON)),
    Migration(8, "audit", _run(_AUDIT, _AUDIT_HEAD, _AUDIT_CHECKPOINTS, *_AUDIT_RULES)),
    Migration(9, "collecting", _run(*_COLLECTING)),
    Migration(10, "jobs that pause", _run(*_PAUSING)),
    Migration(11, "zones", _run(*_ZONES)),
    Migration(12, "access", _run(_TENANTS, _PEOPLE, _TOKENS, _QUOTA_USAGE)),
    Migration(
        13,
        "scripts",
        _run(
            _SCRIPTS,
            _SCRIPT_REVISIONS,
            _PUBLICATIONS,
            _CHANNELS,
            _PEERS,
            _DUBBINGS,
            *immutable("script_revisions"),
            "CREATE INDEX publications_by_state ON publications (state)",
            "CREATE INDEX dubbings_by_time ON dubbings (tenant, created_at, id)",
        ),
    ),
    Migration(14, "voiceprints", _run(_VOICEPRINTS, _PROTECTED, _REVIEWS)),
    Migration(15, "schedules", _run(*_SCHEDULES)),
    Migration(
        16,
        "spoken consents",
        _run(_CHALLENGES, "ALTER TABLE consents ADD COLUMN strength TEXT NOT NULL DEFAULT 'written'"),
    ),
    Migration(
        17,
        "voices of prepared sounds",
        _run(
            "ALTER TABLE spoken ADD COLUMN voice TEXT NOT NULL DEFAULT ''",
            "UPDATE spoken SET voice = coalesce((SELECT voice FROM announcements AS said"
            " WHERE said.tenant = spoken.tenant AND said.rendition = spoken.rendition), '')",
        ),
    ),
    Migration(18, "peer zones", _run(*_PEER_ZONES)),
    Migration(19, "tenants' policies", _run("ALTER TABLE tenants ADD COLUMN policy TEXT NOT NULL DEFAULT '{}'")),
    Migration(20, "indexes for housekeeping", _run(*_SOUND_INDEXES)),
    Migration(21, "voiceprint models", _run(_PROTECTED_PRINTS, _PRINT_MODELS)),
    Migration(
        22,
        "music levels",
        _run(
            "CREATE TABLE music_levels (path TEXT PRIMARY KEY, size INTEGER NOT NULL, modified_ns INTEGER NOT NULL,"
            " lufs REAL NOT NULL, peak_db REAL NOT NULL) STRICT"
        ),
    ),
)
