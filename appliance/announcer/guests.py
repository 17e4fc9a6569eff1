"""Orders of paired boxes to say something here: taken once each, into this box's own queue, as far as they may.

Only zones of this box can be asked for: nothing that came from a box is handed on to another, so nothing goes in
circles.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.announcer.peer_wire import (
    BUSY,
    READY,
    REFUSED,
    SOUND_MISSING,
    UNKNOWN,
    Order,
    guest_id,
    parse_order,
    parse_question,
    status_of,
)
from appliance.announcer.records import PRIORITIES, Announcement, NewAnnouncement
from appliance.announcer.remote_zone import RemoteZone
from appliance.contracts import JsonDict, PeerGrant
from appliance.errors import Busy, Forbidden, NotFound, StorageFull, Unavailable, VoicedError
from appliance.events import DONE, Event

if TYPE_CHECKING:
    from appliance.announcer.announcer import Announcer

log = logging.getLogger(__name__)

Arrived = Callable[[str], Awaitable[int | None]]


@dataclass(frozen=True)
class Guest:
    """A paired box that proved who it is."""

    tenant: str
    uuid: str
    name: str
    grant: PeerGrant


class GuestDesk:
    """The receiving side of zones that lead to this box."""

    def __init__(self, announcer: Announcer, witness: Callable[[Event], Awaitable[object]]) -> None:
        self._announcer = announcer
        self._witness = witness

    async def take(self, guest: Guest, document: Any, arrived: Arrived) -> JsonDict:
        """An order: how it stands. `arrived` tells of a sound, by digest, how many bytes this guest has sent so far;
        None: all of it. That some other tenant has the same one counts for nothing.

        Raises InvalidInput("peer_order_invalid"), Unavailable.
        """
        order = parse_order(document)
        known = await self._find(guest, order.id)
        if known is not None:
            return self._status(known)
        code = self._objection(guest, order)
        if code:
            await self._witness(_event(guest, order, REFUSED, code))
            return {"state": REFUSED, "code": code}
        have = await arrived(order.sound)
        if have is not None:
            return {"state": SOUND_MISSING, "have": have}
        if not order.is_final:
            return {"state": READY}
        return await self._queue(guest, order)

    async def states(self, guest: Guest, document: Any) -> JsonDict:
        """How orders and the zone stand. Raises InvalidInput("peer_order_invalid")."""
        question = parse_question(document)
        rows = {order: await self._find(guest, order) for order in question.ids}
        told = {order: {"state": UNKNOWN} if row is None else self._status(row) for order, row in rows.items()}
        return {"zone": self._zone(guest, question.zone), "orders": told}

    async def stop(self, guest: Guest, document: Any) -> JsonDict:
        """Silence these orders. Raises InvalidInput("peer_order_invalid")."""
        for order in parse_question(document).ids:
            if await self._find(guest, order) is not None:
                await self._announcer.stop(guest.tenant, guest_id(guest.uuid, order))
        return await self.states(guest, document)

    def admit_sound(self, guest: Guest) -> None:
        """Sounds are taken from those only that may have them said. Raises Forbidden("peer_may_not_announce")."""
        if not guest.grant.zones:
            raise Forbidden("peer_may_not_announce")

    # ------------------------------------------------------------ may it be said?

    def _objection(self, guest: Guest, order: Order) -> str:
        """The code of what stands against it; "": nothing."""
        code = self._zone_objection(guest, order.zone)
        if code:
            return code
        if PRIORITIES.index(order.priority) > PRIORITIES.index(guest.grant.priority):
            return "peer_priority_not_allowed"
        return ""

    def _zone_objection(self, guest: Guest, zone: str) -> str:
        allowed = guest.grant.zones
        if zone not in allowed and "*" not in allowed:  # before anything else: a stranger learns no names
            return "peer_may_not_announce"
        try:
            is_elsewhere = isinstance(self._announcer.zone(zone), RemoteZone)
        except NotFound:
            return "peer_zone_unknown"
        return "peer_zone_elsewhere" if is_elsewhere else ""

    def _zone(self, guest: Guest, name: str) -> JsonDict:
        code = self._zone_objection(guest, name)
        if code:
            return {"code": code, "alarm": ""}
        alarm = self._announcer.zone(name).outlet.state.alarm
        return {"code": "", "alarm": alarm[0] if alarm else ""}

    # ------------------------------------------------------------ saying it

    async def _queue(self, guest: Guest, order: Order) -> JsonDict:
        new = NewAnnouncement(
            text=order.text,
            language=order.language,
            priority=order.priority,
            volume=order.volume,
            chime=order.chime,
            max_age_s=order.left_s,
            zones=(order.zone,),
            repeats=order.repeats,
            pause_s=order.pause_s,
            interrupted=order.interrupted,
            audio=order.sound,
        )
        await self._witness(_event(guest, order))
        try:
            row = await self._announcer.submit(guest.tenant, new, announcement_id=guest_id(guest.uuid, order.id))
        except (Busy, StorageFull, Unavailable) as error:  # may pass: it is asked again
            return {"state": BUSY, "code": error.code}
        except VoicedError as error:
            return {"state": REFUSED, "code": error.code}
        log.info("announcement %s is an order of %s", row.id, guest.name)
        return self._status(row)

    async def _find(self, guest: Guest, order: str) -> Announcement | None:
        try:
            return await self._announcer.get(guest.tenant, guest_id(guest.uuid, order))
        except NotFound:
            return None

    def _status(self, row: Announcement) -> JsonDict:
        zone = self._announcer.zones.get(row.zones[0].zone)
        return status_of(row, None if zone is None else zone.outlet.position_s(row.id))


def _event(guest: Guest, order: Order, outcome: str = DONE, reason: str = "") -> Event:
    details = {"peer": guest.uuid, "zone": order.zone, "priority": order.priority}
    return Event(
        guest.tenant,
        "announcement.take",
        subject=guest_id(guest.uuid, order.id),
        output_digest=order.sound,
        outcome=outcome,
        details={**details, "reason": reason} if reason else details,
        actor=f"peer:{guest.uuid}",
    )
