"""Schedules and what became of each of their occurrences, in the database.

An occurrence is decided once: its row in `schedule_runs` is written before anything is said, and the id of its message
follows from it, so that no crash and no clock can have it said twice.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from appliance.announcer.records import NewAnnouncement
from appliance.announcer.rules import Rule, rule_of
from appliance.database import Database, insert_row, utc_now
from appliance.errors import NotFound
from appliance.paging import Listing, Page, read_page
from appliance.voices.records import clean_name, new_id

PLAYED, MISSED = "played", "missed"


@dataclass(frozen=True)
class NewSchedule:
    """What is to be said, and when."""

    name: str
    rule: Rule
    message: NewAnnouncement
    time_zone: str = ""  # IANA name; empty: the one of the box
    if_missed: str = "skip"  # "play" within `grace_s`, or "skip"; either way it is reported
    grace_s: float = 300.0


@dataclass(frozen=True)
class Schedule:
    """One schedule."""

    tenant: str
    id: str
    name: str
    rule: Rule
    message: NewAnnouncement
    time_zone: str
    if_missed: str
    grace_s: float
    is_enabled: bool
    decided_until: datetime  # UTC: every occurrence up to here was decided
    created_at: str

    def as_json(self) -> dict[str, Any]:
        """For doors."""
        return {
            "id": self.id,
            "name": self.name,
            "rule": self.rule.as_json(),
            "message": {**asdict(self.message), "zones": list(self.message.zones)},
            "time_zone": self.time_zone,
            "if_missed": self.if_missed,
            "grace_s": self.grace_s,
            "is_enabled": self.is_enabled,
            "created_at": self.created_at,
        }


@dataclass(frozen=True)
class Run:
    """What became of one occurrence."""

    schedule: str
    due_at: str  # ISO 8601, UTC
    outcome: str  # "played": handed to the zones; "missed"
    reason: str  # catalogue code of a miss, or of a late play
    announcement: str  # id of the message
    decided_at: str

    @property
    def id(self) -> str:
        return f"{self.schedule}@{self.due_at}"

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, **asdict(self)}


def message_id(schedule_id: str, due: datetime) -> str:
    """The id of the announcement of an occurrence; equal occurrences have equal ids."""
    return f"ann_{hashlib.sha256(f'{schedule_id} {stamp(due)}'.encode()).hexdigest()[:16]}"


def stamp(moment: datetime) -> str:
    """An instant as this box stores it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class ScheduleStore:
    """Every query is scoped by tenant, but for the scheduler's own, which serves all."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, tenant: str, new: NewSchedule, now: datetime) -> Schedule:
        """File a schedule that is in force from `now` on."""
        schedule_id = new_id("sch")
        row = {
            "tenant": tenant,
            "id": schedule_id,
            "name": new.name,
            "rule": json.dumps(new.rule.as_json()),
            "message": json.dumps(asdict(new.message)),
            "time_zone": new.time_zone,
            "if_missed": new.if_missed,
            "grace_s": new.grace_s,
            "decided_until": stamp(now),
            "created_at": utc_now(),
        }
        await self._db.write(lambda db: insert_row(db, "schedules", row), durable=True)
        return await self.get(tenant, schedule_id)

    async def get(self, tenant: str, schedule_id: str) -> Schedule:
        """Raises NotFound("schedule_not_found")."""
        return await self._db.read(lambda db: _find(db, tenant, schedule_id))

    async def page(self, tenant: str, cursor: str | None, limit: int) -> Page[Schedule]:
        """In the order in which they were made."""
        listing = Listing(
            "SELECT * FROM schedules", "tenant = ? AND removed_at IS NULL", (tenant,), ("created_at", "id")
        )
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _schedule))

    async def enable(self, tenant: str, schedule_id: str, now: datetime, *, is_enabled: bool) -> Schedule:
        """Switch it on (from `now` on) or off. Raises NotFound."""

        def change(db: sqlite3.Connection) -> Schedule:
            found = _find(db, tenant, schedule_id)
            begins = stamp(now) if is_enabled and not found.is_enabled else stamp(found.decided_until)
            db.execute(
                "UPDATE schedules SET is_enabled = ?, decided_until = ? WHERE tenant = ? AND id = ?",
                (int(is_enabled), begins, tenant, found.id),
            )
            return _find(db, tenant, schedule_id)

        return await self._db.write(change, durable=True)

    async def remove(self, tenant: str, schedule_id: str) -> None:
        """It is never due again; what became of it stays on record. Raises NotFound."""

        def change(db: sqlite3.Connection) -> None:
            found = _find(db, tenant, schedule_id)
            removed = "UPDATE schedules SET removed_at = ? WHERE tenant = ? AND id = ?"
            db.execute(removed, (utc_now(), tenant, found.id))

        await self._db.write(change, durable=True)

    async def in_force(self) -> tuple[Schedule, ...]:
        """All schedules that may be due, of all tenants."""
        query = "SELECT * FROM schedules WHERE removed_at IS NULL AND is_enabled = 1"
        return await self._db.read(lambda db: tuple(_schedule(row) for row in db.execute(query)))

    async def decide(self, schedule: Schedule, runs: list[Run], until: datetime) -> list[Run]:
        """Write down what becomes of occurrences, and that all up to `until` are decided; returns the new ones."""

        def change(db: sqlite3.Connection) -> list[Run]:
            fresh = []
            for run in runs:
                row = {"tenant": schedule.tenant, **asdict(run)}
                before = db.total_changes
                insert_row(db, "schedule_runs", row, or_ignore=True)
                if db.total_changes > before:
                    fresh.append(run)
            until_now = "UPDATE schedules SET decided_until = ? WHERE tenant = ? AND id = ?"
            db.execute(until_now, (stamp(until), schedule.tenant, schedule.id))
            return fresh

        return await self._db.write(change, durable=True)

    async def take_back(self, now: datetime) -> int:
        """The clock went back: what was missed in a future that has not come yet is open again; what was said stays."""

        def change(db: sqlite3.Connection) -> int:
            gone = db.execute(
                "DELETE FROM schedule_runs WHERE outcome = ? AND due_at > ?", (MISSED, stamp(now))
            ).rowcount
            db.execute("UPDATE schedules SET decided_until = ? WHERE decided_until > ?", (stamp(now), stamp(now)))
            return gone

        return await self._db.write(change, durable=True)

    async def unsaid(self, since: datetime) -> list[tuple[str, Run]]:
        """(tenant, run) that were decided and have no message yet: a crash or a full queue came between."""
        query = (
            "SELECT * FROM schedule_runs WHERE outcome = 'played' AND due_at > ? AND NOT EXISTS (SELECT 1 FROM"
            " announcements WHERE announcements.tenant = schedule_runs.tenant AND announcements.id = announcement)"
        )
        return await self._db.read(
            lambda db: [(row["tenant"], _run(row)) for row in db.execute(query, (stamp(since),))]
        )

    async def miss(self, tenant: str, run: Run, reason: str) -> None:
        """It could not be handed over after all."""
        change = "UPDATE schedule_runs SET outcome = ?, reason = ? WHERE tenant = ? AND schedule = ? AND due_at = ?"
        values = (MISSED, reason, tenant, run.schedule, run.due_at)
        await self._db.write(lambda db: db.execute(change, values) and None, durable=True)

    async def runs(self, tenant: str, schedule_id: str, cursor: str | None, limit: int) -> Page[Run]:
        """What became of a schedule's occurrences, the latest first."""
        where, values = "tenant = ? AND schedule = ?", (tenant, schedule_id)
        listing = Listing("SELECT * FROM schedule_runs", where, values, ("due_at",), is_descending=True)
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _run))


def _find(db: sqlite3.Connection, tenant: str, schedule_id: str) -> Schedule:
    query = "SELECT * FROM schedules WHERE tenant = ? AND id = ? AND removed_at IS NULL"
    row = db.execute(query, (tenant, clean_name(schedule_id))).fetchone()
    if row is None:
        raise NotFound("schedule_not_found", schedule=clean_name(schedule_id)[:80])
    return _schedule(row)


def _schedule(row: sqlite3.Row) -> Schedule:
    message = json.loads(row["message"])
    same = ("tenant", "id", "name", "time_zone", "if_missed", "grace_s", "created_at")
    fields: dict[str, Any] = {name: row[name] for name in same}
    return Schedule(
        **fields,
        rule=rule_of(json.loads(row["rule"])),
        message=NewAnnouncement(**{**message, "zones": tuple(message["zones"])}),
        is_enabled=bool(row["is_enabled"]),
        decided_until=datetime.fromisoformat(row["decided_until"]),
    )


def _run(row: sqlite3.Row) -> Run:
    names = ("schedule", "due_at", "outcome", "reason", "announcement", "decided_at")
    return Run(**{name: row[name] for name in names})
