"""The records of scripts, publications, channels, peers and narrations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from appliance.doors.http.schemas import SPEC_LIMIT, Asked, Told


class LineAsked(Asked):
    """One line; `{name}` in its text is a variable."""

    name: str = Field(max_length=80)
    text: str = Field(max_length=5_000)
    voice: str = Field("", max_length=SPEC_LIMIT, description="empty: the script's")
    language: str = Field("", max_length=20, description="empty: the script's")
    speed: float = Field(1.0, ge=0.5, le=2.0, allow_inf_nan=False)
    comment: str = Field("", max_length=2_000)
    cue: tuple[float, float] | None = None


class ScriptAsked(Asked):
    """A new revision."""

    lines: list[LineAsked] = Field(max_length=20_000)
    variables: dict[str, list[str]] = Field({}, description="name → values; several make a line once for each")
    voice: str = Field("", max_length=SPEC_LIMIT, description="of lines that name none; empty: the default voice")
    language: str = Field("auto", max_length=20)
    title: str = Field("", max_length=200)
    comment: str = Field("", max_length=2_000, description="what changed and why")
    expected: int | None = Field(None, ge=0, description="revision this one was made from; 409 when there is a newer")


class LineTold(Told):
    name: str
    text: str
    voice: str
    language: str
    speed: float
    comment: str
    cue: tuple[float, float] | None


class RevisionTold(Told):
    script: str
    number: int
    lines: list[LineTold]
    variables: dict[str, list[str]]
    voice: str
    language: str
    comment: str
    author: str
    created_at: str


class RevisionsTold(Told):
    items: list[RevisionTold]
    next: str | None


class ScriptTold(Told):
    id: str
    title: str
    revision: int
    published: int | None = Field(description="the publication that its channels carry")
    created_at: str


class ScriptsTold(Told):
    items: list[ScriptTold]
    next: str | None


class DifferenceQuery(Asked):
    old: int = Field(ge=1, description="revision")
    new: int | None = Field(None, ge=1, description="revision; default: the newest")


class DifferenceTold(Told):
    added: list[dict[str, Any]]
    removed: list[dict[str, Any]]
    changed: list[dict[str, Any]]
    settings: dict[str, Any]
    is_reordered: bool


class ExportQuery(Asked):
    format: Literal["csv", "json", "srt", "vtt"] = "json"
    revision: int | None = Field(None, ge=1)


class ImportQuery(Asked):
    format: Literal["csv", "json", "srt", "vtt"]
    title: str = Field("", max_length=200)
    comment: str = Field("", max_length=2_000)


class PlanQuery(Asked):
    revision: int | None = Field(None, ge=1, description="default: the newest")


class PublishAsked(Asked):
    revision: int | None = Field(None, ge=1, description="default: the newest")


class CarryAsked(Asked):
    to: int | None = Field(None, ge=1, description="publication; default: the one before the present one")


class PlanTold(Told):
    script: str
    revision: int
    to_render: int
    characters: int
    lines: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    channels: list[str]


class PublicationTold(Told):
    script: str
    number: int
    kind: str
    revision: int
    state: Literal["rendering", "delivering", "published", "failed"]
    rendered: int
    to_render: int
    channels: list[str]
    error: dict[str, Any] | None
    author: str
    created_at: str
    finished_at: str | None


class PublicationsTold(Told):
    items: list[PublicationTold]
    next: str | None


class ArchiveQuery(Asked):
    format: str = Field(
        "wav", max_length=20, description="wav, flac, mp3, opus, wav8, ulaw, alaw, g722, sln16, freeswitch"
    )
    provenance: bool | None = Field(None, description="sign each file (C2PA); default: as the box is set")


class ChannelAsked(Asked):
    kind: str = Field(max_length=40)
    settings: dict[str, Any] = Field({}, description="what the kind asks for: docs/publishing.md")
    scripts: list[str] = Field([], max_length=1_000, description="ids; none: all scripts")


class ChannelTold(Told):
    id: str
    kind: str
    settings: dict[str, Any]
    scripts: list[str]
    created_at: str


class ChannelsTold(Told):
    items: list[ChannelTold]
    next: str | None


class GrantAsked(Asked):
    """What a paired box may say aloud here; no zones: nothing."""

    zones: list[Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9_-]{0,62}|\*)$")]] = Field([], max_length=32)
    priority: Literal["background", "normal", "urgent", "emergency"] = Field("normal", description="the most urgent")


class InvitationAsked(Asked):
    announce: GrantAsked | None = Field(None, description="what the box that pairs by the code may say aloud here")


class PeerChangeAsked(Asked):
    announce: GrantAsked


class PeerTold(Told):
    id: str
    name: str
    url: str
    fingerprint: str
    paired_at: str
    announce: dict[str, Any] = Field(description="zones and the most urgent priority that it may use here")


class PeersTold(Told):
    items: list[PeerTold]
    next: str | None


class InvitationTold(Told):
    code: str
    expires_in_s: int
    uuid: str


class PairAsked(Asked):
    url: str = Field(max_length=300)
    code: str = Field(max_length=40)
    announce: GrantAsked | None = Field(None, description="what that box may say aloud here")


class IntroductionTold(Told):
    uuid: str
    name: str
    public_key: str


class IntroductionAsked(Asked):
    uuid: str = Field(max_length=200)
    name: str = Field(max_length=200)
    url: str = Field(max_length=300)
    public_key: str = Field(max_length=64)
    authority: str = Field("", max_length=10_000)
    proof: str = Field(max_length=64)


class DubbingAsked(Asked):
    filename: str = Field("subtitles.srt", max_length=255)
    voice: str = Field("", max_length=SPEC_LIMIT)
    language: str = Field("auto", max_length=20)
    max_speed: float = Field(1.3, ge=1.0, le=1.6, allow_inf_nan=False)
    format: Literal["wav", "flac"] = "wav"


class DubbingTold(Told):
    id: str
    filename: str
    voice: str
    state: Literal["running", "done", "failed"]
    spoken: int
    to_speak: int
    counts: dict[str, int]
    cues: list[dict[str, Any]]
    duration_s: float | None
    error: dict[str, Any] | None


class DubbingsTold(Told):
    items: list[DubbingTold]
    next: str | None
