"""What a message may ask for."""

from __future__ import annotations

from appliance.announcer.records import MAX_REPEATS, PRIORITIES, Interrupted, NewAnnouncement
from appliance.errors import InvalidInput

MAX_AGE_S = 7 * 86_400.0
MAX_PAUSE_S = 60.0


def require_sane(new: NewAnnouncement) -> None:
    """Raises InvalidInput (priority_unknown, max_age_…, repeats_…, volume_out_of_range, interrupted_unknown)."""
    if new.priority not in PRIORITIES:
        raise InvalidInput("priority_unknown", priority=new.priority[:40], known=", ".join(PRIORITIES))
    if not 0 < new.max_age_s <= MAX_AGE_S:  # NaN fails this too
        raise InvalidInput("max_age_out_of_range", seconds=new.max_age_s, most=MAX_AGE_S)
    if not 1 <= new.repeats <= MAX_REPEATS or not 0 <= new.pause_s <= MAX_PAUSE_S:
        raise InvalidInput("repeats_out_of_range", repeats=new.repeats, pause_s=new.pause_s, most=MAX_REPEATS)
    if new.interrupted not in tuple(Interrupted):
        raise InvalidInput("interrupted_unknown", rule=new.interrupted[:40], known=", ".join(Interrupted))
    if new.volume is not None:
        require_volume(new.volume)


def require_volume(volume: float) -> None:
    """Raises InvalidInput("volume_out_of_range")."""
    if not 0.0 <= volume <= 1.0:
        raise InvalidInput("volume_out_of_range", volume=volume)
