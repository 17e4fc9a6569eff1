"""When a scheduled message is due: cron lines or a calendar, in a time zone, without the days that are excepted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from heapq import merge
from itertools import groupby, islice, pairwise
from typing import Any

from cronsim import CronSim, CronSimError

from appliance.errors import InvalidInput

LEAST_GAP = timedelta(seconds=30)
MAX_LINES = 50
MAX_DAYS = 1_000
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
_HORIZON = timedelta(days=366 * 5)  # a rule without any occurrence in five years has none


@dataclass(frozen=True)
class Rule:
    """Either `cron`, or `times` on `dates` or on `weekdays` (neither: every day)."""

    cron: str = ""  # five or six fields, as in crontab(5)
    times: tuple[str, ...] = ()  # "17:45" or "17:45:30"
    weekdays: tuple[str, ...] = ()  # "mon" … "sun"
    dates: tuple[str, ...] = ()  # "2026-12-24"
    first_day: str = ""  # not before this date
    last_day: str = ""  # not after it
    except_days: tuple[str, ...] = ()  # "2026-12-25", or "2026-12-24/2026-12-26" for a span

    def as_json(self) -> dict[str, Any]:
        """Only what was given."""
        return {name: value for name, value in asdict(self).items() if value}


def rule_of(values: dict[str, Any]) -> Rule:
    """A rule from its JSON form."""
    fields: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
    return Rule(**fields)


def check_rule(rule: Rule) -> None:
    """Raises InvalidInput("schedule_rule_invalid") with what is wrong."""
    if bool(rule.cron) == bool(rule.times):
        raise _wrong("cron or times, one of them")
    if rule.cron and (rule.weekdays or rule.dates):
        raise _wrong("weekdays and dates belong to times; cron has them itself")
    if rule.weekdays and rule.dates:
        raise _wrong("weekdays or dates, not both")
    if len(rule.times) > MAX_LINES or len(rule.dates) + len(rule.except_days) > MAX_DAYS:
        raise _wrong(f"more than {MAX_LINES} times or {MAX_DAYS} days")
    for day in rule.weekdays:
        if day not in WEEKDAYS:
            raise _wrong(f"{day[:20]!r} is none of {' '.join(WEEKDAYS)}")
    for day in (*rule.dates, *(part for part in (rule.first_day, rule.last_day) if part)):
        _date(day)
    for span in rule.except_days:
        _span(span)
    for line in _lines(rule):
        try:
            CronSim(line, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise _wrong(f"{line[:80]!r}: {error}") from error
    first = list(islice(_moments(rule, UTC, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)), 70))
    if any(later - earlier < LEAST_GAP for earlier, later in pairwise(first)):
        raise _wrong(f"more often than every {LEAST_GAP.seconds} s")


def occurrences(rule: Rule, time_zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """The instants (UTC) later than `after` at which the rule is due, in order, for the next five years.

    A time that a DST change skips is due right after the gap; one that it repeats is due once, unless the cron line
    names every hour (vixie cron's rules).
    """
    excepted = [_span(span) for span in rule.except_days]
    until = after + _HORIZON
    if rule.first_day:
        after = max(after, _midnight(_date(rule.first_day), time_zone))
    if rule.last_day:
        until = min(until, _midnight(_date(rule.last_day) + timedelta(days=1), time_zone))
    start: datetime | None = after
    while start is not None:
        begun, start = start, None
        for moment in _moments(rule, time_zone, begun, until):
            day = moment.astimezone(time_zone).date()
            ends = [last for first, last in excepted if first <= day <= last]
            if ends:  # go on behind the excepted days instead of counting through them
                start = _midnight(max(ends) + timedelta(days=1), time_zone)
                break
            if not rule.dates or day.isoformat() in rule.dates:
                yield moment


def _moments(rule: Rule, time_zone: tzinfo, after: datetime, until: datetime) -> Iterator[datetime]:
    iterators = [_line_moments(line, time_zone, after, until) for line in _lines(rule)]
    return (moment for moment, _ in groupby(merge(*iterators)))


def _line_moments(line: str, time_zone: tzinfo, after: datetime, until: datetime) -> Iterator[datetime]:
    for moment in CronSim(line, after.astimezone(time_zone)):
        instant = moment.astimezone(UTC)
        if instant > until:
            return
        if instant > after:
            yield instant


def _midnight(day: date, time_zone: tzinfo) -> datetime:
    """The last instant before `day` begins."""
    return datetime(day.year, day.month, day.day, tzinfo=time_zone).astimezone(UTC) - timedelta(seconds=1)


def _lines(rule: Rule) -> tuple[str, ...]:
    """The rule as crontab lines; a line with seconds has six fields."""
    if rule.cron:
        return (rule.cron,)
    days = [f"* * {','.join(rule.weekdays) or '*'}"]
    if rule.dates:
        days = sorted({f"{_date(day).day} {_date(day).month} *" for day in rule.dates})
    return tuple(f"{_clock_fields(moment)} {day}" for moment in rule.times for day in days)


def _clock_fields(moment: str) -> str:
    match = _TIME.fullmatch(moment)
    if match is None:
        raise _wrong(f"{moment[:20]!r} is no time like 17:45")
    hour, minute, second = match.groups()
    return f"{int(second)} {int(minute)} {int(hour)}" if second else f"{int(minute)} {int(hour)}"


def _span(text: str) -> tuple[date, date]:
    first, _, last = text.partition("/")
    span = _date(first), _date(last or first)
    if span[0] > span[1]:
        raise _wrong(f"{text!r} ends before it begins")
    return span


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _wrong(f"{text[:20]!r} is no date like 2026-12-24") from None


def _wrong(problem: str) -> InvalidInput:
    return InvalidInput("schedule_rule_invalid", problem=problem)
