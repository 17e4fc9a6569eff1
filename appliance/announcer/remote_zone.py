"""A zone of another box: its messages are handed over, and what becomes of them there is told here.

    may it come? → its sound, in pieces, where that box lacks it → the order → how does it stand? …

Before the order nothing can be heard there, so whatever fails is tried again until the message is too old. From the
order on the message is that box's: it keeps its own exactly-once rules, and the order has an id under which it is taken
once however often it is sent. What is said here of such a message is what that box answered; when it falls silent for
good, that nothing is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from appliance.announcer.peer_orders import PeerOrders
from appliance.announcer.peer_outlet import PeerOutlet
from appliance.announcer.peer_wire import (
    BUSY,
    REFUSED,
    SOUND_MISSING,
    UNKNOWN,
    known_code,
    mirrored,
)
from appliance.announcer.queue import Turn
from appliance.announcer.records import Announcement, Handed, State
from appliance.announcer.zone import Desk, show_zone
from appliance.announcer.zone_base import ZoneBase
from appliance.contracts import JsonDict
from appliance.errors import Busy, StorageFull, Unavailable, VoicedError
from appliance.events import Event
from appliance.settings import ZoneSettings
from appliance.voices.blobs import BlobStore

log = logging.getLogger(__name__)

LEAST_LEFT_S = 0.5  # a message this close to its end is not sent any more

Witness = Callable[[Event], Awaitable[object]]


@dataclass(frozen=True)
class RemoteRooms:
    """What a zone elsewhere needs beside the desk of all zones."""

    desk: Desk
    blobs: BlobStore
    age_left_s: Callable[[Announcement], float]
    witness: Witness  # writes to the audit log; what cannot be witnessed does not happen


@dataclass
class _Errand:
    """A message on its way, or at the other box."""

    row: Announcement
    ends_at: float  # loop time: too old then
    handed: Handed = Handed.NO
    is_stopped: bool = False  # somebody asked for silence
    refusal: str = ""  # the code of what forbids it, where that is why
    is_committed: bool = False  # from here on it is not called back, only stopped
    task: asyncio.Task[None] | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def turn(self) -> tuple[int, int]:
        return -self.row.rank, self.row.place


class RemoteZone(ZoneBase):
    """A zone of the announcer whose loudspeaker is another box's."""

    def __init__(self, name: str, settings: ZoneSettings, outlet: PeerOutlet, rooms: RemoteRooms) -> None:
        super().__init__(name, settings, outlet)
        self.outlet = outlet
        self._rooms = rooms
        self._queue = rooms.desk.ledger.queue
        self._orders = PeerOrders(name, settings, outlet, rooms.blobs)
        self._errands: dict[str, _Errand] = {}
        self._order_changed = asyncio.Condition()
        self._news = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ as a zone

    @property
    def current(self) -> Announcement | None:
        """The message that is being said there."""
        playing = (each.row for each in self._errands.values() if self._delivery_state(each) is State.PLAYING)
        return max(playing, key=lambda row: row.rank, default=None)

    def says(self, announcement_id: str) -> bool:
        """It is on its way, or there."""
        return announcement_id in self._errands

    def why_unsaid(self) -> str:
        """The reason for a message that could not be sent; "": nothing is wrong with the line."""
        return self.outlet.state.code if not self.outlet.is_open else ""

    def take_up(self, turn: Turn) -> None:
        """Send what is rendered, in order; what is not among the next any more is not sent."""
        self.waiting = turn.waiting
        ready: list[Announcement] = []
        for row in turn.rows:
            if row.audio is None:
                break  # a later one never overtakes it
            ready.append(row)
        for errand in [each for each in self._errands.values() if each.handed is Handed.NO]:
            if errand.row.id not in {row.id for row in ready} and not errand.is_committed and errand.task is not None:
                errand.task.cancel()
        for row in ready:
            if row.id not in self._errands and row.delivery(self.name).handed is not Handed.NO:
                self.resume(row)
            elif row.id not in self._errands:
                self._begin(row)

    def resume(self, row: Announcement) -> None:
        """Ask again after a message that an earlier process handed over."""
        errand = _Errand(row, self._end_of(row), row.delivery(self.name).handed)
        self._errands[row.id] = errand
        self._start_watching()

    async def stop(self, announcement_id: str, refusal: str = "") -> None:
        """Have it stopped there; it is settled when this returns, or as soon as the other box answers.

        With a `refusal` (the code of what forbids it) it has failed, without one it was cancelled.
        """
        errand = self._errands.get(announcement_id)
        if errand is None:
            return
        errand.is_stopped, errand.refusal = True, refusal
        if errand.handed is not Handed.NO:
            await self._hand(errand, Handed.STOPPING)
            self._start_watching()
        with suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await errand.over.wait()

    async def close(self, drain_s: float) -> None:
        """Nothing more is sent; what the other box has, it says. It is asked after the next start."""
        tasks = {errand.task for errand in self._errands.values() if errand.task is not None}
        if self._watcher is not None:
            tasks.add(self._watcher)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def as_json(self, tenant: str, local: datetime, language: str) -> JsonDict:
        """As a zone of this box is shown; the position is the one that the other box told last."""
        row = self.current
        position_s = None if row is None else row.delivery(self.name).position_s
        document = show_zone(self.name, self.outlet.state, tenant, language, None if row is None else (row, position_s))
        there = {"peer": self._settings.peer, "zone": self._settings.zone}
        return {**document, "is_quiet": self.is_quiet(local), "waiting": self.waiting, "elsewhere": there}

    # ------------------------------------------------------------ until the order

    def _begin(self, row: Announcement) -> None:
        errand = self._errands[row.id] = _Errand(row, self._end_of(row))
        errand.task = asyncio.create_task(self._carry(errand), name=f"carry {row.id} to {self.name}")

    async def _carry(self, errand: _Errand) -> None:
        """Try until it is handed over or refused; when it grew too old or was stopped, somebody has settled it."""
        pause_s = self.outlet.patience.retry_s
        try:
            while not await self._try(errand):
                await self._order_moved()
                await self.outlet.opened(pause_s) if not self.outlet.is_open else await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self.outlet.patience.retry_most_s)
        except Exception:
            log.exception("announcement %s could not be sent to %s", errand.row.id, self.name)
            await self._settle(errand, State.FAILED, "announcement_play_failed")
        finally:
            if errand.handed is Handed.NO:
                self._forget(errand)
            await self._order_moved()

    async def _try(self, errand: _Errand) -> bool:
        """One attempt; False: try again. What forbids it for good settles it."""
        try:
            await self._rooms.desk.permit(errand.row)  # a consent may have been revoked while it waited
            return await self._bring(errand)
        except (Unavailable, Busy, StorageFull) as error:
            if errand.handed is not Handed.NO:  # nobody knows whether it arrived: it is asked after
                return True
            await self._note(errand, self.outlet.state.code or error.code)
            return False
        except VoicedError as error:  # not allowed any more, a stranger there, or its sound is gone or rotten
            if errand.handed is Handed.NO:
                await self._settle(errand, State.FAILED, error.code)
            return True

    async def _bring(self, errand: _Errand) -> bool:
        answer = await self._order(errand, is_final=False)
        if answer["state"] == SOUND_MISSING:
            await self._orders.send_sound(errand.row, int(answer["have"]), lambda: self._until_its_turn(errand))
            answer = await self._order(errand, is_final=False)
        if answer["state"] == REFUSED:
            await self._refuse(errand, answer)
            return True
        if answer["state"] in (BUSY, SOUND_MISSING):
            await self._note(errand, known_code(answer.get("code")))
            return False
        await self._until_its_turn(errand)
        await self._rooms.witness(self._orders.event(errand.row))
        errand.is_committed = True
        if not await self._hand(errand, Handed.SENT):
            return True  # it was settled meanwhile
        self._start_watching()
        return errand.is_stopped or await self._place(errand)

    async def _place(self, errand: _Errand) -> bool:
        """Send the order itself; False: the other box said that it did not take it. Raises what the line raises."""
        answer = await self._order(errand, is_final=True)
        if answer["state"] in (BUSY, SOUND_MISSING):
            errand.is_committed = False
            await self._hand(errand, Handed.NO)
            await self._note(errand, known_code(answer.get("code")))
            return False
        await self._apply(errand, answer)
        return True

    async def _order(self, errand: _Errand, *, is_final: bool) -> JsonDict:
        left_s = errand.ends_at - asyncio.get_running_loop().time()
        if left_s < LEAST_LEFT_S:
            raise Unavailable("too_old")
        return await self._orders.order(errand.row, left_s, is_final=is_final)

    async def _until_its_turn(self, errand: _Errand) -> None:
        async with self._order_changed:
            await self._order_changed.wait_for(lambda: self._is_next(errand))

    def _is_next(self, errand: _Errand) -> bool:
        waiting = (each for each in self._errands.values() if each.handed is Handed.NO and each.task is not None)
        return errand is min(waiting, key=lambda each: each.turn, default=errand)

    async def _order_moved(self) -> None:
        async with self._order_changed:
            self._order_changed.notify_all()

    # ------------------------------------------------------------ after the order

    def _start_watching(self) -> None:
        self._news.set()
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def _watch(self) -> None:
        """Ask after what is there for as long as something is."""
        pause_s = self.outlet.patience.poll_s
        while handed := [each for each in self._errands.values() if each.handed is not Handed.NO]:
            self._news.clear()
            try:
                await self._ask_after(handed)
                pause_s = self.outlet.patience.poll_s
            except VoicedError as error:
                log.debug("zone %s: %s", self.name, error)
                await self._give_up_overdue(handed)
                pause_s = min(pause_s * 2, self.outlet.patience.retry_most_s)
            except Exception:
                log.exception("the zone %s", self.name)
                pause_s = self.outlet.patience.retry_most_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._news.wait()

    async def _ask_after(self, errands: list[_Errand]) -> None:
        by_tenant: dict[str, list[_Errand]] = {}
        for errand in errands:
            if errand.handed is Handed.STOPPING:
                await self._apply(errand, await self._orders.stop(errand.row))
            elif errand.handed is Handed.SENT and not self._is_too_old(errand):
                await self._place_again(errand)
            else:
                by_tenant.setdefault(errand.row.tenant, []).append(errand)
        for tenant, asked in by_tenant.items():
            states = await self._orders.states(tenant, [errand.row for errand in asked])
            for errand in asked:
                if errand.row.id in states and self.says(errand.row.id):
                    await self._apply(errand, states[errand.row.id])

    async def _place_again(self, errand: _Errand) -> None:
        """The order was sent, and no answer came: the same id is taken once, however often it is sent."""
        is_on_the_wire = errand.task is not None and not errand.task.done()
        if not is_on_the_wire and not await self._place(errand):
            self._forget(errand)  # it is not there; the next look at the queue begins anew
            self._rooms.desk.on_change()

    def _is_too_old(self, errand: _Errand) -> bool:
        return asyncio.get_running_loop().time() > errand.ends_at - LEAST_LEFT_S

    async def _give_up_overdue(self, errands: list[_Errand]) -> None:
        """The other box may have said it, or not: nobody can know here."""
        now = asyncio.get_running_loop().time()
        for errand in errands:
            spoken_s = (errand.row.duration_s or 0.0) + errand.row.pause_s
            if now > errand.ends_at + spoken_s * errand.row.repeats + self.outlet.patience.fate_s:
                await self._settle(errand, State.FAILED, "peer_fate_unknown")

    async def _apply(self, errand: _Errand, status: JsonDict) -> None:
        """Take over what the other box says of a message."""
        state = status["state"]
        if state == REFUSED:
            await self._refuse(errand, status)
        elif state == UNKNOWN and errand.handed is Handed.STOPPING:
            await self._mirror(errand, {"state": State.CANCELLED, "reason": "stopped"})
        elif state == UNKNOWN and errand.handed is Handed.SENT:
            await self._settle(errand, State.EXPIRED, "too_old")
        elif state == UNKNOWN:
            await self._settle(errand, State.FAILED, "peer_forgot")
        else:
            await self._mirror(errand, status)

    async def _mirror(self, errand: _Errand, status: JsonDict) -> None:
        before = errand.row.delivery(self.name)
        told = mirrored(replace(before, handed=errand.handed), status)
        if told.state is State.CANCELLED and errand.refusal:
            told = replace(told, state=State.FAILED, reason=errand.refusal)
        if told == before:
            return
        ledger = self._rooms.desk.ledger
        await ledger.insist(lambda: self._queue.mirror(errand.row, told))
        errand.row, errand.handed = await ledger.publish(errand.row), told.handed
        if told.state not in (State.QUEUED, State.PLAYING):
            self._forget(errand)
        self._rooms.desk.on_change()

    async def _refuse(self, errand: _Errand, answer: JsonDict) -> None:
        code = str(answer.get("code", ""))[:80]
        log.warning("announcement %s: %s refuses it: %s", errand.row.id, self._settings.peer, code)
        await self._rooms.witness(self._orders.event(errand.row, REFUSED, code))
        await self._settle(errand, State.FAILED, known_code(code) or "peer_reason_unknown")

    # ------------------------------------------------------------ the books

    async def _hand(self, errand: _Errand, handed: Handed) -> bool:
        """Note how far it is, on disk first; False: it is over here."""
        ledger = self._rooms.desk.ledger
        if not await ledger.insist(lambda: self._queue.hand(errand.row, self.name, handed)):
            self._forget(errand)
            return False
        errand.handed = handed
        await self._order_moved()
        if errand.is_stopped and handed is Handed.SENT:
            return await self._hand(errand, Handed.STOPPING)
        return True

    async def _note(self, errand: _Errand, reason: str) -> None:
        """What stands in its way, for those who look."""
        delivery = errand.row.delivery(self.name)
        if reason and delivery.reason != reason:
            ledger = self._rooms.desk.ledger
            await ledger.insist(lambda: self._queue.mirror(errand.row, replace(delivery, reason=reason)))
            errand.row = await ledger.publish(errand.row)

    async def _settle(self, errand: _Errand, state: State, reason: str) -> None:
        ledger = self._rooms.desk.ledger
        await ledger.insist(lambda: self._queue.settle(errand.row, self.name, state, reason))
        errand.row = await ledger.publish(errand.row)
        self._forget(errand)
        self._rooms.desk.on_change()

    def _forget(self, errand: _Errand) -> None:
        if self._errands.get(errand.row.id) is errand:
            del self._errands[errand.row.id]
        errand.over.set()

    def _delivery_state(self, errand: _Errand) -> State:
        return errand.row.delivery(self.name).state

    def _end_of(self, row: Announcement) -> float:
        return asyncio.get_running_loop().time() + self._rooms.age_left_s(row)
