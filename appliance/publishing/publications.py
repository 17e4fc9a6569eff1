"""Publications: what was rendered from which revision, and what the channels of a script carry."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Conflict, NotFound
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.publishing.records import (
    DELIVERING,
    FAILED,
    PUBLISHED,
    RENDERING,
    UNFINISHED,
    Publication,
    PublishedLine,
)
from appliance.publishing.scripts import find_script
from appliance.voices.records import clean_name, to_json

_BY_NUMBER = "SELECT *, printf('%09d', number) AS place FROM publications"
_ONE = "tenant = ? AND script = ? AND number = ?"
_FIND = f"SELECT * FROM publications WHERE {_ONE}"  # noqa: S608 - nothing from outside
_FINISH = f"UPDATE publications SET state = ?, finished_at = ? WHERE {_ONE}"  # noqa: S608 - nothing from outside


@dataclass(frozen=True)
class NewPublication:
    """What a publication is made of; none of it changes later."""

    script: str
    kind: str  # publish | rollback
    revision: int
    lines: tuple[PublishedLine, ...]
    to_render: int
    channels: tuple[str, ...]
    author: str = ""


class PublicationStore:
    """Every query is scoped by tenant."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, tenant: str, new: NewPublication) -> Publication:
        """Raises NotFound("script_not_found"), Conflict("publication_running") while another one of the script is."""
        return await self._db.write(lambda db: _begin(db, tenant, new), durable=True)

    async def get(self, tenant: str, script: str, number: int) -> Publication:
        """Raises NotFound("publication_not_found")."""
        return await self._db.read(lambda db: _find(db, tenant, script, number))

    async def list(
        self, tenant: str, script: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT
    ) -> Page[Publication]:
        """Newest first. Raises NotFound("script_not_found")."""
        listing = Listing(
            _BY_NUMBER, "tenant = ? AND script = ?", (tenant, clean_name(script)), ("place",), is_descending=True
        )

        def read(db: sqlite3.Connection) -> Page[Publication]:
            find_script(db, tenant, script)
            return read_page(db, listing, cursor, limit, _publication)

        return await self._db.read(read)

    async def unfinished(self) -> tuple[Publication, ...]:
        """What a daemon that stopped left behind, of all tenants: for the publisher alone."""
        query = "SELECT * FROM publications WHERE state IN (?, ?) ORDER BY created_at"
        rows = await self._db.read(lambda db: db.execute(query, UNFINISHED).fetchall())
        return tuple(_publication(row) for row in rows)

    async def newest(self, tenant: str, script: str) -> Publication | None:
        """The one with the largest number, whatever became of it."""
        query = f"{_BY_NUMBER} WHERE tenant = ? AND script = ? ORDER BY number DESC LIMIT 1"
        row = await self._db.read(lambda db: db.execute(query, (tenant, script)).fetchone())
        return None if row is None else _publication(row)

    async def last_published(self, tenant: str, script: str, before: int) -> Publication:
        """The newest publication below `before` that channels carried. Raises NotFound("publication_not_found")."""
        query = (
            "SELECT * FROM publications WHERE tenant = ? AND script = ? AND number < ? AND state = ?"
            " AND kind = 'publish' ORDER BY number DESC LIMIT 1"
        )
        row = await self._db.read(lambda db: db.execute(query, (tenant, script, before, PUBLISHED)).fetchone())
        if row is None:
            raise NotFound("publication_not_found", script=clean_name(script)[:80], publication=before - 1)
        return _publication(row)

    async def count(self, what: Publication, rendered: int) -> None:
        """Note how many lines are rendered."""
        await self._set(what, "rendered = ?", rendered)

    async def deliver(self, what: Publication) -> None:
        """Everything is rendered: the channels are next."""
        await self._set(what, "state = ?", DELIVERING)

    async def fail(self, what: Publication, error: JsonDict) -> None:
        """It ended without having changed anything."""
        await self._set(what, "state = ?, error = ?, finished_at = ?", FAILED, to_json(error), utc_now())

    async def finish(self, what: Publication) -> None:
        """The channels carry it: this moves the script's pointer in the same transaction."""

        def write(db: sqlite3.Connection) -> None:
            key = (what.tenant, what.script, what.number)
            db.execute(_FINISH, (PUBLISHED, utc_now(), *key))
            db.execute("UPDATE scripts SET published = ? WHERE tenant = ? AND id = ?", (what.number, *key[:2]))

        await self._db.write(write, durable=True)

    async def _set(self, what: Publication, change: str, *values: object) -> None:
        key = (what.tenant, what.script, what.number)
        query = f"UPDATE publications SET {change} WHERE {_ONE}"  # noqa: S608 - `change` is written above
        await self._db.write(lambda db: db.execute(query, (*values, *key)) and None)


def _begin(db: sqlite3.Connection, tenant: str, new: NewPublication) -> Publication:
    script = find_script(db, tenant, new.script)
    query = f"{_BY_NUMBER} WHERE tenant = ? AND script = ? ORDER BY number DESC LIMIT 1"
    last = db.execute(query, (tenant, script.id)).fetchone()
    if last is not None and last["state"] in UNFINISHED:
        raise Conflict("publication_running", script=script.id, publication=last["number"])
    number = last["number"] + 1 if last is not None else 1
    row = {
        "tenant": tenant,
        "script": script.id,
        "number": number,
        "kind": new.kind,
        "revision": new.revision,
        "state": RENDERING,
        "lines": to_json([asdict(line) for line in new.lines]),
        "to_render": new.to_render,
        "channels": to_json(list(new.channels)),
        "author": new.author,
        "created_at": utc_now(),
    }
    insert_row(db, "publications", row)
    return _find(db, tenant, script.id, number)


def _find(db: sqlite3.Connection, tenant: str, script: str, number: int) -> Publication:
    key = (tenant, clean_name(script), number)
    row = db.execute(_FIND, key).fetchone()
    if row is None:
        raise NotFound("publication_not_found", script=clean_name(script)[:80], publication=number)
    return _publication(row)


def _publication(row: sqlite3.Row) -> Publication:
    return Publication(
        tenant=row["tenant"],
        script=row["script"],
        number=row["number"],
        kind=row["kind"],
        revision=row["revision"],
        state=row["state"],
        lines=tuple(PublishedLine(**line) for line in json.loads(row["lines"])),
        rendered=row["rendered"],
        to_render=row["to_render"],
        channels=tuple(json.loads(row["channels"])),
        error=json.loads(row["error"]) if row["error"] else None,
        author=row["author"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
