"""Paired boxes, as rooms see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from appliance.contracts.sound import JsonDict


@dataclass(frozen=True)
class PeerLink:
    """Another box of this kind that was paired with this one, as a channel reaches it."""

    url: str
    send: Callable[[str, str, bytes], JsonDict]  # method, path, body -> answer; signed, in order, raises Unavailable
    uuid: str = ""
    name: str = ""


class PeerLinks(Protocol):
    """Whoever knows the paired boxes."""

    async def link(self, tenant: str, named: str, timeout_s: float) -> PeerLink | None:
        """How the tenant ("": whichever) reaches the peer with that uuid or name; None: it is paired with none."""
        ...


@dataclass(frozen=True)
class PeerGrant:
    """What a paired box may say aloud here: nothing, until somebody allows it."""

    zones: tuple[str, ...] = ()  # "*": all zones of this box
    priority: str = "normal"  # the most urgent that it may use

    def as_json(self) -> JsonDict:
        """For doors."""
        return {"zones": list(self.zones), "priority": self.priority}
