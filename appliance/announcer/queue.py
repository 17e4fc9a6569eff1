"""The queue of announcements in the database: every change of state is one transaction.

A row is claimed before its first sample is played and settled after its last, both on disk, so that whoever restarts
knows which message may have been heard.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable

from appliance.announcer.records import PRIORITIES, Announcement, NewAnnouncement, State
from appliance.database import Database, utc_now
from appliance.errors import Busy, InvalidInput, NotFound
from appliance.paging import MAX_LIMIT, Page

# rowid grows with each row: first come, first served within a priority
_WAITING = (
    "SELECT * FROM announcements WHERE state IN ('queued', 'rendering') AND ? IN ('', tenant)"
    " ORDER BY priority DESC, rowid"
)


class AnnouncementQueue:
    """Rows of the table `announcements`."""

    def __init__(self, db: Database, max_waiting: int) -> None:
        self._db = db
        self._max_waiting = max_waiting

    async def add(self, tenant: str, new: NewAnnouncement, *, chime: bool) -> Announcement:
        """File a message; it is on disk when this returns. Raises Busy("announcements_full")."""
        announcement_id = f"ann_{secrets.token_hex(8)}"

        def insert(connection: sqlite3.Connection) -> Announcement:
            query = "SELECT count(*) FROM announcements WHERE state IN ('queued', 'rendering')"
            waiting = connection.execute(query).fetchone()[0]
            if waiting >= self._max_waiting:
                raise Busy("announcements_full", waiting=waiting, limit=self._max_waiting, retry_after_s=10)
            connection.execute(
                "INSERT INTO announcements (tenant, id, text, voice, language, priority, volume, chime, max_age_s,"
                " state, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?)",
                (
                    tenant,
                    announcement_id,
                    new.text,
                    new.voice,
                    new.language,
                    PRIORITIES.index(new.priority),
                    1.0 if new.volume is None else new.volume,
                    int(chime),
                    new.max_age_s,
                    utc_now(),
                ),
            )
            return _fetch(connection, tenant, announcement_id)

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
            return Page(tuple(_record(row) for row in rows[:limit]), following)

        return await self._db.read(select)

    async def waiting(self, tenant: str | None = None) -> tuple[Announcement, ...]:
        """What is still to be said, in the order in which it will be (of all tenants, or of one)."""
        return await self._db.read(
            lambda connection: tuple(_record(row) for row in connection.execute(_WAITING, (tenant or "",)))
        )

    async def recover(self) -> tuple[Announcement, ...]:
        """Take over what a previous process left behind, once, before anything else.

        A message that was playing is said again from its start, at most once, and carries `repeated`; the second
        interruption fails it. Returns every row that was changed.
        """

        def repair(connection: sqlite3.Connection) -> tuple[Announcement, ...]:
            half_way = "SELECT tenant, id FROM announcements WHERE state IN ('playing', 'rendering')"
            keys = connection.execute(half_way).fetchall()
            connection.execute("UPDATE announcements SET state = 'queued' WHERE state = 'rendering'")
            _interrupt(connection, "interrupted", "state = 'playing'", ())
            return tuple(_fetch(connection, key["tenant"], key["id"]) for key in keys)

        return await self._db.write(repair, durable=True)

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

    async def begin_playing(self, row: Announcement) -> bool:
        """queued -> playing, on disk before the first sample; False when it is not queued any more."""
        return await self._move(row, "queued", "state = 'playing', started_at = ?", (utc_now(),), durable=True)

    async def put_back(self, row: Announcement) -> bool:
        """playing -> queued: it was claimed, but nothing of it was heard."""
        return await self._move(row, "playing", "state = 'queued', started_at = NULL", (), durable=True)

    async def interrupt(self, row: Announcement, reason: str) -> Announcement:
        """playing -> queued to be repeated, or failed when it was repeated already."""

        def change(connection: sqlite3.Connection) -> Announcement:
            key = (row.tenant, row.id)
            _interrupt(connection, reason, "state = 'playing' AND tenant = ? AND id = ?", key)
            return _fetch(connection, *key)

        return await self._db.write(change, durable=True)

    async def settle(self, row: Announcement, state: State, reason: str = "") -> Announcement:
        """Reach an end. A row that is over already stays as it is; the row as it now stands is returned."""

        def change(connection: sqlite3.Connection) -> Announcement:
            connection.execute(
                "UPDATE announcements SET state = ?, reason = ?, finished_at = ?"
                " WHERE tenant = ? AND id = ? AND state NOT IN ('done', 'failed', 'cancelled', 'expired')",
                (str(state), reason, utc_now(), row.tenant, row.id),
            )
            return _fetch(connection, row.tenant, row.id)

        return await self._db.write(change, durable=True)

    async def settle_waiting(self, row: Announcement, state: State, reason: str) -> bool:
        """queued or rendering -> an end; False when it began to play meanwhile."""

        def change(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "UPDATE announcements SET state = ?, reason = ?, finished_at = ?"
                " WHERE tenant = ? AND id = ? AND state IN ('queued', 'rendering')",
                (str(state), reason, utc_now(), row.tenant, row.id),
            )
            return cursor.rowcount == 1

        return await self._db.write(change, durable=True)

    async def _move(
        self, row: Announcement, state: str, change: str, values: tuple[object, ...], *, durable: bool = False
    ) -> bool:
        statement = f"UPDATE announcements SET {change} WHERE tenant = ? AND id = ? AND state = ?"  # noqa: S608 - constants
        work: Callable[[sqlite3.Connection], bool] = lambda connection: (
            connection.execute(statement, (*values, row.tenant, row.id, state)).rowcount == 1
        )
        return await self._db.write(work, durable=durable)


def _interrupt(connection: sqlite3.Connection, reason: str, where: str, key: tuple[str, ...]) -> None:
    failed = f"UPDATE announcements SET state = 'failed', reason = ?, finished_at = ? WHERE repeated > 0 AND {where}"  # noqa: S608
    again = f"UPDATE announcements SET state = 'queued', reason = ?, repeated = repeated + 1 WHERE {where}"  # noqa: S608
    connection.execute(failed, (reason, utc_now(), *key))
    connection.execute(again, (reason, *key))


def _fetch(connection: sqlite3.Connection, tenant: str, announcement_id: str) -> Announcement:
    row = connection.execute(
        "SELECT * FROM announcements WHERE tenant = ? AND id = ?", (tenant, announcement_id)
    ).fetchone()
    if row is None:
        raise NotFound("announcement_not_found", announcement=announcement_id)
    return _record(row)


def _record(row: sqlite3.Row) -> Announcement:
    return Announcement(
        tenant=row["tenant"],
        id=row["id"],
        text=row["text"],
        voice=row["voice"],
        language=row["language"],
        priority=PRIORITIES[row["priority"]],
        volume=row["volume"],
        chime=bool(row["chime"]),
        state=State(row["state"]),
        reason=row["reason"],
        repeated=row["repeated"],
        max_age_s=row["max_age_s"],
        zone=row["zone"],
        rendition=row["rendition"],
        audio=row["audio"],
        duration_s=row["duration_s"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


def _decode_cursor(cursor: str | None) -> int:
    if not cursor:
        return 1 << 62
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidInput("cursor_invalid")
    return int(cursor)
