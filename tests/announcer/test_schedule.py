"""Schedules against clocks that jump: each occurrence is said once, or reported as missed by its rule."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from announcer_stage import PATIENCE, RATE, LevelSpeech, until_over

from appliance.announcer.announcer import Announcer, Surroundings
from appliance.announcer.hours import Clock
from appliance.announcer.records import NewAnnouncement
from appliance.announcer.rules import Rule, occurrences
from appliance.announcer.scheduler import Scheduler
from appliance.announcer.schedules import NewSchedule, Schedule
from appliance.database import open_database
from appliance.errors import InvalidInput, NotFound
from appliance.settings import LoudspeakerSettings
from appliance.voices.blobs import BlobStore

MESSAGE = NewAnnouncement(text="1 0.1", voice="anna", max_age_s=3_000)


class SetClock(Clock):
    """A wall clock that the test sets and lets run."""

    def __init__(self, moment: str) -> None:
        self.set(moment)

    def set(self, moment: str) -> None:
        self._now = datetime.fromisoformat(moment).astimezone(UTC)

    def now(self) -> datetime:
        return self._now

    def move(self, **span: float) -> None:
        self._now += timedelta(**span)


class Plan:
    """A scheduler whose clock is ours, and what it handed over."""

    def __init__(self, announcer: Announcer, clock: SetClock) -> None:
        self.announcer, self.clock = announcer, clock
        self.scheduler = self.restart()

    def restart(self) -> Scheduler:
        """As a new process would find it."""
        self.scheduler = Scheduler(self.announcer._queue._db, self.announcer, self.clock)
        return self.scheduler

    async def add(self, rule: Rule, message: NewAnnouncement = MESSAGE, **fields: object) -> Schedule:
        return await self.scheduler.add("main", NewSchedule("closing", rule, message, **fields))

    async def run(self, **step: float) -> None:
        """Let time pass in small steps, looking at each."""
        ends_at, small = self.clock.now() + timedelta(**step), timedelta(seconds=20)
        while self.clock.now() < ends_at:
            self.clock.move(seconds=min(small, ends_at - self.clock.now()).total_seconds())
            await self.scheduler.look()

    async def outcomes(self, schedule: Schedule) -> dict[str, tuple[str, str]]:
        page = await self.scheduler.runs("main", schedule.id, None, 200)
        return {run.due_at: (run.outcome, run.reason) for run in reversed(page.items)}

    async def said(self) -> int:
        return len((await self.announcer.page("main", None, 200)).items)


@pytest.fixture
async def plan(tmp_path) -> AsyncIterator[Plan]:
    """The announcer is not started: what is handed over waits in its queue, once each."""
    clock = SetClock("2026-11-26T16:00:00+01:00")
    settings = LoudspeakerSettings(time_zone="Europe/Berlin", sample_rate=RATE, max_queue=1_000)
    async with open_database(tmp_path / "voiced.db") as db:
        blobs = BlobStore(tmp_path / "blobs")
        yield Plan(Announcer(LevelSpeech(RATE), db, blobs, settings, Surroundings(PATIENCE, clock)), clock)


async def test_a_message_is_handed_over_once_at_its_time(plan):
    schedule = await plan.add(Rule(times=("17:45", "20:00"), weekdays=("thu", "fri")))
    await plan.run(hours=1, minutes=44)
    assert await plan.said() == 0
    await plan.run(minutes=2)
    await plan.run(hours=24)
    assert await plan.outcomes(schedule) == {
        "2026-11-26T16:45:00Z": ("played", ""),
        "2026-11-26T19:00:00Z": ("played", ""),
        "2026-11-27T16:45:00Z": ("played", ""),
    }
    assert await plan.said() == 3


async def test_a_restart_between_deciding_and_handing_over_loses_and_doubles_nothing(plan, monkeypatch):
    await plan.add(Rule(times=("17:45",)))
    await plan.run(hours=1, minutes=44, seconds=59)

    async def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plan.announcer, "submit", dies)
    with pytest.raises(KeyboardInterrupt):
        await plan.run(seconds=3)
    monkeypatch.undo()
    for _ in range(3):
        plan.restart()
        await plan.run(seconds=3)
    assert await plan.said() == 1


async def test_what_the_box_slept_through_is_played_late_or_reported(plan):
    skips = await plan.add(Rule(times=("17:45",)))
    plays = await plan.add(Rule(times=("17:45",)), if_missed="play", grace_s=600)
    too_late = await plan.add(Rule(times=("17:30",)), if_missed="play", grace_s=600)
    plan.clock.move(hours=1, minutes=50)
    plan.restart()
    await plan.run(seconds=20)
    assert list((await plan.outcomes(skips)).values()) == [("missed", "schedule_missed")]
    assert list((await plan.outcomes(plays)).values()) == [("played", "schedule_late")]
    assert list((await plan.outcomes(too_late)).values()) == [("missed", "schedule_missed")]
    assert await plan.said() == 1


async def test_a_day_ahead_and_back_again_says_nothing_twice(plan):
    schedule = await plan.add(Rule(times=("17:45",)), if_missed="play", grace_s=3_600)
    await plan.run(hours=2)  # said
    plan.clock.move(days=1)  # to the next day, 18:00: said late
    await plan.run(minutes=1)
    plan.clock.move(days=-1)  # the clock was wrong
    await plan.run(hours=26)  # over 17:45 of that day, which was said in a false future
    assert await plan.outcomes(schedule) == {
        "2026-11-26T16:45:00Z": ("played", ""),
        "2026-11-27T16:45:00Z": ("played", "schedule_late"),
    }
    assert await plan.said() == 2


async def test_what_was_missed_only_in_a_false_future_is_said_in_the_true_one(plan):
    schedule = await plan.add(Rule(times=("17:45",)))
    plan.clock.move(days=400)
    await plan.run(minutes=1)
    assert {outcome for outcome, _ in (await plan.outcomes(schedule)).values()} == {"missed"}
    plan.clock.set("2026-11-26T16:10:00+01:00")
    await plan.run(hours=2)
    assert (await plan.outcomes(schedule))["2026-11-26T16:45:00Z"] == ("played", "")
    assert await plan.said() == 1


async def test_a_day_back_repeats_nothing(plan):
    schedule = await plan.add(Rule(times=("17:45",)))
    await plan.run(hours=2)
    plan.clock.move(days=-1)
    await plan.run(hours=25)
    assert await plan.outcomes(schedule) == {"2026-11-26T16:45:00Z": ("played", "")}
    assert await plan.said() == 1


async def test_a_box_that_wakes_in_1970_waits_for_its_clock(plan):
    schedule = await plan.add(Rule(times=("17:45",)))
    plan.clock.set("1970-01-01T00:00:10+00:00")
    plan.restart()
    await plan.run(minutes=3)
    assert plan.scheduler.is_clock_unset
    assert await plan.outcomes(schedule) == {}
    plan.clock.set("2026-11-26T17:44:50+01:00")
    await plan.run(minutes=1)
    assert not plan.scheduler.is_clock_unset
    assert await plan.outcomes(schedule) == {"2026-11-26T16:45:00Z": ("played", "")}


@pytest.mark.parametrize("day", ["2027-03-28", "2027-10-31"])
async def test_on_the_days_of_dst_each_message_is_said_once(plan, day):
    plan.clock.set(f"{day}T00:10:00+00:00")  # 01:10 or 02:10 in Berlin
    schedule = await plan.add(Rule(times=("02:30", "03:30", "12:00")))
    await plan.run(hours=20)
    expected = {
        "2027-03-28": ["2027-03-28T01:00:00Z", "2027-03-28T01:30:00Z", "2027-03-28T10:00:00Z"],  # 02:30 is 03:00
        "2027-10-31": ["2027-10-31T00:30:00Z", "2027-10-31T02:30:00Z", "2027-10-31T11:00:00Z"],
    }
    assert await plan.outcomes(schedule) == dict.fromkeys(expected[day], ("played", ""))


async def test_no_sequence_of_jumps_says_an_occurrence_twice_or_leaves_one_undecided(plan):
    chance = random.Random(5)
    schedule = await plan.add(Rule(cron="*/20 * * * *"), if_missed="play", grace_s=300)
    began = plan.clock.now()
    for _ in range(25):
        await plan.run(minutes=chance.randint(1, 50))
        plan.clock.move(minutes=chance.choice([0, 0, 7, -7, 90, -45, 600, -300]))
        if chance.random() < 0.3:
            plan.restart()
    await plan.run(minutes=1)
    ends_at = plan.clock.now()
    rows = (await plan.announcer.page("main", None, 200)).items
    assert max(Counter(row.id for row in rows).values()) == 1
    outcomes = await plan.outcomes(schedule)
    due = islice(occurrences(schedule.rule, ZoneInfo("Europe/Berlin"), began), 500)
    undecided = [moment for moment in due if moment <= ends_at and f"{moment:%Y-%m-%dT%H:%M:%SZ}" not in outcomes]
    assert undecided == []
    assert len(rows) == sum(outcome == "played" for outcome, _ in outcomes.values())


async def test_a_scheduled_message_is_ready_before_it_is_due(plan, sound_card):
    plan.clock.set("2026-11-26T17:20:00+01:00")
    schedule = await plan.add(Rule(times=("17:45",)))
    await plan.scheduler.prepare()
    assert plan.announcer._synthesis.rendered == ["1 0.1"]
    async with plan.announcer:
        plan.clock.set("2026-11-26T17:45:00+01:00")
        await plan.scheduler.look()
        (run,) = (await plan.scheduler.runs("main", schedule.id)).items
        (row,) = await until_over(plan.announcer, run.announcement)
    assert str(row.state) == "done"
    assert plan.announcer._synthesis.rendered == ["1 0.1"]  # not made again


async def test_a_message_that_is_refused_when_it_is_due_is_reported(plan):
    schedule = await plan.add(Rule(times=("17:45",)))
    plan.announcer._synthesis.refusal = NotFound("voice_not_found", voice="anna")
    await plan.run(hours=2)
    assert list((await plan.outcomes(schedule)).values()) == [("missed", "voice_not_found")]


async def test_a_full_queue_delays_and_does_not_lose(plan, tmp_path):
    full = plan.announcer._settings.model_copy(update={"max_queue": 1})
    db, blobs = plan.announcer._queue._db, BlobStore(tmp_path / "blobs")
    plan.announcer = Announcer(LevelSpeech(RATE), db, blobs, full, Surroundings(PATIENCE, plan.clock))
    plan.restart()
    waiting = await plan.announcer.submit("main", MESSAGE)
    await plan.add(Rule(times=("17:45",)))
    await plan.run(hours=1, minutes=45)
    assert await plan.said() == 1
    await plan.announcer.stop("main", waiting.id)
    await plan.run(seconds=20)
    assert await plan.said() == 2


async def test_a_schedule_that_is_off_misses_nothing_and_one_that_is_removed_is_gone(plan):
    schedule = await plan.add(Rule(times=("17:45",)))
    await plan.scheduler.enable("main", schedule.id, is_enabled=False)
    await plan.run(hours=3)
    await plan.scheduler.enable("main", schedule.id, is_enabled=True)
    await plan.run(hours=1)
    assert await plan.outcomes(schedule) == {}
    with pytest.raises(NotFound):
        await plan.scheduler.remove("branch", schedule.id)
    await plan.scheduler.remove("main", schedule.id)
    await plan.run(hours=24)
    assert (await plan.scheduler.page("main")).items == ()
    assert await plan.said() == 0


def test_a_calendar_has_its_exceptions_and_its_bounds():
    berlin = ZoneInfo("Europe/Berlin")
    rule = Rule(times=("09:00",), first_day="2026-12-22", last_day="2026-12-29", except_days=("2026-12-24/2026-12-26",))
    days = [moment.astimezone(berlin).day for moment in occurrences(rule, berlin, datetime(2026, 1, 1, tzinfo=UTC))]
    assert days == [22, 23, 27, 28, 29]
    dates = Rule(times=("09:00", "17:30:15"), dates=("2026-12-24", "2028-02-29"))
    due = occurrences(dates, berlin, datetime(2026, 1, 1, tzinfo=UTC))
    assert [str(moment.astimezone(berlin))[:19] for moment in due] == [
        "2026-12-24 09:00:00",
        "2026-12-24 17:30:15",
        "2028-02-29 09:00:00",
        "2028-02-29 17:30:15",
    ]


@pytest.mark.parametrize(
    "rule",
    [
        Rule(),
        Rule(cron="61 * * * *"),
        Rule(cron="* * * * * *"),
        Rule(cron="0 9 * * *", times=("09:00",)),
        Rule(times=("25:00",)),
        Rule(times=("9 Uhr",)),
        Rule(times=("09:00",), weekdays=("montag",)),
        Rule(times=("09:00",), dates=("24.12.2026",)),
        Rule(times=("09:00",), dates=("2020-01-01",)),
        Rule(times=("09:00",), except_days=("2026-12-26/2026-12-24",)),
        Rule(cron="0 9 30 2 *"),
    ],
)
async def test_a_rule_that_makes_no_sense_is_refused(plan, rule):
    with pytest.raises(InvalidInput) as refused:
        await plan.add(rule)
    assert refused.value.code in ("schedule_rule_invalid", "schedule_never_due")


async def test_the_scheduler_looks_at_the_clock_by_itself(plan):
    plan.clock.set("2026-11-26T17:44:59+01:00")
    await plan.add(Rule(times=("17:45",)))
    await plan.scheduler.start()
    plan.clock.move(seconds=1)
    ends_at = asyncio.get_running_loop().time() + 10
    while not await plan.said():
        assert asyncio.get_running_loop().time() < ends_at
        await asyncio.sleep(0.05)
    await plan.scheduler.close()
