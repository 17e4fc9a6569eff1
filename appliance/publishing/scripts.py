"""Scripts and their revisions. A revision is never changed: editing makes the next one."""

from __future__ import annotations

import json
import re
import sqlite3

from appliance.database import Database, insert_row, utc_now
from appliance.errors import Conflict, InvalidInput, NotFound
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.publishing.lines import check_revision
from appliance.publishing.records import Line, NewRevision, Revision, Script
from appliance.voices.records import clean_name, to_json

_SCRIPT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_WITH_NUMBERS = """
SELECT scripts.*, (SELECT max(number) FROM script_revisions r WHERE r.tenant = scripts.tenant AND r.script = scripts.id)
AS revision FROM scripts"""
_BY_NUMBER = "SELECT *, printf('%09d', number) AS place FROM script_revisions"


class ScriptStore:
    """Every query is scoped by tenant."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Script]:
        """By id."""
        listing = Listing(_WITH_NUMBERS, "tenant = ? AND deleted_at IS NULL", (tenant,), ("id",))
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _script))

    async def get(self, tenant: str, script_id: str) -> Script:
        """Raises NotFound("script_not_found")."""
        return await self._db.read(lambda db: find_script(db, tenant, script_id))

    async def revision(self, tenant: str, script_id: str, number: int | None = None) -> Revision:
        """One revision, the newest without a `number`. Raises NotFound (script_not_found, revision_not_found)."""
        return await self._db.read(lambda db: _find_revision(db, tenant, script_id, number))

    async def revisions(
        self, tenant: str, script_id: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT
    ) -> Page[Revision]:
        """Newest first. Raises NotFound("script_not_found")."""
        await self.get(tenant, script_id)
        values = (tenant, clean_name(script_id))
        listing = Listing(_BY_NUMBER, "tenant = ? AND script = ?", values, ("place",), is_descending=True)
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _revision))

    async def save(
        self, tenant: str, script_id: str, new: NewRevision, title: str = "", expected: int | None = None
    ) -> Revision:
        """File the next revision; the first one makes the script. Equal content gives the revision there is.

        `expected` is the revision that the editor started from. Raises InvalidInput (script_id_invalid and what
        `check_revision` raises), TooLarge, Conflict("script_changed").
        """
        if not _SCRIPT_ID.fullmatch(script_id):
            raise InvalidInput("script_id_invalid", script=clean_name(script_id)[:80])
        check_revision(new)
        return await self._db.write(lambda db: _save(db, (tenant, script_id, title), new, expected), durable=True)

    async def delete(self, tenant: str, script_id: str) -> None:
        """Take the script from the list; revisions and renditions stay. Raises NotFound("script_not_found")."""

        def mark(db: sqlite3.Connection) -> None:
            find_script(db, tenant, script_id)
            query = "UPDATE scripts SET deleted_at = ? WHERE tenant = ? AND id = ?"
            db.execute(query, (utc_now(), tenant, script_id))

        await self._db.write(mark, durable=True)


def _save(db: sqlite3.Connection, which: tuple[str, str, str], new: NewRevision, expected: int | None) -> Revision:
    tenant, script_id, title = which
    db.execute(
        "INSERT INTO scripts (tenant, id, title, created_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (tenant, id) DO UPDATE SET deleted_at = NULL,"
        " title = CASE WHEN excluded.title <> '' THEN excluded.title ELSE title END",
        (tenant, script_id, title, utc_now()),
    )
    newest = find_script(db, tenant, script_id).revision
    if expected is not None and expected != newest:
        raise Conflict("script_changed", script=script_id, expected=expected, revision=newest)
    row = {
        "tenant": tenant,
        "script": script_id,
        "number": newest + 1,
        "lines": to_json([line.as_json() for line in new.lines]),
        "variables": to_json({name: list(values) for name, values in new.variables.items()}),
        "voice": new.voice,
        "language": new.language,
        "comment": new.comment,
        "author": new.author,
        "created_at": utc_now(),
    }
    if newest:
        same = ("lines", "variables", "voice", "language")
        last = db.execute(
            "SELECT * FROM script_revisions WHERE tenant = ? AND script = ? AND number = ?", (tenant, script_id, newest)
        ).fetchone()
        if all(last[key] == row[key] for key in same):
            return _revision(last)
    insert_row(db, "script_revisions", row)
    return _find_revision(db, tenant, script_id, newest + 1)


def find_script(db: sqlite3.Connection, tenant: str, script_id: str) -> Script:
    """Inside a transaction. Raises NotFound("script_not_found")."""
    query = f"{_WITH_NUMBERS} WHERE tenant = ? AND id = ? AND deleted_at IS NULL"
    row = db.execute(query, (tenant, clean_name(script_id))).fetchone()
    if row is None:
        raise NotFound("script_not_found", script=clean_name(script_id)[:80])
    return _script(row)


def _find_revision(db: sqlite3.Connection, tenant: str, script_id: str, number: int | None) -> Revision:
    script = find_script(db, tenant, script_id)
    wanted = script.revision if number is None else number
    query = "SELECT * FROM script_revisions WHERE tenant = ? AND script = ? AND number = ?"
    row = db.execute(query, (tenant, script.id, wanted)).fetchone()
    if row is None:
        raise NotFound("revision_not_found", script=script.id, revision=wanted)
    return _revision(row)


def _script(row: sqlite3.Row) -> Script:
    return Script(
        tenant=row["tenant"],
        id=row["id"],
        title=row["title"] or row["id"],
        revision=row["revision"] or 0,
        published=row["published"],
        created_at=row["created_at"],
    )


def _revision(row: sqlite3.Row) -> Revision:
    lines = (Line(**{**line, "cue": tuple(line["cue"]) if line["cue"] else None}) for line in json.loads(row["lines"]))
    return Revision(
        script=row["script"],
        number=row["number"],
        lines=tuple(lines),
        variables={name: tuple(values) for name, values in json.loads(row["variables"]).items()},
        voice=row["voice"],
        language=row["language"],
        comment=row["comment"],
        author=row["author"],
        created_at=row["created_at"],
    )
