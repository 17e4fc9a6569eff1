"""What boxes say to each other about announcements: an order, and how it stands.

Times are durations: the clocks of two boxes need not agree.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.announcer.records import MAX_REPEATS, Announcement, Delivery, Handed, State
from appliance.contracts import JsonDict
from appliance.database import utc_now
from appliance.errors import InvalidInput
from appliance.messages import catalogue

ORDERS = "/v1/peer/announcements"  # POST an order; POST …/stop to end one
SOUNDS = "/v1/peer/sounds"  # PUT …/DIGEST/SIZE/OFFSET a piece of a sound
STATES = "/v1/peer/questions/announcements"  # POST: how orders and the zone stand
MOST_ASKED = 200  # orders in one question

READY, SOUND_MISSING, REFUSED, BUSY, UNKNOWN = "ready", "sound_missing", "refused", "busy", "unknown"


class Order(BaseModel):
    """One message for one zone of the other box."""

    model_config = ConfigDict(extra="forbid")
    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")  # the sender's; the same id is the same message for ever
    zone: str = Field(min_length=1, max_length=63)
    text: str = Field(max_length=100_000)  # for people, in lists
    language: str = Field(max_length=20)
    priority: Literal["background", "normal", "urgent", "emergency"]
    volume: float = Field(ge=0, le=1, allow_inf_nan=False)
    chime: bool
    repeats: int = Field(ge=1, le=MAX_REPEATS)
    pause_s: float = Field(ge=0, le=60, allow_inf_nan=False)
    interrupted: Literal["restart", "resume", "drop"]
    left_s: float = Field(gt=0, le=7 * 86_400)  # of its age, from now on
    sound: str = Field(pattern=r"^[0-9a-f]{64}$")
    is_final: bool  # False: may it come, and is its sound there? True: queue it


class Question(BaseModel):
    """How do these orders of mine stand, and what is with that zone?"""

    model_config = ConfigDict(extra="forbid")
    zone: str = Field(min_length=1, max_length=63)
    ids: list[str] = Field([], max_length=MOST_ASKED)


def parse_order(document: Any) -> Order:
    """Raises InvalidInput("peer_order_invalid")."""
    try:
        return Order.model_validate(document)
    except ValidationError as error:
        raise InvalidInput("peer_order_invalid", problem=_problem(error)) from error


def parse_question(document: Any) -> Question:
    """Raises InvalidInput("peer_order_invalid")."""
    try:
        return Question.model_validate(document)
    except ValidationError as error:
        raise InvalidInput("peer_order_invalid", problem=_problem(error)) from error


def order_id(announcement_id: str, zone: str) -> str:
    """A message's id on the way to the box of `zone`: each zone is an order of its own."""
    return f"{announcement_id}-{hashlib.sha256(zone.encode()).hexdigest()[:8]}"


def guest_id(uuid: str, order: str) -> str:
    """The id that the order of a paired box has here: nobody else's order has it, and the same one has no other."""
    return f"ann_{hashlib.sha256(f'{uuid} {order}'.encode()).hexdigest()[:24]}"


def status_of(row: Announcement, position_s: float | None) -> JsonDict:
    """How an order stands, for the box that gave it."""
    delivery = row.zones[0]
    state = row.state if row.state is State.RENDERING else delivery.state
    told = {"repeated": delivery.repeated, "preempted": delivery.preempted}
    reached_s = delivery.position_s if position_s is None else position_s
    return {"state": str(state), "reason": delivery.reason, "position_s": round(reached_s, 2), **told}


def mirrored(delivery: Delivery, status: JsonDict) -> Delivery:
    """The delivery as the other box tells of it; times are those of this box."""
    state = State.QUEUED if status["state"] == State.RENDERING else State(status["state"])
    now = utc_now()
    has_started = state in (State.PLAYING, State.DONE) or bool(status.get("repeated") or status.get("preempted"))
    return Delivery(
        zone=delivery.zone,
        state=state,
        reason=known_code(status.get("reason")),
        repeated=int(status.get("repeated", 0)),
        preempted=int(status.get("preempted", 0)),
        position_s=float(status.get("position_s", 0.0)),
        started_at=delivery.started_at or (now if has_started else None),
        finished_at=now if state not in (State.QUEUED, State.PLAYING) else None,
        handed=delivery.handed if delivery.handed is Handed.STOPPING else Handed.ACCEPTED,
    )


def known_code(code: object) -> str:
    """A reason of the other box; of a release that knows more than this one, only that there was one."""
    if not code:
        return ""
    return str(code) if f"{code}.message" in catalogue("en") else "peer_reason_unknown"


def _problem(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]
