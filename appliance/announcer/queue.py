"""The queue of announcements in the database: every change of state is one transaction.

A message has one delivery per zone. A delivery is claimed before its first sample is played and settled after its last,
both on disk, so that whoever restarts knows which message may have been heard where.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.announcer.records import (
    PRIORITIES,
    Announcement,
    Delivery,
    Handed,
    NewAnnouncement,
    State,
    summary_of,
)
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Busy, InvalidInput, NotFound
from appliance.paging import MAX_LIMIT, Page
from appliance.voices.sounds import forget_announced, is_needed

_TURN = (
    "SELECT tenant, announcement FROM deliveries WHERE zone = ? AND state = 'queued' AND priority >= ?"
    " ORDER BY priority DESC, place LIMIT ?"
)
_OVER = "('done', 'failed', 'cancelled', 'expired')"


@dataclass(frozen=True)
class Turn:
    """What a zone has before it."""

    rows: tuple[Announcement, ...]  # the next ones, in order
    waiting: int  # how many in all


class AnnouncementQueue:
    """Rows of the tables `announcements` and `deliveries`."""

    def __init__(self, db: Database, max_waiting: int) -> None:
        self._db = db
        self._max_waiting = max_waiting

    async def add(
        self, tenant: str, new: NewAnnouncement, *, chime: bool, announcement_id: str = ""
    ) -> tuple[Announcement, bool]:
        """File a message for its zones; it is on disk when this returns: (the message, whether it is a new one).

        A message with the id of another, or with the key of one that is not over, is that other one. Raises
        Busy("announcements_full").
        """
        announcement_id = announcement_id or f"ann_{secrets.token_hex(8)}"

        def insert(connection: sqlite3.Connection) -> tuple[Announcement, bool]:
            same = _same(connection, tenant, announcement_id, new.key)
            if same is not None:
                return _fetch(connection, tenant, same), False
            query = "SELECT count(*) FROM announcements WHERE state IN ('queued', 'rendering')"
            waiting = connection.execute(query).fetchone()[0]
            if waiting >= self._max_waiting:
                raise Busy("announcements_full", waiting=waiting, limit=self._max_waiting, retry_after_s=10)
            _insert(connection, tenant, announcement_id, new, chime=chime)
            return _fetch(connection, tenant, announcement_id), True

        return await self._db.write(insert, durable=True)

    async def get(self, tenant: str, announcement_id: str) -> Announcement:
        """One row. Raises NotFound("announcement_not_found")."""
        return await self._db.read(lambda connection: _fetch(connection, tenant, announcement_id))

    async def page(self, tenant: str, cursor: str | None, limit: int) -> Page[Announcement]:
        """The newest first. Raises InvalidInput("cursor_invalid" | "limit_invalid")."""
        before = _decode_cursor(cursor)
        if limit < 1:
            raise InvalidInput("limit_invalid", limit=limit, most=MAX_LIMIT)
        limit = min(limit, MAX_LIMIT)

        def select(connection: sqlite3.Connection) -> Page[Announcement]:
            rows = connection.execute(
                "SELECT *, rowid AS place FROM announcements WHERE tenant = ? AND rowid < ?"
                " ORDER BY rowid DESC LIMIT ?",
                (tenant, before, limit + 1),
            ).fetchall()
            following = str(rows[limit - 1]["place"]) if len(rows) > limit else None
            return Page(tuple(_record(connection, row) for row in rows[:limit]), following)

        return await self._db.read(select)

    async def turns(self, least_ranks: Mapping[str, int], count: int) -> dict[str, Turn]:
        """By zone: the next `count` messages of at least that rank, in the order in which they will be said."""

        def select(connection: sqlite3.Connection) -> dict[str, Turn]:
            turns = {}
            for zone, rank in least_ranks.items():
                keys = connection.execute(_TURN, (zone, rank, count)).fetchall()
                waiting = "SELECT count(*) FROM deliveries WHERE zone = ? AND state = 'queued'"
                number = connection.execute(waiting, (zone,)).fetchone()[0]
                turns[zone] = Turn(tuple(_fetch(connection, *key) for key in keys), number)
            return turns

        return await self._db.read(select)

    async def unfinished(self, tenant: str | None = None) -> tuple[Announcement, ...]:
        """What is not over, of all tenants or of one, in the order in which it came."""
        query = (
            "SELECT *, rowid AS place FROM announcements WHERE state IN ('queued', 'rendering', 'playing')"
            " AND ? IN ('', tenant) ORDER BY rowid"
        )
        return await self._db.read(
            lambda connection: tuple(_record(connection, row) for row in connection.execute(query, (tenant or "",)))
        )

    async def recover(self, elsewhere: Collection[str] = ()) -> tuple[Announcement, ...]:
        """Take over what a previous process left behind, once, before anything else.

        A message that was playing is said again from its start, at most once, and carries `repeated`; the second
        interruption fails it. What was handed to the box of a zone that is `elsewhere` goes on there meanwhile.
        Returns every message that was changed.
        """
        marks = ", ".join("?" * len(elsewhere))

        def repair(connection: sqlite3.Connection) -> tuple[Announcement, ...]:
            gone = f"UPDATE deliveries SET handed = '' WHERE handed <> '' AND zone NOT IN ({marks})"  # noqa: S608
            connection.execute(gone, tuple(elsewhere))
            half_way = "SELECT tenant, id FROM announcements WHERE state IN ('playing', 'rendering')"
            keys = [tuple(row) for row in connection.execute(half_way).fetchall()]
            connection.execute("UPDATE announcements SET state = 'queued' WHERE state = 'rendering'")
            _interrupt(connection, "interrupted", "state = 'playing' AND handed = ''", ())
            return tuple(_summarise(connection, *key) for key in keys)

        return await self._db.write(repair, durable=True)

    # ------------------------------------------------------------ rendering

    async def begin_rendering(self, row: Announcement) -> bool:
        """queued -> rendering; False when it is not queued any more."""
        return await self._move(row, "queued", "state = 'rendering'", ())

    async def requeue(self, row: Announcement, reason: str) -> bool:
        """rendering -> queued, with what stood in the way."""
        return await self._move(row, "rendering", "state = 'queued', reason = ?", (reason,))

    async def attach_audio(self, row: Announcement, rendition: str, audio: str, duration_s: float) -> bool:
        """rendering -> queued, now with its sound; False when it was cancelled meanwhile."""
        change = "state = 'queued', reason = '', rendition = ?, audio = ?, duration_s = ?"
        return await self._move(row, "rendering", change, (rendition, audio, duration_s))

    async def spoken(self, tenant: str, rendition: str) -> tuple[str, float] | None:
        """(digest, seconds) of a sound that was made before for the same rendition."""
        query = "SELECT audio, duration_s FROM spoken WHERE tenant = ? AND rendition = ?"
        row = await self._db.read(lambda connection: connection.execute(query, (tenant, rendition)).fetchone())
        return None if row is None else (str(row[0]), float(row[1]))

    async def keep_spoken(self, tenant: str, rendition: str, voice: str, audio: str, duration_s: float) -> None:
        """Remember the sound of a rendition."""
        row = {"tenant": tenant, "rendition": rendition, "voice": voice, "audio": audio, "duration_s": duration_s}
        row["made_at"] = utc_now()

        def keep(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM spoken WHERE tenant = ? AND rendition = ?", (tenant, rendition))
            insert_row(connection, "spoken", row)

        await self._db.write(keep)

    async def forget_spoken(self, tenant: str, voices: tuple[str, ...]) -> tuple[str, ...]:
        """Nothing that these voices said, or were to say, is kept; the digests of files that nobody needs any more."""

        def forget(connection: sqlite3.Connection) -> tuple[str, ...]:
            digests = forget_announced(connection, tenant, voices)
            return tuple(one for one in sorted(digests) if not is_needed(connection, tenant, (), one))

        return await self._db.write(forget, durable=True)

    async def _move(self, row: Announcement, state: str, change: str, values: tuple[object, ...]) -> bool:
        statement = f"UPDATE announcements SET {change} WHERE tenant = ? AND id = ? AND state = ?"  # noqa: S608 - constants
        work: Callable[[sqlite3.Connection], bool] = lambda connection: (
            connection.execute(statement, (*values, row.tenant, row.id, state)).rowcount == 1
        )
        return await self._db.write(work)

    # ------------------------------------------------------------ deliveries

    async def claim(self, row: Announcement, zone: str) -> Announcement | None:
        """queued -> playing in a zone, on disk before the first sample; None when it is not queued any more."""
        return await self._deliver(row, zone, ("queued",), state="playing", started_at=utc_now())

    async def put_back(self, row: Announcement, zone: str) -> None:
        """playing -> queued: it was claimed, but nothing of it was heard."""
        await self._deliver(row, zone, ("playing",), state="queued", started_at=None)

    async def give_way(self, row: Announcement, zone: str, position_s: float) -> None:
        """playing -> queued: something more urgent interrupted it; it goes on at `position_s`."""
        count = row.delivery(zone).preempted + 1
        change = {"reason": "preempted", "preempted": count, "position_s": position_s}
        await self._deliver(row, zone, ("playing",), state="queued", **change)

    async def interrupt(self, row: Announcement, zone: str, reason: str) -> Announcement:
        """playing -> queued to be repeated from its start, or failed when it was repeated already."""

        def change(connection: sqlite3.Connection) -> Announcement:
            where = "state = 'playing' AND tenant = ? AND announcement = ? AND zone = ?"
            _interrupt(connection, reason, where, (row.tenant, row.id, zone))
            return _summarise(connection, row.tenant, row.id)

        return await self._db.write(change, durable=True)

    async def settle(self, row: Announcement, zone: str, state: State, reason: str = "") -> None:
        """Reach an end in a zone; what is over there already stays as it is."""
        ends = {"state": str(state), "reason": reason, "finished_at": utc_now()}
        await self._deliver(row, zone, ("queued", "playing"), **ends)

    async def settle_waiting(self, row: Announcement, reasons: Mapping[str, str], state: State) -> bool:
        """Let a message go in the zones of `reasons` where it still waits here; False when it waits in none."""

        def change(connection: sqlite3.Connection) -> bool:
            changed = 0
            for zone, reason in reasons.items():
                changed += connection.execute(
                    "UPDATE deliveries SET state = ?, reason = ?, finished_at = ?"
                    " WHERE tenant = ? AND announcement = ? AND zone = ? AND state = 'queued' AND handed = ''",
                    (str(state), reason, utc_now(), row.tenant, row.id, zone),
                ).rowcount
            if changed:
                _summarise(connection, row.tenant, row.id)
            return changed > 0

        return await self._db.write(change, durable=True)

    # ------------------------------------------------------------ zones of other boxes

    async def hand(self, row: Announcement, zone: str, handed: Handed) -> bool:
        """How far it is on its way, on disk before the next step; False when it is over here."""
        changed = await self._deliver(row, zone, ("queued", "playing"), handed=str(handed))
        return changed is not None

    async def mirror(self, row: Announcement, delivery: Delivery) -> None:
        """What the other box tells of it; what is over stays as it is."""
        changes: dict[str, object] = {
            "state": str(delivery.state),
            "reason": delivery.reason,
            "repeated": delivery.repeated,
            "preempted": delivery.preempted,
            "position_s": delivery.position_s,
            "started_at": delivery.started_at,
            "finished_at": delivery.finished_at,
            "handed": str(delivery.handed),
        }
        before = row.delivery(delivery.zone)
        is_durable = (before.state, before.handed) != (delivery.state, delivery.handed)
        await self._change(row, delivery.zone, ("queued", "playing"), changes, is_durable=is_durable)

    async def _deliver(
        self, row: Announcement, zone: str, before: tuple[str, ...], **changes: object
    ) -> Announcement | None:
        return await self._change(row, zone, before, changes, is_durable=True)

    async def _change(
        self, row: Announcement, zone: str, before: tuple[str, ...], changes: Mapping[str, object], *, is_durable: bool
    ) -> Announcement | None:
        """Change one delivery that is in a state of `before`, and its message with it; None when it is in another."""
        assignments = ", ".join(f"{column} = ?" for column in changes)
        marks = ", ".join("?" * len(before))
        statement = (
            f"UPDATE deliveries SET {assignments}"  # noqa: S608 - names from our own code
            f" WHERE tenant = ? AND announcement = ? AND zone = ? AND state IN ({marks})"
        )

        def change(connection: sqlite3.Connection) -> Announcement | None:
            values = (*changes.values(), row.tenant, row.id, zone, *before)
            if connection.execute(statement, values).rowcount == 0:
                return None
            return _summarise(connection, row.tenant, row.id)

        return await self._db.write(change, durable=is_durable)


def _same(connection: sqlite3.Connection, tenant: str, announcement_id: str, key: str) -> str | None:
    """The message that a new one would double."""
    found = connection.execute(
        f"SELECT id FROM announcements WHERE tenant = ? AND (id = ? OR (? <> '' AND key = ? AND state NOT IN {_OVER}))",  # noqa: S608
        (tenant, announcement_id, key, key),
    ).fetchone()
    return None if found is None else str(found[0])


def _insert(
    connection: sqlite3.Connection, tenant: str, announcement_id: str, new: NewAnnouncement, *, chime: bool
) -> None:
    rank = PRIORITIES.index(new.priority)
    row = {
        "tenant": tenant,
        "id": announcement_id,
        "text": new.text,
        "voice": new.voice,
        "language": new.language,
        "priority": rank,
        "volume": 1.0 if new.volume is None else new.volume,
        "chime": int(chime),
        "max_age_s": new.max_age_s,
        "repeats": new.repeats,
        "pause_s": new.pause_s,
        "key": new.key,
        "interrupted": str(new.interrupted),
        "audio": new.audio or None,
        "state": "queued",
        "created_at": utc_now(),
    }
    insert_row(connection, "announcements", row)
    place = connection.execute("SELECT last_insert_rowid()").fetchone()[0]
    for zone in new.zones:
        delivery = {"tenant": tenant, "announcement": announcement_id, "zone": zone, "priority": rank, "place": place}
        insert_row(connection, "deliveries", {**delivery, "state": "queued"})


def _interrupt(connection: sqlite3.Connection, reason: str, where: str, key: tuple[str, ...]) -> None:
    failed = f"UPDATE deliveries SET state = 'failed', reason = ?, finished_at = ? WHERE repeated > 0 AND {where}"  # noqa: S608
    again = (
        "UPDATE deliveries SET state = 'queued', reason = ?, repeated = repeated + 1, position_s = 0"  # noqa: S608
        f" WHERE {where}"
    )
    connection.execute(failed, (reason, utc_now(), *key))
    connection.execute(again, (reason, *key))


def _summarise(connection: sqlite3.Connection, tenant: str, announcement_id: str) -> Announcement:
    """Bring the state of a message in line with its deliveries, and return it."""
    row = _fetch(connection, tenant, announcement_id)
    state, reason = summary_of(row.zones)
    if state is State.QUEUED and row.state is State.RENDERING:
        state = State.RENDERING
    if (state, reason) != (row.state, row.reason):
        change = "UPDATE announcements SET state = ?, reason = ? WHERE tenant = ? AND id = ?"
        connection.execute(change, (str(state), reason, tenant, announcement_id))
        return _fetch(connection, tenant, announcement_id)
    return row


def _fetch(connection: sqlite3.Connection, tenant: str, announcement_id: str) -> Announcement:
    row = connection.execute(
        "SELECT *, rowid AS place FROM announcements WHERE tenant = ? AND id = ?", (tenant, announcement_id)
    ).fetchone()
    if row is None:
        raise NotFound("announcement_not_found", announcement=announcement_id)
    return _record(connection, row)


def _record(connection: sqlite3.Connection, row: sqlite3.Row) -> Announcement:
    query = "SELECT * FROM deliveries WHERE tenant = ? AND announcement = ? ORDER BY rowid"
    deliveries = connection.execute(query, (row["tenant"], row["id"])).fetchall()
    same = ("tenant", "id", "text", "voice", "language", "volume", "repeats", "pause_s", "key", "interrupted", "reason")
    also = ("max_age_s", "rendition", "audio", "duration_s", "created_at", "place")
    fields: dict[str, Any] = {name: row[name] for name in (*same, *also)}
    return Announcement(
        **fields,
        priority=PRIORITIES[row["priority"]],
        chime=bool(row["chime"]),
        state=State(row["state"]),
        zones=tuple(_delivery(delivery) for delivery in deliveries),
    )


def _delivery(row: sqlite3.Row) -> Delivery:
    names = ("zone", "reason", "repeated", "preempted", "position_s", "started_at", "finished_at")
    fields: dict[str, Any] = {name: row[name] for name in names}
    return Delivery(state=State(row["state"]), handed=Handed(row["handed"]), **fields)


def _decode_cursor(cursor: str | None) -> int:
    if not cursor:
        return 1 << 62
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidInput("cursor_invalid")
    return int(cursor)
