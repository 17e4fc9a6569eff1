"""What all records that cross the HTTP doors share: what is accepted is strict, what is answered is told to OpenAPI.

The records themselves lie beside this file, a room each: `*_schemas.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

VOICE_ID = r"^[a-z0-9][a-z0-9_-]{0,62}$"
SPEC_LIMIT = 80  # characters of "anna@3"; the registry says what is valid
MAX_TEXT = 100_000  # the outer bound; `speech.max_characters` decides
MAX_SEED = 2**32 - 1
Language = Literal["auto", "auto_yue", "en", "zh", "ja", "ko", "yue", "all_zh", "all_ja", "all_ko", "all_yue"]
SpokenLanguage = Literal["auto", "zh", "en", "ja"]  # of recordings: what the box can write down and examine


class Asked(BaseModel):
    """What a client sends: unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class Told(BaseModel):
    """What a client is told; later versions may add fields."""

    model_config = ConfigDict(extra="allow")


class PageQuery(Asked):
    cursor: str | None = Field(None, max_length=400, description="`next` of the page before")
    limit: int = Field(50, ge=1, le=500)


class PageTold(Told):
    next: str | None


class ProblemTold(Told):
    """An error: RFC 9457 with a stable code, what was measured, and what to do."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    measured: dict[str, Any]
    remedy: str
    instance: str


class OpenAiErrorTold(Told):
    error: dict[str, Any]
