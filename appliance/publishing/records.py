"""What the publishing room hands to others: frozen records, each with an `as_json()` for the doors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from appliance.contracts import JsonDict

RENDERING, DELIVERING, PUBLISHED, FAILED = "rendering", "delivering", "published", "failed"
UNFINISHED = (RENDERING, DELIVERING)
PUBLISH, ROLLBACK = "publish", "rollback"


@dataclass(frozen=True)
class Line:
    """One line of a script. `{name}` in its text stands for a variable of the revision."""

    name: str  # stable, unique in the script: files and prompts are called so
    text: str
    voice: str = ""  # "anna" or "anna@3"; empty: the revision's
    language: str = ""  # empty: the revision's
    speed: float = 1.0
    comment: str = ""  # for people; changing it renders nothing
    cue: tuple[float, float] | None = None  # seconds, of lines that came from subtitles

    def as_json(self) -> JsonDict:
        return asdict(self)


@dataclass(frozen=True)
class Revision:
    """One state of a script, immutable."""

    script: str
    number: int
    lines: tuple[Line, ...]
    variables: Mapping[str, tuple[str, ...]]  # name -> values; several values make a line once for each
    voice: str
    language: str
    comment: str
    author: str
    created_at: str

    def as_json(self) -> JsonDict:
        variables = {name: list(values) for name, values in self.variables.items()}
        return {**asdict(self), "lines": [line.as_json() for line in self.lines], "variables": variables}


@dataclass(frozen=True)
class NewRevision:
    """What an editor hands in."""

    lines: tuple[Line, ...]
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    voice: str = ""
    language: str = "auto"
    comment: str = ""
    author: str = ""


@dataclass(frozen=True)
class Script:
    """A named list of lines. Only its two pointers ever move."""

    tenant: str
    id: str
    title: str
    revision: int  # the newest one
    published: int | None  # the publication that its channels carry
    created_at: str

    def as_json(self) -> JsonDict:
        return {key: value for key, value in asdict(self).items() if key != "tenant"}


@dataclass(frozen=True)
class SpokenLine:
    """A line with its variables filled in: what is rendered, and what a channel delivers under `name`."""

    name: str  # of the line, with "-value" for each variable that has several
    line: str
    text: str
    voice: str
    language: str
    speed: float
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedLine:
    """What publishing would do with a line."""

    spoken: SpokenLine
    rendition: str  # id that its sound is filed under: a digest of all that decides it
    voice_version: str  # "anna@3"
    is_ready: bool  # rendered before and still there

    def as_json(self) -> JsonDict:
        return {**asdict(self.spoken), "rendition": self.rendition, "voice_version": self.voice_version} | {
            "is_ready": self.is_ready
        }


@dataclass(frozen=True)
class Plan:
    """A publication before it starts: what it renders and what that costs."""

    script: str
    revision: int
    lines: tuple[PlannedLine, ...]
    refused: tuple[JsonDict, ...]  # {"line", "code", "measured"}: publishing would change nothing
    channels: tuple[str, ...]

    @property
    def missing(self) -> tuple[PlannedLine, ...]:
        """The lines that have to be rendered, each sound once."""
        return tuple({line.rendition: line for line in self.lines if not line.is_ready}.values())

    def as_json(self) -> JsonDict:
        to_render = self.missing
        return {
            "script": self.script,
            "revision": self.revision,
            "lines": [line.as_json() for line in self.lines],
            "to_render": len(to_render),
            "characters": sum(len(line.spoken.text) for line in to_render),
            "refused": list(self.refused),
            "channels": list(self.channels),
        }


@dataclass(frozen=True)
class PublishedLine:
    """A line as channels carry it."""

    name: str
    line: str
    text: str
    language: str
    speed: float
    voice_version: str
    rendition: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Publication:
    """One publishing of a script. `lines` and `revision` never change once it is made."""

    tenant: str
    script: str
    number: int
    kind: str  # publish | rollback
    revision: int
    state: str  # rendering | delivering | published | failed
    lines: tuple[PublishedLine, ...]
    rendered: int  # of `to_render`
    to_render: int
    channels: tuple[str, ...]
    error: JsonDict | None  # {"kind", "code", "measured"}
    author: str
    created_at: str
    finished_at: str | None

    @property
    def has_ended(self) -> bool:
        return self.state not in UNFINISHED

    def as_json(self) -> JsonDict:
        return {key: value for key, value in asdict(self).items() if key != "tenant"}
