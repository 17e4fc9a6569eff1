"""What operators are told about the box."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from appliance.doors.http.schemas import Asked, PageTold, Told


class HealthTold(Told):
    status: Literal["ok"]


class ReadyTold(Told):
    is_ready: bool
    parts: dict[str, str]


class SystemTold(Told):
    box: dict[str, Any]
    speech: dict[str, Any]
    workers: list[dict[str, Any]]
    loudspeaker: dict[str, Any]
    wyoming: dict[str, Any]
    storage: dict[str, Any]
    gate: dict[str, str]
    schedules: dict[str, bool]
    keys: dict[str, Any]


class AbandonAsked(Asked):
    confirm: bool = Field(False, description="what was encrypted under the lost key is given up for good")


class AbandonedTold(Told):
    owners: int
    voices: int
    recordings: int
    files: int


class PluginTold(Told):
    id: str
    source: str
    version: str
    state: Literal["active", "quarantined", "blocked"]
    provides: list[str]


class PluginsTold(PageTold):
    items: list[PluginTold]
