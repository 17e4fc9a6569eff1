"""The records of versions over time and beside each other."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from appliance.doors.http.schemas import MAX_SEED, MAX_TEXT, SPEC_LIMIT, Asked, Language, PageTold, Told


class RollbackAsked(Asked):
    reason: str = Field("", max_length=400, description="for the changelog")


class MoveTold(Told):
    voice: str
    from_number: int | None
    to_number: int | None
    kind: Literal["promote", "rollback", "delete", "seed"]
    reason: str
    actor: str = Field(description="who asked; empty: the box itself")
    moved_at: str


class MovesTold(PageTold):
    items: list[MoveTold]


class CompareAsked(Asked):
    """One text, one seed, two voices or versions."""

    first: str = Field(min_length=1, max_length=SPEC_LIMIT, description="`anna@2`")
    second: str = Field(min_length=1, max_length=SPEC_LIMIT, description="`anna@3`")
    text: str = Field(min_length=1, max_length=MAX_TEXT)
    lang: Language = "auto"
    seed: int = Field(0, ge=0, le=MAX_SEED)


class ComparedTold(Told):
    text: str
    seed: int
    first: dict[str, Any]
    second: dict[str, Any]


class ExaminationTold(Told):
    id: str
    verdict: Literal["passed", "failed", "needs_person"]
    reasons: list[dict[str, Any]]
    summary: dict[str, Any]
    limits: dict[str, Any]
    sentences: list[dict[str, Any]]
    files: dict[str, str] = Field(description="role -> address of its sound or picture")
    page: str


class LineageTold(Told):
    kind: str
    id: str
    title: str
    created_at: str
    facts: dict[str, Any]
    made_from: list[dict[str, str]]
    made_into: list[dict[str, str]]
