"""The channels of a tenant: where the publications of its scripts go."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from appliance.contracts import Channel, ChannelHost, Delivery, JsonDict, StagedDelivery
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Conflict, InvalidInput, NotFound
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.voices.records import clean_name, to_json

_CHANNEL_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MOST_CHANNELS = 200
SECRETS = ("secret",)  # settings that are kept and never shown

HostOf = Callable[[str], Awaitable[ChannelHost]]  # tenant -> what the box lends its channels


@dataclass(frozen=True)
class ChannelRow:
    """One channel as it is kept."""

    tenant: str
    id: str
    kind: str
    settings: JsonDict
    scripts: tuple[str, ...]  # empty: all of them
    created_at: str
    purpose: str = "publish"  # what speakers must have agreed to

    def as_json(self) -> JsonDict:
        """For doors: without secrets."""
        shown = {key: "•••" if key in SECRETS and value else value for key, value in self.settings.items()}
        return {"id": self.id, "kind": self.kind, "settings": shown, "scripts": list(self.scripts)} | {
            "created_at": self.created_at,
            "purpose": self.purpose,
        }


@dataclass(frozen=True)
class OpenChannel:
    """A channel that can be delivered to."""

    id: str
    kind: Channel
    settings: JsonDict
    host: ChannelHost

    def prepare(self, delivery: Delivery) -> StagedDelivery:
        """Blocks. Raises what the channel raises."""
        return self.kind.prepare(delivery, self.settings, self.host)


class ChannelStore:
    """Every query is scoped by tenant."""

    def __init__(self, db: Database, kinds: Mapping[str, Callable[[], Channel]], host_of: HostOf) -> None:
        self._db = db
        self._kinds = {name: factory() for name, factory in kinds.items()}
        self._host_of = host_of

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(sorted(self._kinds))

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[ChannelRow]:
        """By id."""
        listing = Listing("SELECT * FROM channels", "tenant = ?", (tenant,), ("id",))
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, self._row))

    async def get(self, tenant: str, channel_id: str) -> ChannelRow:
        """Raises NotFound("channel_not_found")."""
        return await self._db.read(lambda db: self._find(db, tenant, channel_id))

    async def of_script(self, tenant: str, script: str) -> tuple[ChannelRow, ...]:
        """The channels that a script goes to."""
        query = "SELECT * FROM channels WHERE tenant = ? ORDER BY id"
        rows = await self._db.read(lambda db: db.execute(query, (tenant,)).fetchall())
        return tuple(row for row in map(self._row, rows) if not row.scripts or script in row.scripts)

    async def put(
        self, tenant: str, channel_id: str, kind: str, settings: JsonDict, scripts: tuple[str, ...] = ()
    ) -> ChannelRow:
        """Make the channel, or give it other settings; they count from the next publication on.

        Raises InvalidInput (channel_id_invalid, channel_kind_unknown, channel_settings_invalid), Forbidden,
        Conflict("channels_full").
        """
        if not _CHANNEL_ID.fullmatch(channel_id):
            raise InvalidInput("channel_id_invalid", channel=clean_name(channel_id)[:80])
        if kind not in self._kinds:
            raise InvalidInput("channel_kind_unknown", kind=clean_name(kind)[:40], known=", ".join(self.kinds))
        checked = await asyncio.to_thread(self._kinds[kind].check, settings, await self._host_of(tenant))
        row = {"tenant": tenant, "id": channel_id, "kind": kind, "settings": to_json(checked)}

        def write(db: sqlite3.Connection) -> ChannelRow:
            db.execute("DELETE FROM channels WHERE tenant = ? AND id = ?", (tenant, channel_id))
            if db.execute("SELECT count(*) FROM channels WHERE tenant = ?", (tenant,)).fetchone()[0] >= MOST_CHANNELS:
                raise Conflict("channels_full", limit=MOST_CHANNELS)
            insert_row(db, "channels", {**row, "scripts": to_json(list(scripts)), "created_at": utc_now()})
            return self._find(db, tenant, channel_id)

        return await self._db.write(write, durable=True)

    async def delete(self, tenant: str, channel_id: str) -> None:
        """What it carries stays where it is. Raises NotFound("channel_not_found")."""

        def erase(db: sqlite3.Connection) -> None:
            self._find(db, tenant, channel_id)
            db.execute("DELETE FROM channels WHERE tenant = ? AND id = ?", (tenant, channel_id))

        await self._db.write(erase, durable=True)

    async def open(self, tenant: str, ids: tuple[str, ...]) -> tuple[OpenChannel, ...]:
        """The channels of a publication; one that was deleted meanwhile is left out."""
        query = "SELECT * FROM channels WHERE tenant = ? ORDER BY id"
        rows = await self._db.read(lambda db: db.execute(query, (tenant,)).fetchall())
        host = await self._host_of(tenant)
        return tuple(
            OpenChannel(row.id, self._kinds[row.kind], row.settings, host)
            for row in map(self._row, rows)
            if row.id in ids and row.kind in self._kinds
        )

    def _find(self, db: sqlite3.Connection, tenant: str, channel_id: str) -> ChannelRow:
        query = "SELECT * FROM channels WHERE tenant = ? AND id = ?"
        row = db.execute(query, (tenant, clean_name(channel_id))).fetchone()
        if row is None:
            raise NotFound("channel_not_found", channel=clean_name(channel_id)[:80])
        return self._row(row)

    def _row(self, row: sqlite3.Row) -> ChannelRow:
        return ChannelRow(
            tenant=row["tenant"],
            id=row["id"],
            kind=row["kind"],
            settings=json.loads(row["settings"]),
            scripts=tuple(json.loads(row["scripts"])),
            created_at=row["created_at"],
            purpose=self._kinds[row["kind"]].purpose if row["kind"] in self._kinds else "publish",
        )
