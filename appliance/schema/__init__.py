"""The tables of the box, as numbered migrations.

A migration that has shipped is never edited: a change is a new step at the end of `MIGRATIONS`. Every table that
holds somebody's data has a `tenant` column, which leads its primary key. Times are ISO 8601 text in UTC; JSON is text.
"""

from __future__ import annotations

from appliance.schema.announcer import ANNOUNCEMENTS, PEER_ZONES, SCHEDULES, ZONES
from appliance.schema.collecting import COLLECTING, DATASETS, RECORDINGS
from appliance.schema.jobs import FINISHED_JOBS_STAY, JOBS, PAUSING
from appliance.schema.publishing import CHANNELS, DUBBINGS, PEERS, PUBLICATIONS, SCRIPT_REVISIONS, SCRIPTS
from appliance.schema.security import (
    AUDIT,
    AUDIT_CHECKPOINTS,
    AUDIT_HEAD,
    AUDIT_RULES,
    PEOPLE,
    QUOTA_USAGE,
    TENANTS,
    TOKENS,
)
from appliance.schema.steps import Migration, immutable, run
from appliance.schema.voices import (
    ALIAS_MOVES,
    ALIASES,
    CHALLENGES,
    CONSENTS,
    LEXICON,
    MODELS,
    PRINT_MODELS,
    PROTECTED,
    PROTECTED_PRINTS,
    RENDITIONS,
    REVIEWS,
    SPEAKERS,
    VERSIONS,
    VOICEPRINTS,
    VOICES,
)

__all__ = ["MIGRATIONS", "Migration", "immutable"]

META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID"

INDEXES = (
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

SOUND_INDEXES = (
    "CREATE INDEX announcements_by_rendition ON announcements (tenant, rendition)",
    "CREATE INDEX announcements_by_sound ON announcements (audio)",
    "CREATE INDEX spoken_by_sound ON spoken (audio)",
    "CREATE INDEX renditions_by_sound ON renditions (sha256)",
)

MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, "box", run(META)),
    Migration(
        2,
        "voices",
        run(
            SPEAKERS,
            VOICES,
            VERSIONS,
            ALIASES,
            ALIAS_MOVES,
            *immutable("voice_versions"),
            *immutable("alias_moves"),
        ),
    ),
    Migration(3, "recordings", run(RECORDINGS, CONSENTS, DATASETS, RENDITIONS, *immutable("datasets"))),
    Migration(4, "work", run(JOBS, ANNOUNCEMENTS, FINISHED_JOBS_STAY)),
    Migration(5, "indexes", run(*INDEXES)),
    Migration(6, "models", run(MODELS, "CREATE INDEX models_by_time ON models (tenant, created_at, id)")),
    Migration(7, "lexicon", run(LEXICON)),
    Migration(8, "audit", run(AUDIT, AUDIT_HEAD, AUDIT_CHECKPOINTS, *AUDIT_RULES)),
    Migration(9, "collecting", run(*COLLECTING)),
    Migration(10, "jobs that pause", run(*PAUSING)),
    Migration(11, "zones", run(*ZONES)),
    Migration(12, "access", run(TENANTS, PEOPLE, TOKENS, QUOTA_USAGE)),
    Migration(
        13,
        "scripts",
        run(
            SCRIPTS,
            SCRIPT_REVISIONS,
            PUBLICATIONS,
            CHANNELS,
            PEERS,
            DUBBINGS,
            *immutable("script_revisions"),
            "CREATE INDEX publications_by_state ON publications (state)",
            "CREATE INDEX dubbings_by_time ON dubbings (tenant, created_at, id)",
        ),
    ),
    Migration(14, "voiceprints", run(VOICEPRINTS, PROTECTED, REVIEWS)),
    Migration(15, "schedules", run(*SCHEDULES)),
    Migration(
        16,
        "spoken consents",
        run(CHALLENGES, "ALTER TABLE consents ADD COLUMN strength TEXT NOT NULL DEFAULT 'written'"),
    ),
    Migration(
        17,
        "voices of prepared sounds",
        run(
            "ALTER TABLE spoken ADD COLUMN voice TEXT NOT NULL DEFAULT ''",
            "UPDATE spoken SET voice = coalesce((SELECT voice FROM announcements AS said"
            " WHERE said.tenant = spoken.tenant AND said.rendition = spoken.rendition), '')",
        ),
    ),
    Migration(18, "peer zones", run(*PEER_ZONES)),
    Migration(19, "tenants' policies", run("ALTER TABLE tenants ADD COLUMN policy TEXT NOT NULL DEFAULT '{}'")),
    Migration(20, "indexes for housekeeping", run(*SOUND_INDEXES)),
    Migration(21, "voiceprint models", run(PROTECTED_PRINTS, PRINT_MODELS)),
    Migration(
        22,
        "music levels",
        run(
            "CREATE TABLE music_levels (path TEXT PRIMARY KEY, size INTEGER NOT NULL, modified_ns INTEGER NOT NULL,"
            " lufs REAL NOT NULL, peak_db REAL NOT NULL) STRICT"
        ),
    ),
)
