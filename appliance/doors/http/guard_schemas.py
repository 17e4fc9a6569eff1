"""Marks that are found in sound; protected voices and reviews of the voiceprint gate."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from appliance.doors.http.schemas import Asked, Told


class DetectAsked(Asked):
    filename: str = Field("", max_length=200, description="kept nowhere")


class DetectionTold(Told):
    """Each mark is an object, or null when it was not found."""

    is_marked: bool
    is_from_this_box: bool
    watermark: dict[str, Any] | None
    aigc: dict[str, Any] | None
    provenance: dict[str, Any] | None
    duration_s: float
    searched_s: float


class ProtectedAsked(Asked):
    name: str = Field(min_length=1, max_length=200, description="whose voice it is; for people")
    filename: str = Field("", max_length=200, description="kept nowhere, like the sound")


class ProtectedTold(Told):
    id: str
    name: str
    created_at: str
    pieces: int


class ProtectedListTold(Told):
    items: list[ProtectedTold]
    next: str | None


class ReviewAsked(Asked):
    decision: Literal["allow", "deny"]


class ReviewTold(Told):
    id: str
    voice: str
    kind: str
    other: str
    score: float
    state: str


class ReviewsTold(Told):
    items: list[ReviewTold]
    next: str | None
