"""Orders to the box of a zone elsewhere, as messages on the line to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from appliance.announcer.peer_outlet import PeerOutlet
from appliance.announcer.peer_wire import ORDERS, SOUNDS, STATES, order_id
from appliance.announcer.records import Announcement
from appliance.contracts import JsonDict
from appliance.errors import Unavailable
from appliance.events import DONE, Event
from appliance.settings import ZoneSettings
from appliance.voices.blobs import BlobStore

PIECE_BYTES = 1 << 16  # of a sound: something more urgent waits for one of them at most


class PeerOrders:
    """What the zone `name` of this box says to the box that it leads to. Every method raises what the line raises."""

    def __init__(self, name: str, settings: ZoneSettings, outlet: PeerOutlet, blobs: BlobStore) -> None:
        self._name = name
        self._settings = settings
        self._outlet = outlet
        self._blobs = blobs

    async def order(self, row: Announcement, left_s: float, *, is_final: bool) -> JsonDict:
        """May it come (and is its sound there)? Or, finally: say it."""
        document = {
            "id": order_id(row.id, self._name),
            "zone": self._settings.zone,
            "text": row.text,
            "language": row.language,
            "priority": row.priority,
            "volume": row.volume * self._outlet.state.volume,
            "chime": row.chime,
            "repeats": row.repeats,
            "pause_s": row.pause_s,
            "interrupted": str(row.interrupted),
            "left_s": left_s,
            "sound": row.audio,
            "is_final": is_final,
        }
        return await self._outlet.ask(row.tenant, ORDERS, document)

    async def send_sound(self, row: Announcement, have: int, may_go_on: Callable[[], Awaitable[None]]) -> None:
        """Piece by piece from where it broke off; `may_go_on` returns when the next piece may go. An empty piece goes
        where all is there and that box went down before it had looked at it.

        Raises Unavailable, NotFound and Corrupt.
        """
        digest = row.audio or ""
        await asyncio.to_thread(self._blobs.verify, digest)
        path = await asyncio.to_thread(self._blobs.path, digest)
        size = path.stat().st_size
        have = have if have <= size else 0  # that box starts anew, too
        while True:
            await may_go_on()
            piece = await asyncio.to_thread(_read_piece, path, have)
            answer = await self._outlet.send(row.tenant, "PUT", f"{SOUNDS}/{digest}/{size}/{have}", piece)
            if answer.get("is_complete"):
                return
            start, have = have, int(answer["have"])
            if have <= start:  # it has lost some: asked anew, it says from where
                reason = f"it keeps {have} of {start} bytes"
                raise Unavailable("peer_unreachable", url=self._settings.peer, reason=reason)

    async def stop(self, row: Announcement) -> JsonDict:
        """Have it stopped; how it stands."""
        name = order_id(row.id, self._name)
        answer = await self._outlet.ask(row.tenant, f"{ORDERS}/stop", {"zone": self._settings.zone, "ids": [name]})
        return dict(answer["orders"][name])

    async def states(self, tenant: str, rows: Iterable[Announcement]) -> dict[str, JsonDict]:
        """How the orders of these messages stand, by the messages' ids."""
        names = {order_id(row.id, self._name): row.id for row in rows}
        answer = await self._outlet.ask(tenant, STATES, {"zone": self._settings.zone, "ids": list(names)})
        self._outlet.take(dict(answer["zone"]))
        return {names[name]: status for name, status in answer["orders"].items() if name in names}

    def event(self, row: Announcement, outcome: str = DONE, reason: str = "") -> Event:
        """What the audit log is told of an order."""
        details = {"peer": self._settings.peer, "zone": self._settings.zone, "priority": row.priority}
        return Event(
            row.tenant,
            "announcement.hand",
            voice=row.voice,
            subject=row.id,
            output_digest=row.audio or "",
            outcome=outcome,
            details={**details, "reason": reason} if reason else details,
        )


def _read_piece(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(PIECE_BYTES)
