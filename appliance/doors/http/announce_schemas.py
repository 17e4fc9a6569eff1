"""Announcements, schedules, zones and music."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from appliance.doors.http.schemas import MAX_TEXT, SPEC_LIMIT, Asked, Language, PageTold, Told

ZoneName = Annotated[str, Field(min_length=1, max_length=63)]


class AnnouncementAsked(Asked):
    """Something to be said aloud, now or as soon as what is more urgent has been said."""

    text: str = Field("", max_length=MAX_TEXT)
    voice: str = Field("", max_length=SPEC_LIMIT)
    rendition: str = Field("", max_length=100, description="id of a rendered line to play, instead of text and voice")
    script: str = Field("", max_length=63, description="a published line of this script, instead of text and voice …")
    line: str = Field("", max_length=200, description="… its name")
    values: dict[str, str] = Field(default_factory=dict, description="… with these values of its variables")
    zones: list[ZoneName] = Field(default_factory=list, max_length=32, description="where; default: the first zone")
    repeats: int = Field(1, ge=1, le=5, description="how often in a row")
    pause_s: float = Field(2.0, ge=0, le=60, allow_inf_nan=False, description="between repeats")
    key: str = Field("", max_length=200, description="a message with the key of one that waits or plays is that one")
    interrupted: Literal["restart", "resume", "drop"] = Field(
        "restart", description="what becomes of it when a more urgent message interrupts it"
    )
    language: Language = "auto"
    priority: Literal["background", "normal", "urgent", "emergency"] = "normal"
    volume: float = Field(1.0, ge=0, le=1, allow_inf_nan=False, description="on top of the loudspeaker's own volume")
    chime: bool | None = Field(None, description="default: as the box is set")
    max_age_s: float = Field(300.0, gt=0, le=604_800, description="not said any more once it is older than this")


class AnnouncementTold(Told):
    id: str
    text: str
    voice: str
    state: str
    reason: str
    priority: str
    zones: list[dict[str, Any]]
    created_at: str


class AnnouncementsTold(PageTold):
    items: list[AnnouncementTold]


class StoppedTold(PageTold):
    stopped: int
    items: list[AnnouncementTold]


class ZoneTold(Told):
    id: str
    state: str
    alarms: list[dict[str, Any]]
    volume: float
    is_quiet: bool
    playing: dict[str, Any] | None
    waiting: int


class ZonesTold(PageTold):
    items: list[ZoneTold]


class ScheduleAsked(Asked):
    """Something to be said again and again: `cron`, or `times` on `dates` or `weekdays` (neither: every day)."""

    name: str = Field(min_length=1, max_length=200)
    message: AnnouncementAsked
    cron: str = Field("", max_length=200, description="five or six fields, as in crontab(5)")
    times: list[str] = Field(default_factory=list, max_length=50, description="17:45")
    weekdays: list[str] = Field(default_factory=list, max_length=7, description="mon … sun")
    dates: list[str] = Field(default_factory=list, max_length=1_000, description="2026-12-24")
    first_day: str = Field("", max_length=10)
    last_day: str = Field("", max_length=10)
    except_days: list[str] = Field(default_factory=list, max_length=1_000, description="2026-12-25, or a span a/b")
    time_zone: str = Field("", max_length=60, description="IANA name; empty: the one of the box")
    if_missed: Literal["play", "skip"] = Field("skip", description="when its time was jumped over")
    grace_s: float = Field(300.0, ge=0, le=86_400, allow_inf_nan=False, description="how late it may be played then")


class ScheduleChangeAsked(Asked):
    is_enabled: bool


class ScheduleTold(Told):
    id: str
    name: str
    rule: dict[str, Any]
    message: dict[str, Any]
    time_zone: str
    if_missed: str
    grace_s: float
    is_enabled: bool
    created_at: str
    next: list[str]


class SchedulesTold(PageTold):
    items: list[ScheduleTold]


class RunTold(Told):
    id: str
    due_at: str
    outcome: str
    reason: str
    announcement: str
    decided_at: str


class RunsTold(PageTold):
    items: list[RunTold]


class MusicAsked(Asked):
    """A playlist to be played in a zone until it is stopped."""

    playlist: str = Field(min_length=1, max_length=200)
    zone: str = Field("", max_length=63, description="default: the first zone")
    volume: float = Field(1.0, ge=0, le=1, allow_inf_nan=False, description="on top of the zone's own")
    shuffle: bool = False


class ZoneQuery(Asked):
    zone: str = Field("", max_length=63, description="default: all zones")


class MusicTold(Told):
    id: str = Field(description="the zone")
    playlist: str
    state: Literal["playing", "waiting", "empty", "stopped"]
    file: str
    position_s: float | None


class MusicsTold(PageTold):
    items: list[MusicTold]
    playlists: dict[str, int] = Field(description="by name: how many files")


class MusicStoppedTold(Told):
    stopped: int


class VolumeAsked(Asked):
    volume: float = Field(ge=0, le=1, allow_inf_nan=False, description="until the next start of the box")
