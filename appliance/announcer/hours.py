"""Clock and hours of the day: what time it is where the box stands, and whether that lies in a span."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from appliance.errors import InvalidInput

LOCALTIME = Path("/etc/localtime")


class Clock:
    """The wall clock. It may jump; whoever waits for a span of time asks the event loop instead."""

    def now(self) -> datetime:
        """The present, in UTC."""
        return datetime.now(UTC)


def find_time_zone(name: str) -> tzinfo:
    """The zone of an IANA name; empty: the machine's own, UTC where it has none. Raises InvalidInput."""
    try:
        return ZoneInfo(name or _machine_zone())
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput("time_zone_unknown", zone=name[:60]) from error


def _machine_zone() -> str:
    target = LOCALTIME.resolve().as_posix()
    return target.partition("zoneinfo/")[2] or "UTC"


def lies_in(moment: time, spans: Iterable[str]) -> bool:
    """Whether a time of day lies in one of "22:00-07:00" (its end excluded; over midnight where it ends before)."""
    return any(_lies_in(moment, span) for span in spans)


def _lies_in(moment: time, span: str) -> bool:
    first, last = (time.fromisoformat(part) for part in span.split("-"))
    return first <= moment < last if first < last else moment >= first or moment < last


def value_at(moment: time, by_span: Mapping[str, float], otherwise: float) -> float:
    """The value of the first span that the time of day lies in."""
    return next((value for span, value in by_span.items() if _lies_in(moment, span)), otherwise)
