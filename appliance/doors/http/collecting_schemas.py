"""The records of prompts, sessions of reading, long recordings and datasets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from appliance.doors.http.recording_schemas import RecordingTold
from appliance.doors.http.schemas import Asked, PageTold, Told


class LongQuery(Asked):
    """Fields beside the bytes; in a multipart body they may be parts instead."""

    filename: str = Field("", max_length=200)
    speaker: str = Field("", max_length=100)
    language: Literal["auto", "zh", "en", "ja"] = "auto"


class PromptQuery(Asked):
    language: Literal["zh", "en", "mixed"] = "zh"


class PromptTold(Told):
    id: str
    language: str
    text: str
    seconds: float


class PromptsTold(PageTold):
    items: list[PromptTold]
    sheet: str


class RecordingSessionAsked(Asked):
    speaker: str = Field(min_length=1, max_length=100, description="whose voice it is")
    language: Literal["zh", "en", "mixed"] = "zh"


class RecordingSessionTold(Told):
    id: str
    speaker: str
    language: str
    sheet: str
    prompts: list[dict[str, Any]] = Field(description="each with the id of its recording, or null")
    recordings: list[str]
    next: PromptTold | None = Field(description="what to read now; null: all is read")
    is_complete: bool
    created_at: str


class RecordingSessionsTold(PageTold):
    items: list[RecordingSessionTold]


class ClipQuery(Asked):
    """Fields beside the bytes; in a multipart body they may be parts instead."""

    filename: str = Field("", max_length=200)
    prompt: str = Field("", max_length=40, description="id of the prompt that was read; default: the next one")


class SessionClipTold(Told):
    recording: RecordingTold
    session: RecordingSessionTold
    next: PromptTold | None


class DatasetAsked(Asked):
    recordings: list[str] = Field(min_length=1, max_length=1_000, description="ids of accepted recordings")


class DatasetTold(Told):
    id: str
    digest: str = Field(description="sha256 over its clips")
    clips: list[dict[str, Any]]
    stats: dict[str, Any]
    created_at: str


class DatasetsTold(PageTold):
    items: list[DatasetTold]
