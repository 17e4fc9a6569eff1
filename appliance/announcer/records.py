"""What an announcement is, while it waits and afterwards."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

PRIORITIES = ("background", "normal", "urgent", "emergency")  # rising; the index is the rank in the database


class State(StrEnum):
    """Where an announcement is; forwards, but for a way back to `queued` from `rendering` and after an interruption."""

    QUEUED = "queued"
    RENDERING = "rendering"
    PLAYING = "playing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


WAITING = (State.QUEUED, State.RENDERING)
OVER = (State.DONE, State.FAILED, State.CANCELLED, State.EXPIRED)


@dataclass(frozen=True)
class NewAnnouncement:
    """What somebody wants said aloud."""

    text: str
    voice: str  # "anna" or "anna@3"
    language: str = "auto"
    priority: str = "normal"
    volume: float | None = None  # 0..1, amplitude, times the loudspeaker's own volume; None: 1.0
    chime: bool | None = None  # None: as the settings say
    max_age_s: float = 300.0  # what could not be said by then is not said any more


@dataclass(frozen=True)
class Announcement:
    """One row of the queue."""

    tenant: str
    id: str
    text: str
    voice: str
    language: str
    priority: str
    volume: float
    chime: bool
    state: State
    reason: str  # catalogue code when there is something to explain, else ""
    repeated: int  # how often it was begun again after an interruption (0 or 1)
    max_age_s: float
    zone: str  # name of the output; one for now
    rendition: str | None  # id of the rendered line
    audio: str | None  # sha256 of the rendered sound
    duration_s: float | None
    created_at: str  # ISO 8601, UTC
    started_at: str | None
    finished_at: str | None

    @property
    def rank(self) -> int:
        """The priority as a number; higher goes first."""
        return PRIORITIES.index(self.priority)

    @property
    def is_over(self) -> bool:
        """Nothing will happen to it any more."""
        return self.state in OVER

    def as_json(self) -> dict[str, Any]:
        """For doors and logs."""
        record = asdict(self) | {"state": str(self.state)}
        del record["tenant"]
        return record
