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


class Interrupted(StrEnum):
    """What happens to a message that a more urgent one interrupts."""

    RESTART = "restart"  # said again from its start
    RESUME = "resume"  # goes on where it was, at the last pause before
    DROP = "drop"  # is over, cancelled


class Handed(StrEnum):
    """How far a message is on its way to the box whose zone it is for."""

    NO = ""  # that box has not heard of it
    SENT = "sent"  # it was ordered; whether that arrived is not known yet
    ACCEPTED = "accepted"  # it is in that box's queue
    STOPPING = "stopping"  # it was ordered, and is to be stopped there


MAX_REPEATS = 5


@dataclass(frozen=True)
class NewAnnouncement:
    """What somebody wants said aloud: `text` in `voice`, or the sound file that the blob `audio` is."""

    text: str
    voice: str = ""  # "anna" or "anna@3"; empty with `audio`: nobody's voice, no consent is asked for
    language: str = "auto"
    priority: str = "normal"
    volume: float | None = None  # 0..1, amplitude, times the zone's own volume; None: 1.0
    chime: bool | None = None  # None: as the settings say
    max_age_s: float = 300.0  # what could not be said by then is not said any more
    zones: tuple[str, ...] = ()  # where; empty: the first zone of the box
    repeats: int = 1  # how often in a row, 1..MAX_REPEATS
    pause_s: float = 2.0  # between repeats
    key: str = ""  # a second message with the key of one that waits or plays is the same message
    interrupted: str = Interrupted.RESTART
    audio: str = ""  # digest of a sound file among the blobs, instead of synthesis


@dataclass(frozen=True)
class Delivery:
    """One message in one zone."""

    zone: str
    state: State  # queued, playing, or one of OVER
    reason: str = ""  # catalogue code when there is something to explain
    repeated: int = 0  # how often it was begun again after an accident (0 or 1)
    preempted: int = 0  # how often something more urgent interrupted it
    position_s: float = 0.0  # where it goes on
    started_at: str | None = None  # ISO 8601, UTC
    finished_at: str | None = None
    handed: Handed = Handed.NO  # what the box of a zone elsewhere has of it


@dataclass(frozen=True)
class Announcement:
    """One message: its row in the queue and what became of it in each zone."""

    tenant: str
    id: str
    text: str
    voice: str
    language: str
    priority: str
    volume: float
    chime: bool
    repeats: int
    pause_s: float
    key: str
    interrupted: str
    state: State  # of the message: playing while a zone plays it; over when all zones are, then the worst of them
    reason: str  # catalogue code when there is something to explain, else ""
    max_age_s: float
    zones: tuple[Delivery, ...]
    rendition: str | None  # id of the rendered line
    audio: str | None  # sha256 of the sound, once there is one
    duration_s: float | None
    created_at: str  # ISO 8601, UTC
    place: int  # grows with each message

    @property
    def rank(self) -> int:
        """The priority as a number; higher goes first."""
        return PRIORITIES.index(self.priority)

    @property
    def is_over(self) -> bool:
        """Nothing will happen to it any more."""
        return self.state in OVER

    @property
    def repeated(self) -> int:
        """How often it was begun again after an accident, in the zone where that was most."""
        return max((delivery.repeated for delivery in self.zones), default=0)

    @property
    def started_at(self) -> str | None:
        """When it was first heard anywhere."""
        return min((delivery.started_at for delivery in self.zones if delivery.started_at), default=None)

    @property
    def finished_at(self) -> str | None:
        """When it was over everywhere."""
        return max((delivery.finished_at or "" for delivery in self.zones), default="") if self.is_over else None

    def delivery(self, zone: str) -> Delivery:
        """What became of it in `zone`."""
        return next(delivery for delivery in self.zones if delivery.zone == zone)

    def as_json(self) -> dict[str, Any]:
        """For doors and logs."""
        record = asdict(self) | {"state": str(self.state)}
        for name in ("tenant", "place"):
            del record[name]
        for delivery in record["zones"]:
            delivery |= {"state": str(delivery["state"]), "handed": str(delivery["handed"])}
        derived = {"repeated": self.repeated, "started_at": self.started_at, "finished_at": self.finished_at}
        return {**record, **derived}


def summary_of(deliveries: tuple[Delivery, ...]) -> tuple[State, str]:
    """(state, reason) of a message whose zones stand like this; QUEUED stands for RENDERING as well."""
    states = [delivery.state for delivery in deliveries]
    ranked = (State.PLAYING, State.QUEUED, State.FAILED, State.EXPIRED, State.CANCELLED, State.DONE)
    state = next((state for state in ranked if state in states), State.CANCELLED)
    return state, next((delivery.reason for delivery in deliveries if delivery.state == state), "")
