"""Sounds of announcements that a voice has said: what is kept, and what may go."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

_BY_VOICE = "tenant = ?1 AND (voice = ?2 OR substr(voice, 1, length(?2) + 1) = ?2 || '@')"
_KEPT = (
    f"SELECT audio FROM announcements WHERE {_BY_VOICE}",  # noqa: S608 - constants
    f"SELECT audio FROM spoken WHERE {_BY_VOICE}",  # noqa: S608
)
_FORGET = (
    f"DELETE FROM spoken WHERE {_BY_VOICE}",  # noqa: S608
    f"UPDATE announcements SET audio = NULL WHERE {_BY_VOICE}",  # noqa: S608
)
_NEEDED = (
    "SELECT 1 FROM recordings WHERE sha256 = :digest AND deleted_at IS NULL"
    " UNION ALL SELECT 1 FROM voice_versions WHERE instr(files, :digest) > 0 AND NOT"
    " (tenant = :tenant AND voice IN (SELECT value FROM json_each(:voices)))"
    " UNION ALL SELECT 1 FROM models WHERE instr(files, :digest) > 0 AND removed_at IS NULL"
    " UNION ALL SELECT 1 FROM renditions WHERE sha256 = :digest"
    " UNION ALL SELECT 1 FROM spoken WHERE audio = :digest"
    " UNION ALL SELECT 1 FROM announcements WHERE audio = :digest"
    " UNION ALL SELECT 1 FROM dubbings WHERE track = :digest LIMIT 1"
)


def forget_announced(db: sqlite3.Connection, tenant: str, voices: Sequence[str]) -> set[str]:
    """Take what these voices announced, and what was prepared for it, off the books; the digests of the sounds."""
    digests: set[str] = set()
    for voice in voices:
        for query in _KEPT:
            digests |= {row[0] for row in db.execute(query, (tenant, voice)) if row[0]}
        for statement in _FORGET:
            db.execute(statement, (tenant, voice))
    return digests


def is_needed(db: sqlite3.Connection, tenant: str, voices: Sequence[str], digest: str) -> bool:
    """Whether anything but the versions of these voices needs a file."""
    about = {"tenant": tenant, "voices": json.dumps(list(voices)), "digest": digest}
    return db.execute(_NEEDED, about).fetchone() is not None
