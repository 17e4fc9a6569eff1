"""Jobs, their curves and samples."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from appliance.doors.http.schemas import VOICE_ID, Asked, PageTold, SpokenLanguage, Told


class ExportAsked(Asked):
    """Take a voice away."""

    format: Literal["gpt-sovits"]
    version: int | None = Field(None, ge=1, description="default: the one that speaks")


class JobAsked(Asked):
    """Make a voice from recordings."""

    kind: Literal["clone"]
    voice: str = Field(pattern=VOICE_ID, description="the voice to make, or to give a new version")
    recordings: list[str] = Field(min_length=1, max_length=1_000, description="ids of accepted recordings")
    language: SpokenLanguage = "auto"
    title: str = Field("", max_length=200)
    engine: str = Field("", max_length=60, description="default: the box's engine")
    steps: int | None = Field(None, ge=1, le=10_000)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    base: list[str] = Field(default_factory=list, max_length=2, description="imported s1 and s2 to start from")
    rank: int = Field(0, ge=0, le=256, description="of low-rank additions that learn instead of s1; 0: none")


class OptimizeAsked(Asked):
    """Prepare weights for backends."""

    backends: list[str] = Field(default_factory=list, max_length=20, description="default: those the box may use")


class JobTold(Told):
    id: str
    kind: str
    state: Literal["queued", "running", "paused", "done", "failed", "cancelled"]
    stage: str
    fraction: float
    eta_s: float | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: str
    started_at: str | None
    finished_at: str | None


class JobsTold(PageTold):
    items: list[JobTold]


class CurveTold(Told):
    id: str
    stage: str
    name: str
    points: list[list[float]] = Field(description="[step, value], by step")


class CurvesTold(PageTold):
    items: list[CurveTold]


class SampleTold(Told):
    id: str
    stage: str
    step: int
    bytes: int


class SamplesTold(PageTold):
    items: list[SampleTold]
