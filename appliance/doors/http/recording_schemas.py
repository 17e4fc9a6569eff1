"""Recordings and the consents of the people heard on them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from appliance.doors.http.schemas import Asked, PageTold, SpokenLanguage, Told


class RecordingQuery(Asked):
    """Fields beside the bytes; in a multipart body they may be parts instead."""

    filename: str = Field("", max_length=200)
    transcript: str = Field("", max_length=20_000)
    speaker: str = Field("", max_length=100)
    language: Literal["", "auto", "zh", "en", "ja"] = ""
    label: bool = Field(True, description="without a transcript: let the box write down what is said")
    keep: bool = Field(False, description="file a refused recording too, with accepted=false")

    @field_validator("language")
    @classmethod
    def _auto_is_unset(cls, value: str) -> str:
        return "" if value == "auto" else value


class RecordingTold(Told):
    id: str
    sha256: str
    filename: str
    duration_s: float
    sample_rate: int
    accepted: bool
    report: dict[str, Any]
    transcript: str
    language: str
    transcript_source: str
    speaker: str
    created_at: str


class RecordingsTold(PageTold):
    items: list[RecordingTold]


class TranscriptAsked(Asked):
    transcript: str = Field(min_length=1, max_length=20_000)
    language: SpokenLanguage = "auto"


class VerdictTold(Told):
    accepted: bool
    reasons: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    measures: dict[str, Any]


class ConsentAsked(Asked):
    """What a speaker agreed to."""

    speaker: str = Field(min_length=1, max_length=100)
    voice: str = Field("", max_length=63, description="the voice it is for; empty: every voice of the speaker")
    purposes: list[str] = Field(min_length=1, max_length=8, description="clone, speak, announce, publish, share")
    statement: str = Field("", max_length=4_000, description="the words that were agreed to")
    evidence: str = Field("", max_length=100, description="id of the recording in which the speaker says so")
    expires_at: str | None = Field(None, max_length=40, description="ISO 8601, UTC")


class ConsentTold(Told):
    id: str
    speaker: str
    voice: str
    purposes: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    strength: str


class ConsentsTold(PageTold):
    items: list[ConsentTold]


class StatementAsked(Asked):
    """Who is to say what."""

    speaker: str = Field(min_length=1, max_length=100)
    voice: str = Field("", max_length=63, description="the voice it is for; empty: every voice of the speaker")
    purposes: list[str] = Field(min_length=1, max_length=8, description="clone, speak, announce, publish, share")
    language: Literal["en", "zh"] = "en"
    expires_at: str | None = Field(None, max_length=40, description="of the consent; ISO 8601, UTC")


class StatementTold(Told):
    id: str
    statement: str
    valid_until: str


class StatementSaid(Asked):
    filename: str = Field("", max_length=200)


class EraseAsked(Asked):
    confirm: str = Field(max_length=100, description="the speaker's id again")


class ErasedTold(Told):
    id: str
    receipt: str
    counts: dict[str, int]
