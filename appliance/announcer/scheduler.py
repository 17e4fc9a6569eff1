"""The scheduler: hands each scheduled message to the zones once, or reports it as missed, whatever the clock does.

Every look compares the wall clock with how far each schedule was decided. What became due since is decided on disk
first and handed over then. A clock that jumps ahead makes occurrences late: they are played or missed by the rule of
their schedule. One that jumps back opens again what was only missed; what was said is never said again. A clock that
was never set (before 2025) decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile

from appliance.announcer.announcer import Announcer
from appliance.announcer.hours import Clock, find_time_zone
from appliance.announcer.rules import check_rule, occurrences
from appliance.announcer.schedules import MISSED, PLAYED, NewSchedule, Run, Schedule, ScheduleStore, message_id, stamp
from appliance.contracts import JsonDict
from appliance.database import Database, utc_now
from appliance.errors import Busy, InvalidInput, NotFound, StorageFull, Unavailable, VoicedError
from appliance.paging import Page

log = logging.getLogger(__name__)

LOOK_S = 0.5
NOT_BEFORE = datetime(2025, 1, 1, tzinfo=UTC)  # an earlier clock was never set
ON_TIME_S = 30.0  # later than this is late: a busy box may look at the clock late
CATCH_UP_S = 60.0  # how late a message may be whose way to the queue a crash or a full queue barred
NOTED_EVERY = timedelta(minutes=10)  # how far a schedule without occurrences is decided is written down so often
NEVER = datetime.max.replace(tzinfo=UTC)
GAP_S = 30.0  # a step back smaller than this is a correction, not a jump
LOOK_BACK = timedelta(days=8)  # further back, occurrences are not reported one by one
MOST_REPORTED = 500  # at once, the latest
AHEAD = timedelta(hours=1)  # sounds are ready this long before they are due
PREPARE_EVERY_S = 60.0
MAX_GRACE_S = 86_400.0


class Scheduler:
    """Schedules of all tenants. Use as an async context manager, inside the one of the announcer."""

    def __init__(self, db: Database, announcer: Announcer, clock: Clock | None = None) -> None:
        self._store = ScheduleStore(db)
        self._announcer = announcer
        self._clock = clock or Clock()
        self._task: asyncio.Task[None] | None = None
        self._seen: datetime | None = None  # the clock at the last look
        self._prepare_at = 0.0  # loop time
        self._preparing: asyncio.Task[None] | None = None
        self._is_unset = False
        self._is_behind = True  # an earlier process may have decided what it could not hand over
        self._due: dict[tuple[str, datetime], datetime] = {}  # the first occurrence after what is decided

    async def __aenter__(self) -> Scheduler:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin to look at the clock."""
        self._task = asyncio.create_task(self._run(), name="scheduler")

    async def close(self) -> None:
        for task in (self._task, self._preparing):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})

    # ------------------------------------------------------------ what doors call

    async def add(self, tenant: str, new: NewSchedule) -> Schedule:
        """Keep a schedule. Raises InvalidInput (schedule_…, time_zone_unknown) and what `Announcer.check` raises."""
        check_rule(new.rule)
        zone = self._zone(new.time_zone)
        if new.if_missed not in ("play", "skip") or not 0 <= new.grace_s <= MAX_GRACE_S:
            raise InvalidInput("schedule_missed_invalid", rule=new.if_missed[:40], grace_s=new.grace_s)
        now = self._clock.now()
        if next(occurrences(new.rule, zone, now), None) is None:
            raise InvalidInput("schedule_never_due")
        message = await self._announcer.check(tenant, new.message)
        schedule = await self._store.add(tenant, replace(new, message=message), now)
        self._prepare_at = 0.0
        return schedule

    async def get(self, tenant: str, schedule_id: str) -> Schedule:
        """Raises NotFound("schedule_not_found")."""
        return await self._store.get(tenant, schedule_id)

    async def page(self, tenant: str, cursor: str | None = None, limit: int = 50) -> Page[Schedule]:
        """In the order in which they were made."""
        return await self._store.page(tenant, cursor, limit)

    async def enable(self, tenant: str, schedule_id: str, *, is_enabled: bool) -> Schedule:
        """Switch a schedule on or off; what would have been due while it was off is not missed."""
        return await self._store.enable(tenant, schedule_id, self._clock.now(), is_enabled=is_enabled)

    async def remove(self, tenant: str, schedule_id: str) -> None:
        """Raises NotFound("schedule_not_found")."""
        await self._store.remove(tenant, schedule_id)

    async def runs(self, tenant: str, schedule_id: str, cursor: str | None = None, limit: int = 50) -> Page[Run]:
        """What became of its occurrences, the latest first. Raises NotFound."""
        schedule = await self.get(tenant, schedule_id)
        return await self._store.runs(tenant, schedule.id, cursor, limit)

    def as_json(self, schedule: Schedule) -> JsonDict:
        """A schedule with the next times at which it is due."""
        upcoming: list[str] = []
        if schedule.is_enabled:
            moments = occurrences(schedule.rule, self._zone(schedule.time_zone), self._clock.now())
            upcoming = [stamp(moment) for moment in islice(moments, 3)]
        return {**schedule.as_json(), "next": upcoming}

    @property
    def is_clock_unset(self) -> bool:
        """The clock of the box was never set, so that nothing is due."""
        return self._is_unset

    # ------------------------------------------------------------ looking at the clock

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
                self._prepare_now_and_then()
            except VoicedError as error:  # a full disk: what is due stays undecided until it can be written
                log.warning("schedules: %s", error)
            except Exception:
                log.exception("schedules")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Decide everything that became due since the last look, and hand it over."""
        now = self._clock.now()
        self._is_unset = now < NOT_BEFORE
        if self._is_unset:
            return
        before, self._seen = self._seen, now
        if self._is_behind:
            await self._catch_up(now)
        schedules = await self._store.in_force()
        latest = max([*(each.decided_until for each in schedules), *([before] if before else [])], default=now)
        if now < latest - timedelta(seconds=GAP_S):
            opened = await self._store.take_back(now)
            log.warning("the clock went back from %s to %s: %d missed are open again", latest, now, opened)
            schedules = await self._store.in_force()
        self._due = {key: self._due[key] for key in map(_due_key, schedules) if key in self._due}
        for schedule in schedules:
            try:
                if schedule.decided_until < now and await self._is_due(schedule, now):
                    await self._decide(schedule, now)
            except StorageFull:
                raise
            except VoicedError as error:  # a time zone that is gone, say: the others are due all the same
                log.warning("schedule %s cannot be decided: %s", schedule.name, error)

    async def _is_due(self, schedule: Schedule, now: datetime) -> bool:
        """Whether there is something to write down: an occurrence, or that for long there was none."""
        key = _due_key(schedule)
        if key not in self._due:
            moments = occurrences(schedule.rule, self._zone(schedule.time_zone), schedule.decided_until)
            self._due[key] = await asyncio.to_thread(next, moments, NEVER)
        return now >= min(self._due[key], schedule.decided_until + NOTED_EVERY)

    async def _decide(self, schedule: Schedule, now: datetime) -> None:
        since = max(schedule.decided_until, now - LOOK_BACK)
        moments = occurrences(schedule.rule, self._zone(schedule.time_zone), since)
        due = await asyncio.to_thread(lambda: list(takewhile(lambda moment: moment <= now, moments))[-MOST_REPORTED:])
        runs = [self._judge(schedule, moment, now) for moment in due]
        if schedule.decided_until < since:
            runs.insert(0, _gap(schedule))
        for run in await self._store.decide(schedule, runs, now):
            if run.outcome == PLAYED:
                await self._hand_over(schedule, run)
            else:
                log.warning("schedule %s: missed %s (%s)", schedule.name, run.due_at, run.reason)

    def _judge(self, schedule: Schedule, due: datetime, now: datetime) -> Run:
        late_s = (now - due).total_seconds()
        is_on_time = late_s <= ON_TIME_S
        may_be_late = schedule.if_missed == "play" and late_s <= schedule.grace_s
        outcome = PLAYED if is_on_time or may_be_late else MISSED
        reason = "" if is_on_time else "schedule_late" if may_be_late else "schedule_missed"
        announcement = message_id(schedule.id, due) if outcome == PLAYED else ""
        return Run(schedule.id, stamp(due), outcome, reason, announcement, utc_now())

    async def _hand_over(self, schedule: Schedule, run: Run) -> None:
        try:
            await self._announcer.submit(schedule.tenant, schedule.message, announcement_id=run.announcement)
        except (StorageFull, Busy) as error:
            log.warning("schedule %s: %s waits: %s", schedule.name, run.due_at, error)
            self._is_behind = True
        except VoicedError as error:
            log.warning("schedule %s: %s could not be said: %s", schedule.name, run.due_at, error)
            await self._store.miss(schedule.tenant, run, error.code)

    async def _catch_up(self, now: datetime) -> None:
        """Hand over what was decided and never reached the queue; its id keeps it from being said twice."""
        self._is_behind = False
        for tenant, run in await self._store.unsaid(now - timedelta(days=1)):
            try:
                schedule = await self._store.get(tenant, run.schedule)
            except NotFound:
                await self._store.miss(tenant, run, "schedule_missed")
                continue
            late_s = (now - datetime.fromisoformat(run.due_at)).total_seconds()
            if late_s <= max(CATCH_UP_S, schedule.grace_s if schedule.if_missed == "play" else 0.0):
                await self._hand_over(schedule, run)
            else:
                await self._store.miss(tenant, run, "schedule_missed")

    def _zone(self, name: str) -> tzinfo:
        return find_time_zone(name) if name else self._announcer.time_zone

    # ------------------------------------------------------------ ready before it is due

    def _prepare_now_and_then(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._prepare_at and (self._preparing is None or self._preparing.done()):
            self._prepare_at = now + PREPARE_EVERY_S
            self._preparing = asyncio.create_task(self.prepare(), name="schedules ahead")

    async def prepare(self) -> None:
        """Have the sounds made of everything that is due within the next hour."""
        now = self._clock.now()
        for schedule in await self._store.in_force():
            upcoming = next(occurrences(schedule.rule, self._zone(schedule.time_zone), now), None)
            if upcoming is not None and upcoming - now <= AHEAD:
                with suppress(Busy, Unavailable, StorageFull):  # there is time to try again
                    await self._prepare(schedule)

    async def _prepare(self, schedule: Schedule) -> None:
        try:
            await self._announcer.prepare(schedule.tenant, schedule.message)
        except (Busy, Unavailable, StorageFull):
            raise
        except VoicedError as error:  # it will be refused when it is due, too: say so in time
            log.warning("schedule %s cannot be said as it stands: %s", schedule.name, error)


def _due_key(schedule: Schedule) -> tuple[str, datetime]:
    return schedule.id, schedule.decided_until


def _gap(schedule: Schedule) -> Run:
    """Stands for everything that was due before the days that are reported one by one."""
    return Run(schedule.id, stamp(schedule.decided_until), MISSED, "schedule_gap", "", utc_now())
