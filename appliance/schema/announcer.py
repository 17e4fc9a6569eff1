"""Tables of what is said aloud: announcements, zones, schedules, music."""

from __future__ import annotations

ANNOUNCEMENTS = """
CREATE TABLE announcements (
    tenant TEXT NOT NULL, id TEXT NOT NULL, text TEXT NOT NULL, voice TEXT NOT NULL, language TEXT NOT NULL,
    priority INTEGER NOT NULL, volume REAL, chime INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', repeated INTEGER NOT NULL DEFAULT 0,
    rendition TEXT, audio TEXT, duration_s REAL, max_age_s REAL, zone TEXT NOT NULL DEFAULT 'main',
    created_at TEXT NOT NULL, started_at TEXT, finished_at TEXT,
    PRIMARY KEY (tenant, id)
) STRICT"""

DELIVERIES = """
CREATE TABLE deliveries (
    tenant TEXT NOT NULL, announcement TEXT NOT NULL, zone TEXT NOT NULL,
    priority INTEGER NOT NULL, place INTEGER NOT NULL,  -- the order in which messages came
    state TEXT NOT NULL CHECK (state IN ('queued', 'playing', 'done', 'failed', 'cancelled', 'expired')),
    reason TEXT NOT NULL DEFAULT '', repeated INTEGER NOT NULL DEFAULT 0, preempted INTEGER NOT NULL DEFAULT 0,
    position_s REAL NOT NULL DEFAULT 0, started_at TEXT, finished_at TEXT,
    PRIMARY KEY (tenant, announcement, zone),
    FOREIGN KEY (tenant, announcement) REFERENCES announcements (tenant, id)
) STRICT"""

ZONES = (
    DELIVERIES,
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

SCHEDULES = (
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

PEER_ZONES = (
    "ALTER TABLE deliveries ADD COLUMN handed TEXT NOT NULL DEFAULT ''",  # what the box of a zone elsewhere has of it
    "ALTER TABLE peers ADD COLUMN zones TEXT NOT NULL DEFAULT '[]'",  # where it may announce; ["*"]: everywhere
    "ALTER TABLE peers ADD COLUMN most_priority TEXT NOT NULL DEFAULT 'normal'",
    """CREATE TABLE peer_lanes (
        tenant TEXT NOT NULL, peer TEXT NOT NULL, lane TEXT NOT NULL,
        received INTEGER NOT NULL,  -- number of the last message
        PRIMARY KEY (tenant, peer, lane), FOREIGN KEY (tenant, peer) REFERENCES peers (tenant, uuid) ON DELETE CASCADE
    ) STRICT""",
)
