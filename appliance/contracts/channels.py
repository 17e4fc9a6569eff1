"""Places where publications go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.contracts.peers import PeerLink
from appliance.contracts.sound import JsonDict


@dataclass(frozen=True)
class DeliveredLine:
    """A rendered line on its way to a channel."""

    name: str  # files and prompts are called so: letters, digits, "-" and "_"
    line: str  # of the script; several names when a variable has several values
    text: str
    language: str
    voice_version: str  # "anna@3"
    rendition: str
    sha256: str  # of the file
    path: Path  # FLAC, mono
    duration_s: float
    values: Mapping[str, str] = field(default_factory=dict)  # of the variables

    def told(self) -> JsonDict:
        """What a receiver is told of it, as JSON values."""
        return {
            "name": self.name,
            "line": self.line,
            "text": self.text,
            "language": self.language,
            "voice_version": self.voice_version,
            "rendition": self.rendition,
            "duration_s": round(self.duration_s, 3),
            "values": dict(self.values),
        }


@dataclass(frozen=True)
class Delivery:
    """A publication on its way to a channel. The same publication always has the same content."""

    tenant: str
    script: str
    title: str
    number: int  # of the publication
    revision: int
    lines: tuple[DeliveredLine, ...]

    def told(self) -> JsonDict:
        """What a receiver is told of it beside its lines."""
        head = {"script": self.script, "title": self.title}
        return {**head, "publication": self.number, "revision": self.revision}


@dataclass(frozen=True)
class ChannelHost:
    """What the box lends a channel."""

    exports: Path  # a folder for what has no other place
    folders: tuple[Path, ...]  # folders outside it that the site allows
    peers: Mapping[str, PeerLink] = field(default_factory=dict)  # by uuid
    url: str = ""  # of this box
    # a file, its format, what is to be said of it -> the same with signed provenance (C2PA); blocks. Raises Unavailable
    sign: Callable[[bytes, str, JsonDict], bytes] | None = None
    signs_all: bool = False  # the site wants it of every channel that does not say otherwise


class StagedDelivery(ABC):
    """A delivery that is complete at the channel and not yet seen by anybody there."""

    @abstractmethod
    def commit(self) -> None:
        """Let the channel carry it from now on. Raises Unavailable, StorageFull; doing it twice is doing it once."""

    @abstractmethod
    def revert(self) -> None:
        """Let the channel carry what it carried before, committed or not; nothing of this delivery stays visible."""


class Channel(ABC):
    """A place where publications go. Stateless; all methods block and run in a thread."""

    kind: str
    purpose = "publish"  # what speakers must have agreed to

    @abstractmethod
    def check(self, settings: JsonDict, host: ChannelHost) -> JsonDict:
        """The settings of one channel as they are kept. Raises InvalidInput("channel_settings_invalid")."""

    @abstractmethod
    def prepare(self, delivery: Delivery, settings: JsonDict, host: ChannelHost) -> StagedDelivery:
        """Bring everything to the channel without showing it. Doing it again goes on where it broke off.

        Raises Unavailable, StorageFull, Forbidden.
        """
