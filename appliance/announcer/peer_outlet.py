"""The line to the box of a zone elsewhere: whether it answers, what it says of its zone, and questions to it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from appliance.announcer.loudspeaker import LoudspeakerState
from appliance.announcer.peer_wire import STATES, known_code
from appliance.announcer.player_link import Music, Played
from appliance.contracts import Audio, JsonDict, PeerLink, PeerLinks
from appliance.database import utc_now
from appliance.errors import Forbidden, Unavailable, VoicedError
from appliance.settings import ZoneSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PeerPatience:
    """Patience with another box."""

    answer_s: float = 4.0  # for one message
    look_s: float = 10.0  # between looks at a box that answers
    retry_s: float = 1.0  # after a look in vain; doubles up to
    retry_most_s: float = 10.0
    poll_s: float = 0.5  # between questions while something of ours is there
    fate_s: float = 60.0  # how long after its last possible moment a box may be silent about a message


class PeerOutlet:
    """Behaves as the output of a zone does, as far as doors look at it. Nothing is played here."""

    def __init__(
        self, zone: ZoneSettings, links: PeerLinks | None, on_change: Callable[[], None], patience: PeerPatience
    ) -> None:
        self.patience = patience
        self._zone = zone
        self._links = links
        self._on_change = on_change
        self._state = LoudspeakerState(
            "starting", device=f"{zone.peer}: {zone.zone}", volume=zone.own_volume, since=utc_now()
        )
        self._look_now = asyncio.Event()
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="peer")  # a box that is off must not hold up others

    # ------------------------------------------------------------ as an outlet

    @property
    def state(self) -> LoudspeakerState:
        return self._state

    @property
    def is_open(self) -> bool:
        """The other box answers and lets us announce."""
        return self._state.state == "open"

    async def open(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._keep_looking(), name=f"look at {self._zone.peer}")

    async def close(self) -> None:
        """Ask nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._threads.shutdown(wait=False, cancel_futures=True)

    def look_again(self) -> None:
        """Somebody wants to be heard there: look now."""
        self._look_now.set()

    async def play(self, sound_id: str, sound: Audio | Music, *, gain: float = 1.0, start_s: float = 0.0) -> Played:
        """Nothing is played here: messages are handed to the other box as they are."""
        return Played("lost", start_s, code="zone_elsewhere", has_started=False)

    async def stop(self, sound_id: str | None = None, *, fade_s: float | None = None) -> None:
        """Nothing plays here."""

    async def set_volume(self, volume: float) -> None:
        """The factor for messages to come; the other box has its own volume."""
        self._state = replace(self._state, volume=volume)

    def position_s(self, sound_id: str) -> float | None:
        """Nothing plays here."""
        return None

    # ------------------------------------------------------------ the line

    async def require(self, tenant: str) -> PeerLink:
        """Raises Unavailable("zone_peer_unknown"): the tenant is not paired with that box."""
        link = None if self._links is None else await self._links.link(tenant, self._zone.peer, self.patience.answer_s)
        if link is None:
            raise Unavailable("zone_peer_unknown", peer=self._zone.peer)
        return link

    async def ask(self, tenant: str, path: str, document: JsonDict) -> JsonDict:
        """One message in the name of a tenant. Raises Unavailable, Forbidden("peer_refused")."""
        return await self.send(tenant, "POST", path, json.dumps(document, ensure_ascii=False).encode())

    async def send(self, tenant: str, method: str, path: str, body: bytes) -> JsonDict:
        """The same with any method and body."""
        try:
            link = await self.require(tenant)
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, link.send, method, path, body)
        except (Unavailable, Forbidden) as error:
            self._note_trouble(error)
            raise
        if self._state.state == "absent":
            self.look_again()
        return answer

    async def opened(self, timeout_s: float) -> None:
        """Wait until the box answers again, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self.is_open)

    def take(self, zone: JsonDict) -> None:
        """What the other box says of its zone."""
        code = known_code(zone.get("code"))
        if code:
            self._set("error", code, peer=self._zone.peer, zone=self._zone.zone)
        elif zone.get("alarm"):
            self._set("open", "peer_zone_alarm", peer=self._zone.peer, zone=self._zone.zone, alarm=str(zone["alarm"]))
        else:
            self._set("open", "")

    async def _keep_looking(self) -> None:
        retry_s = self.patience.retry_s
        while True:
            self._look_now.clear()
            try:
                answer = await self.ask("", STATES, {"zone": self._zone.zone, "ids": []})
                self.take(dict(answer.get("zone", {})))
                pause_s, retry_s = self.patience.look_s, self.patience.retry_s
            except VoicedError:  # it is noted
                pause_s, retry_s = retry_s, min(retry_s * 2, self.patience.retry_most_s)
            async with self._changed:
                self._changed.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._look_now.wait()

    def _note_trouble(self, error: VoicedError) -> None:
        known: dict[str, Any] = {"peer": self._zone.peer, "zone": self._zone.zone}
        if error.code in ("peer_unreachable", "peer_declined"):
            self._set("absent", "zone_peer_away", **known, reason=str(error.measured.get("reason", ""))[:200])
        else:
            self._set("error", error.code, **known)

    def _set(self, state: str, code: str, **measured: Any) -> None:
        if (state, code) == (self._state.state, self._state.code):
            return
        self._state = replace(self._state, state=state, code=code, measured=measured, since=utc_now())
        if code:
            log.warning("zone: %s", Unavailable(code, **measured))
        else:
            log.info("zone %s of %s: answers", self._zone.zone, self._zone.peer)
        self._on_change()
