"""Voices and their versions, the imported weights behind them, and how words are read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from appliance.doors.http.schemas import VOICE_ID, Asked, PageQuery, PageTold, Told


class VoiceTold(Told):
    id: str
    title: str
    description: str
    gender: str
    languages: list[str]
    created_at: str
    current: int | None = Field(description="the version that `speaker=id` means now; null: none yet")
    latest: int | None = Field(description="the highest version number there is")


class VersionTold(Told):
    voice: str
    number: int
    engine: str
    files: dict[str, str]
    settings: dict[str, Any]
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    created_at: str


class VoicesTold(PageTold):
    items: list[VoiceTold]


class VersionsTold(PageTold):
    items: list[VersionTold]


class VoiceAsked(Asked):
    """A voice from imported weights; the parts of a multipart body beside the reference clip."""

    id: str = Field(pattern=VOICE_ID, description="the voice to make, or to give a new version")
    weights: str = Field(min_length=1, max_length=1_000, description="ids or names of one s1 and one s2, with a comma")
    engine: str = Field("gpt_sovits", max_length=60)
    transcript: str = Field("", max_length=2_000, description="what the clip says; without it the box listens")
    language: Literal["auto", "zh", "en", "ja", "ko", "yue"] = Field("auto", description="of the clip")
    title: str = Field("", max_length=200)
    speaker: str = Field("", max_length=100)
    filename: str = Field("", max_length=200, description="of the clip; kept nowhere")


class PromoteAsked(Asked):
    """Move the alias of a voice to one of its versions."""

    version: int = Field(ge=1)
    reason: str = Field("", max_length=400, description="for the changelog")


class WeightsQuery(Asked):
    """Fields beside the files; in a multipart body they may be parts instead."""

    licence: str = Field("", max_length=100, description="SPDX name, e.g. MIT")


class WeightTold(Told):
    id: str
    name: str
    kind: Literal["s1", "s2", "s2d", "hubert", "bert", "sv"]
    version: str
    files: dict[str, str]
    source_name: str
    source_sha256: str
    source_bytes: int
    licence: str
    report: dict[str, Any]
    created_at: str


class WeightsTold(PageTold):
    items: list[WeightTold]


class LexiconQuery(PageQuery):
    language: Literal["", "zh", "en", "ja", "ko", "yue"] = Field("", description="only words of this language")


class WordQuery(Asked):
    language: str = Field(min_length=1, max_length=20)
    word: str = Field(min_length=1, max_length=200)


class ReadingAsked(Asked):
    """How a word is read in a language: from now on, in every text of this tenant."""

    language: str = Field(min_length=1, max_length=20, description="zh, en, ja, ko or yue: of the text around the word")
    word: str = Field(min_length=1, max_length=200, description="as it is written; capital letters do not matter")
    reading: str = Field(
        min_length=1,
        max_length=400,
        description="pinyin with tone digits (zh), Jyutping (yue), a word that sounds like it (others), or /symbols/",
    )


class ReadingTold(Told):
    language: str
    word: str
    reading: str
    created_at: str


class LexiconTold(PageTold):
    items: list[ReadingTold]
