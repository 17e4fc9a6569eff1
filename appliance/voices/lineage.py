"""Where things come from and what became of them: recording → dataset → job → version → rendition, both ways.

Nothing is stored for this: every row already names what it was made from. One node is read in one snapshot, with its
neighbours in both directions; who wants the whole way walks from neighbour to neighbour.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from appliance.contracts import JsonDict
from appliance.database import Database
from appliance.errors import NotFound
from appliance.vault.room import Vault
from appliance.voices.datasets import open_clip
from appliance.voices.recordings import open_transcript
from appliance.voices.records import clean_name

KINDS = ("session", "recording", "dataset", "job", "version", "rendition")
_PIECES = "SELECT id, filename AS title FROM recordings WHERE tenant = ?"
_VERSIONS = "SELECT voice || '@' || number AS id, engine AS title FROM voice_versions WHERE tenant = ?"
MOST_NEIGHBOURS = 1_000  # in one direction; a version may have spoken for years


@dataclass(frozen=True)
class Link:
    """A neighbour: `/v1/lineage/{kind}/{id}` goes on from there."""

    kind: str
    id: str
    title: str = ""


@dataclass(frozen=True)
class Node:
    """One thing with what it was made from and what was made from it."""

    kind: str
    id: str
    title: str
    created_at: str
    facts: JsonDict  # what decides the outcome: configuration, seed, code version, digests of the weights beneath
    made_from: tuple[Link, ...] = field(default=())
    made_into: tuple[Link, ...] = field(default=())

    def as_json(self) -> JsonDict:
        return asdict(self)


class Lineage:
    """Every query is scoped by tenant."""

    def __init__(self, db: Database, vault: Vault | None = None) -> None:
        self._db = db
        self._vault = vault

    async def node(self, tenant: str, kind: str, name: str) -> Node:
        """One node; `name` is an id, of a version "anna@3". Raises NotFound("lineage_not_found")."""
        read = _READERS.get(kind)
        name = clean_name(name)
        node = await self._db.read(lambda db: read(db, self._vault, tenant, name)) if read else None
        if node is None:
            raise NotFound("lineage_not_found", kind=clean_name(kind)[:40], id=name[:80], known=", ".join(KINDS))
        return node


def _session(db: sqlite3.Connection, _: Vault | None, tenant: str, name: str) -> Node | None:
    row = _row(db, "SELECT * FROM recording_sessions WHERE tenant = ? AND id = ?", tenant, name)
    if row is None:
        return None
    query = "SELECT id, filename AS title FROM recordings WHERE tenant = ? AND session = ? ORDER BY created_at"
    facts = {key: row[key] for key in ("speaker", "language", "sheet")}
    return Node(
        "session", name, row["speaker"], row["created_at"], facts, (), _links(db, "recording", query, tenant, name)
    )


def _recording(db: sqlite3.Connection, vault: Vault | None, tenant: str, name: str) -> Node | None:
    row = _row(db, "SELECT * FROM recordings WHERE tenant = ? AND id = ?", tenant, name)
    if row is None:
        return None
    lineage = json.loads(row["lineage"])
    facts = {key: row[key] for key in ("sha256", "speaker", "transcript", "language", "duration_s", "prompt")}
    facts["transcript"] = open_transcript(vault, row["transcript"], name)
    facts |= {"derived": lineage or None, "deleted_at": row["deleted_at"]}
    above = [Link("recording", lineage["recording"])] if lineage.get("recording") else []
    above += [Link("session", row["session"])] if row["session"] else []
    pieces = f"{_PIECES} AND json_extract(lineage, '$.recording') = ?"
    sets = "SELECT id, created_at AS title FROM datasets WHERE tenant = ? AND instr(clips, ?) > 0"
    below = _links(db, "recording", pieces, tenant, name) + _links(db, "dataset", sets, tenant, name)
    return Node("recording", name, row["filename"], row["created_at"], facts, tuple(above), below)


def _dataset(db: sqlite3.Connection, vault: Vault | None, tenant: str, name: str) -> Node | None:
    row = _row(db, "SELECT * FROM datasets WHERE tenant = ? AND id = ?", tenant, name)
    if row is None:
        return None
    clips = [open_clip(vault, clip) for clip in json.loads(row["clips"])]
    above = tuple(Link("recording", clip["recording"], clip["transcript"][:80]) for clip in clips)
    jobs = "SELECT id, state AS title FROM jobs WHERE tenant = ? AND json_extract(spec, '$.dataset') = ?"
    facts = {"digest": row["digest"], "stats": json.loads(row["stats"])}
    return Node("dataset", name, name, row["created_at"], facts, above, _links(db, "job", jobs, tenant, name))


def _job(db: sqlite3.Connection, _: Vault | None, tenant: str, name: str) -> Node | None:
    row = _row(db, "SELECT * FROM jobs WHERE tenant = ? AND id = ?", tenant, name)
    if row is None:
        return None
    spec = json.loads(row["spec"])
    above = tuple(Link(kind, spec[kind]) for kind in ("dataset", "recording") if kind in spec)
    query = f"{_VERSIONS} AND json_extract(lineage, '$.job') = ?"
    pieces = f"{_PIECES} AND json_extract(lineage, '$.job') = ?"
    below = _links(db, "version", query, tenant, name) + _links(db, "recording", pieces, tenant, name)
    facts = {"kind": row["kind"], "state": row["state"], "config": spec}
    return Node("job", name, spec.get("voice", row["kind"]), row["created_at"], facts, above, below)


def _version(db: sqlite3.Connection, vault: Vault | None, tenant: str, name: str) -> Node | None:
    voice, _, number = name.partition("@")
    if not number.isdecimal() or len(number) > 9:
        return None
    query = "SELECT * FROM voice_versions WHERE tenant = ? AND voice = ? AND number = ?"
    row = _row(db, query, tenant, voice, int(number))
    if row is None:
        return None
    lineage = json.loads(row["lineage"])
    above = tuple(Link(kind, lineage[kind]) for kind in ("job", "dataset") if lineage.get(kind))
    above += tuple(Link("recording", one) for one in lineage.get("recordings", ()))
    spoken = "SELECT id, text AS title FROM renditions WHERE tenant = ? AND voice = ? AND number = ?"
    below = _links(db, "rendition", spoken, tenant, voice, int(number))
    verdict = json.loads(row["metrics"]).get("exam", {}).get("verdict")
    facts = {"engine": row["engine"], "files": json.loads(row["files"]), "lineage": lineage, "verdict": verdict}
    return Node("version", name, voice, row["created_at"], facts, above, below)


def _rendition(db: sqlite3.Connection, _: Vault | None, tenant: str, name: str) -> Node | None:
    row = _row(db, "SELECT * FROM renditions WHERE tenant = ? AND id = ?", tenant, name)
    if row is None:
        return None
    facts = {key: row[key] for key in ("sha256", "text", "language", "seed", "duration_s")}
    facts["settings"] = json.loads(row["settings"])
    version = Link("version", f"{row['voice']}@{row['number']}")
    return Node("rendition", name, row["text"][:80], row["created_at"], facts, (version,))


_READERS: dict[str, Callable[[sqlite3.Connection, Vault | None, str, str], Node | None]] = {
    "session": _session,
    "recording": _recording,
    "dataset": _dataset,
    "job": _job,
    "version": _version,
    "rendition": _rendition,
}


def _row(db: sqlite3.Connection, query: str, *values: object) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(query, values).fetchone()
    return row


def _links(db: sqlite3.Connection, kind: str, query: str, *values: object) -> tuple[Link, ...]:
    """`query` gives id and title."""
    rows = db.execute(f"{query} LIMIT {MOST_NEIGHBOURS}", values)
    return tuple(Link(kind, row["id"], str(row["title"] or "")[:80]) for row in rows)
