"""One zone: what is said there now, what interrupts it, and how each message ends.

A message is claimed on disk before it is heard and settled after, so a crash in between repeats it at most once, marked
`repeated`. What is more urgent is made ready and claimed first; then the lesser one fades out as it begins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from appliance.announcer.ledger import Ledger
from appliance.announcer.loudspeaker import LoudspeakerState, Outlet
from appliance.announcer.player_link import Played
from appliance.announcer.programme import resume_point
from appliance.announcer.queue import Turn
from appliance.announcer.records import Announcement, Interrupted, State
from appliance.announcer.rendering import RenderAhead
from appliance.announcer.zone_base import ZoneBase
from appliance.contracts import Audio, JsonDict
from appliance.errors import Busy, StorageFull, VoicedError
from appliance.settings import ZoneSettings

log = logging.getLogger(__name__)

LOST_TAIL_S = 0.1  # a player lost this close to the end has said it all


@dataclass(frozen=True)
class Desk:
    """What all zones share."""

    ledger: Ledger
    rendering: RenderAhead
    permit: Callable[[Announcement], Awaitable[None]]  # raises what forbids a message that was allowed before
    on_change: Callable[[], None]
    preempts: frozenset[str]  # priorities that interrupt lesser ones


@dataclass
class _Saying:
    """A message that is being said, or made ready for it."""

    row: Announcement
    over: _Saying | None = None  # what it interrupts
    task: asyncio.Task[None] | None = None
    is_stopped: bool = False  # somebody asked for silence
    refusal: str = ""  # code of what forbade it in the middle
    gives_way: bool = False  # something more urgent is there

    @property
    def sound_id(self) -> str:
        return self.row.id


class Zone(ZoneBase):
    """A named output and the message that it says."""

    def __init__(self, name: str, settings: ZoneSettings, outlet: Outlet, desk: Desk) -> None:
        super().__init__(name, settings, outlet)
        self.outlet = outlet
        self._desk = desk
        self._sayings: list[_Saying] = []  # two while one fades out; the last is the one that counts

    # ------------------------------------------------------------ what is said

    @property
    def current(self) -> Announcement | None:
        """The message that is being said."""
        return self._sayings[-1].row if self._sayings else None

    def why_unsaid(self) -> str:
        """The reason for a message that could not be heard; "": nothing is wrong with the device."""
        return "no_device" if self.outlet.state.state in ("absent", "error") else ""

    def says(self, announcement_id: str) -> bool:
        return any(saying.row.id == announcement_id for saying in self._sayings)

    def take_up(self, turn: Turn) -> None:
        """Say the next message once it is rendered and its turn has come; a later one never overtakes it."""
        self.waiting = turn.waiting
        if not turn.rows or turn.rows[0].audio is None or not self.outlet.is_open:
            return
        row, current = turn.rows[0], self._sayings[-1] if self._sayings else None
        if self.says(row.id):
            return
        if current is not None and not self._may_interrupt(row, current):
            return
        saying = _Saying(row, over=current)
        self._sayings.append(saying)
        saying.task = asyncio.create_task(self._say(saying), name=f"say {row.id} in {self.name}")

    def _may_interrupt(self, row: Announcement, current: _Saying) -> bool:
        is_free = len(self._sayings) == 1 and not current.is_stopped  # one change at a time
        return is_free and row.priority in self._desk.preempts and row.rank > current.row.rank

    async def stop(self, announcement_id: str, refusal: str = "") -> None:
        """Cut a message short; it is silent within 0.2 s, and settled when this returns.

        With a `refusal` (the code of what forbids it) it has failed, without one it was cancelled.
        """
        for saying in self._sayings:
            if saying.row.id == announcement_id and saying.task is not None:
                saying.is_stopped, saying.refusal = True, refusal
                await self.outlet.stop(saying.sound_id)
                await asyncio.wait({saying.task}, timeout=2.0)

    async def close(self, drain_s: float) -> None:
        """Let what is being said end, at most `drain_s`; what does not is said again after the next start, marked."""
        tasks = {saying.task for saying in self._sayings if saying.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=drain_s)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # ------------------------------------------------------------ saying it

    async def _say(self, saying: _Saying) -> None:
        row, desk = saying.row, self._desk
        try:
            await desk.permit(row)  # a consent may have been revoked while it waited
            audio = await desk.rendering.load(row)
            claimed = await desk.ledger.queue.claim(row, self.name)
            if claimed is not None:
                saying.row = claimed
                desk.ledger.tell(claimed)
                desk.on_change()  # one more may be rendered ahead
                await self._sound(saying, audio)
        except (StorageFull, Busy) as error:  # the claim could not be written: nothing was heard, try again
            log.warning("announcer: %s", error)
            await asyncio.sleep(desk.ledger.retry_s)
        except VoicedError as error:  # not allowed any more, or its sound is gone or rotten
            await desk.ledger.fail(row, error.code)
        except Exception:
            log.exception("announcement %s could not be played", row.id)
            await self._settle(saying, State.FAILED, "announcement_play_failed")
        finally:
            self._sayings.remove(saying)
            desk.on_change()

    async def _sound(self, saying: _Saying, audio: Audio) -> None:
        start_s = saying.row.delivery(self.name).position_s
        played = Played("stopped", start_s)
        await self._make_room(saying)
        if not saying.is_stopped and not saying.gives_way:
            played = await self.outlet.play(saying.sound_id, audio, gain=saying.row.volume, start_s=start_s)
        if played.underruns:
            log.warning("announcement %s: the sound device ran dry %d times", saying.row.id, played.underruns)
        await self._conclude(saying, played, audio)
        await self._desk.ledger.publish(saying.row)

    async def _make_room(self, saying: _Saying) -> None:
        lesser = saying.over
        if lesser is not None and lesser in self._sayings and not lesser.is_stopped:
            lesser.gives_way = True
            log.info("announcement %s gives way to %s in %s", lesser.row.id, saying.row.id, self.name)
            await self.outlet.stop(lesser.sound_id)

    async def _conclude(self, saying: _Saying, played: Played, audio: Audio) -> None:
        """Write down how it ended."""
        row, ledger = saying.row, self._desk.ledger
        has_said_all = played.position_s >= audio.duration_s - LOST_TAIL_S
        if saying.refusal:
            await self._settle(saying, State.FAILED, saying.refusal)
        elif saying.is_stopped and played.outcome != "played":
            await self._settle(saying, State.CANCELLED, "stopped")
        elif played.outcome == "played" or (played.outcome == "lost" and played.has_started and has_said_all):
            await self._settle(saying, State.DONE)
        elif saying.gives_way:
            await self._give_way(saying, played, audio)
        elif played.outcome == "stopped":
            await self._settle(saying, State.CANCELLED, "stopped")
        elif not played.has_started:
            await ledger.insist(lambda: ledger.queue.put_back(row, self.name))
        else:
            await ledger.insist(lambda: ledger.queue.interrupt(row, self.name, played.code))
            log.warning("announcement %s broke off after %.1f s: %s", row.id, played.position_s, played.code)

    async def _give_way(self, saying: _Saying, played: Played, audio: Audio) -> None:
        """The rule of the message says what becomes of it."""
        row, ledger = saying.row, self._desk.ledger
        if row.interrupted == Interrupted.DROP:
            await self._settle(saying, State.CANCELLED, "preempted")
            return
        is_resumed = row.interrupted == Interrupted.RESUME
        position_s = resume_point(audio, played.position_s) if is_resumed else 0.0
        await ledger.insist(lambda: ledger.queue.give_way(row, self.name, position_s))

    async def _settle(self, saying: _Saying, state: State, reason: str = "") -> None:
        ledger = self._desk.ledger
        await ledger.insist(lambda: ledger.queue.settle(saying.row, self.name, state, reason))

    # ------------------------------------------------------------ for doors

    def as_json(self, tenant: str, local: datetime, language: str) -> JsonDict:
        """State, alarms and position of the zone; what another tenant says there is shown without its words."""
        saying = self._sayings[-1] if self._sayings else None
        playing = None if saying is None else (saying.row, self.outlet.position_s(saying.sound_id))
        document = show_zone(self.name, self.outlet.state, tenant, language, playing)
        return {**document, "is_quiet": self.is_quiet(local), "waiting": self.waiting}


def show_zone(
    name: str, state: LoudspeakerState, tenant: str, language: str, playing: tuple[Announcement, float | None] | None
) -> JsonDict:
    """A zone for doors; `playing`: a message and how far it is (s)."""
    told: JsonDict | None = None
    if playing is not None:
        row, position_s = playing
        is_ours = row.tenant == tenant
        told = {"announcement": row.id if is_ours else None, "text": row.text if is_ours else ""}
        told |= {"priority": row.priority, "position_s": position_s}
    document = state.as_json(language)
    names = ("state", "code", "message", "remedy", "alarms", "device", "preferred", "since", "restarts", "losses")
    shown = {key: document[key] for key in (*names, "underruns", "volume", "sample_rate", "channels")}
    return {"id": name, **shown, "playing": told}
