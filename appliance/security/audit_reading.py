"""Reading the audit log: by tenant and voice for people, line by line for files."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from appliance.contracts import JsonDict
from appliance.paging import Listing, Page, read_page
from appliance.security.merkle import Frontier, leaf_hash
from appliance.security.signing import PublicKey


@dataclass(frozen=True)
class AuditFilter:
    """Which entries; empty means all. Without a tenant (None) those of all tenants: for the box itself only."""

    tenant: str | None
    voice: str = ""  # "anna": every version of it; "anna@3": that one
    action: str = ""
    subject: str = ""
    with_box: bool = False  # also what belongs to no tenant: made tenants, strangers refused, retention


def list_entries(db: sqlite3.Connection, wanted: AuditFilter, cursor: str | None, limit: int) -> Page[JsonDict]:
    """A page of entries, newest first, each with its index as `id`. Raises InvalidInput (cursor, limit)."""
    conditions, values = ["1"], []
    if wanted.tenant is not None:
        conditions.append("tenant IN (?, ?)")
        values += [wanted.tenant, "" if wanted.with_box else wanted.tenant]
    if wanted.action:
        conditions.append("action = ?")
        values.append(wanted.action)
    if wanted.subject:
        conditions.append("subject = ? AND subject <> ''")  # the second half lets SQLite use the partial index
        values.append(wanted.subject)
    if wanted.voice:
        conditions.append("(voice = ? OR voice >= ? AND voice < ?)")
        values += [wanted.voice, f"{wanted.voice}@", f"{wanted.voice}A"]  # "A" follows "@"
    listing = Listing("SELECT idx, entry FROM audit", " AND ".join(conditions), tuple(values), ("idx",), True)
    return read_page(db, listing, cursor, limit, lambda row: {"id": row["idx"], **json.loads(row["entry"])})


def read_lines(db: sqlite3.Connection, tenant: str | None, start: int, until: int) -> list[JsonDict]:
    """Entries start … until-1 for a file: the tenant's own in full, of others the leaf hash. None: all in full."""
    query = "SELECT idx, entry, tenant FROM audit WHERE idx >= ? AND idx < ? ORDER BY idx"
    return [
        {"index": row["idx"], "entry": row["entry"]}
        if tenant is None or row["tenant"] == tenant
        else {"index": row["idx"], "leaf": leaf_hash(row["entry"].encode()).hex()}
        for row in db.execute(query, (start, until))
    ]


def export_head(db: sqlite3.Connection, note: str, key: PublicKey) -> JsonDict:
    """The first line of a file: what it is verified with, and where it begins after retention."""
    head: JsonDict = {"checkpoint": note, "key": key.verifier(), "first": 0}
    query = "SELECT size, note, peaks FROM audit_checkpoints WHERE kind = 'tombstone' ORDER BY size DESC LIMIT 1"
    row = db.execute(query).fetchone()
    if row is not None:
        peaks = [peak.hex() for peak in Frontier.unpacked(row["size"], row["peaks"]).peaks]
        head |= {"first": row["size"], "tombstone": row["note"], "peaks": peaks}
    return head
