"""The announcer: what is said aloud, in which order, exactly once.

One task, the conductor, looks at the queue whenever something changed: it lets go of messages that grew too old, has
the next ones rendered ahead, and plays the first. A message is claimed on disk before it is heard and settled after, so
a crash in between repeats it at most once, marked `repeated`. Without a sound device messages wait until they are too
old.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from appliance.announcer.ledger import Ledger
from appliance.announcer.loudspeaker import Loudspeaker, Played, Supervision
from appliance.announcer.queue import AnnouncementQueue
from appliance.announcer.records import PRIORITIES, Announcement, NewAnnouncement, State
from appliance.announcer.rendering import RenderAhead, SpeechMaker, speech_request
from appliance.contracts import Audio, JsonDict
from appliance.database import Database, utc_now
from appliance.errors import Busy, InvalidInput, StorageFull, Unavailable, VoicedError
from appliance.paging import Page
from appliance.settings import LoudspeakerSettings
from appliance.text.cleaning import clean_text
from appliance.voices.blobs import BlobStore
from appliance.voices.records import clean_name

log = logging.getLogger(__name__)


MAX_AGE_S = 7 * 86_400.0
LOST_TAIL_S = 0.25  # a player lost this close to the end has said it all


@dataclass
class _Current:
    """The message that is being played."""

    row: Announcement
    task: asyncio.Task[None]
    is_stopped: bool = False  # somebody asked for silence


class Announcer:
    """The queue, the rendering ahead and the loudspeaker together. Use as an async context manager."""

    def __init__(
        self,
        synthesis: SpeechMaker,
        db: Database,
        blobs: BlobStore,
        settings: LoudspeakerSettings,
        supervision: Supervision | None = None,
    ) -> None:
        self._synthesis = synthesis
        self._settings = settings
        self._wake = asyncio.Event()
        self._queue = AnnouncementQueue(db, settings.max_queue)
        patience = supervision or Supervision()
        self._ledger = Ledger(self._queue, patience.retry_s)
        self._rendering = RenderAhead(synthesis, self._ledger, blobs, self._wake.set)
        self.loudspeaker = Loudspeaker(settings, self._wake.set, patience)
        self._conductor: asyncio.Task[None] | None = None
        self._current: _Current | None = None
        self._deadlines: dict[str, float] = {}  # id -> loop time; wall clocks jump, waiting does not
        self._waiting = 0

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Announcer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the loudspeaker and begin, with what an earlier process left."""
        if not self._settings.enabled:
            return
        await self.loudspeaker.__aenter__()
        self._conductor = asyncio.create_task(self._conduct(), name="announcer")

    async def close(self, drain_s: float = 10.0) -> None:
        """Let the message that plays end (at most `drain_s`), then go. What waits is said after the next start."""
        if self._conductor is not None:
            await _cancel(self._conductor)
        await self._rendering.close()
        if self._current is not None:
            await asyncio.wait({self._current.task}, timeout=drain_s)
        if self._current is not None:  # its row stays "playing": the next start repeats it, marked
            await _cancel(self._current.task)
        await self.loudspeaker.__aexit__()

    # ------------------------------------------------------------ what doors call

    async def submit(self, tenant: str, new: NewAnnouncement) -> Announcement:
        """Put a message into the queue and return at once; it is on disk by then.

        Raises Unavailable("loudspeaker_disabled"), InvalidInput (volume_out_of_range, priority_unknown,
        max_age_out_of_range), Busy("announcements_full"), and what `Synthesis.open` refuses: empty text, unknown voice
        or language, missing consent.
        """
        if not self._settings.enabled:
            raise Unavailable("loudspeaker_disabled")
        _require_sane(new)
        await self._require_speakable(tenant, new)
        new = replace(new, text=clean_text(new.text))
        row = await self._queue.add(tenant, new, chime=self._settings.chime if new.chime is None else new.chime)
        self._deadlines[row.id] = asyncio.get_running_loop().time() + row.max_age_s
        self._ledger.tell(row)
        if not self.loudspeaker.is_open:
            self.loudspeaker.look_again()
        self._wake.set()
        return row

    async def get(self, tenant: str, announcement_id: str) -> Announcement:
        """One message. Raises NotFound("announcement_not_found")."""
        return await self._queue.get(tenant, clean_name(announcement_id))

    async def list(self, tenant: str, cursor: str | None = None, limit: int = 50) -> Page[Announcement]:
        """Messages, the newest first. Raises InvalidInput("cursor_invalid" | "limit_invalid")."""
        return await self._queue.page(tenant, cursor, limit)

    async def stop(self, tenant: str, announcement_id: str | None = None) -> tuple[Announcement, ...]:
        """Silence one message, or all of a tenant (waiting ones too); they become "cancelled".

        What plays is silent within 0.2 s. Returns the rows concerned as they now stand; a message that is over stays
        as it is. Raises NotFound("announcement_not_found").
        """
        if announcement_id is None:
            rows = await self._queue.waiting(tenant)
            if self._current is not None and self._current.row.tenant == tenant:
                rows = (self._current.row, *rows)
        else:
            rows = (await self.get(tenant, announcement_id),)
        return tuple([await self._cancel_row(row) for row in rows])

    async def set_volume(self, volume: float) -> None:
        """Change the volume of the loudspeaker (0..1) until the next start. Raises InvalidInput."""
        _require_volume(volume)
        await self.loudspeaker.set_volume(volume)

    def state(self, language: str = "en") -> JsonDict:
        """The loudspeaker and the queue, for doors: `{"state": "open", …, "playing": id or None, "waiting": n}`."""
        playing = self._current.row.id if self._current is not None else None
        return {**self.loudspeaker.state.as_json(language), "playing": playing, "waiting": self._waiting}

    def events(self, tenant: str) -> AsyncIterator[Announcement]:
        """Every change of a tenant's messages from now on, as it happens."""
        return self._ledger.events(tenant)

    # ------------------------------------------------------------ conducting

    async def _conduct(self) -> None:
        loop = asyncio.get_running_loop()
        for row in await self._ledger.insist(self._queue.recover):
            log.warning("announcement %s was interrupted: now %s", row.id, row.state)
        while True:
            self._wake.clear()
            try:
                waiting = await self._live_rows()
                self._rendering.begin(waiting)
                self._play_next(waiting)
                until = [self._deadlines[row.id] for row in waiting]
                until += self._rendering.next_attempts(waiting)
                pause_s = max(0.05, min(until) - loop.time()) if until else None
            except VoicedError as error:  # a full disk must not end the announcements
                log.warning("announcer: %s", error)
                pause_s = self._ledger.retry_s
            except Exception:
                log.exception("announcer")
                pause_s = self._ledger.retry_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    async def _live_rows(self) -> tuple[Announcement, ...]:
        """Waiting messages in order, after the ones that grew too old were let go."""
        now = asyncio.get_running_loop().time()
        rows = []
        for row in await self._queue.waiting():
            if now < self._deadlines.setdefault(row.id, now + _remaining_s(row)):
                rows.append(row)
            elif await self._queue.settle_waiting(row, State.EXPIRED, self._why_unsaid(row)):
                await self._end(row)
        self._waiting = len(rows)
        playing = self._current.row.id if self._current is not None else None
        kept = {playing, *(row.id for row in rows)}
        self._deadlines = {key: deadline for key, deadline in self._deadlines.items() if key in kept}
        return tuple(rows)

    def _why_unsaid(self, row: Announcement) -> str:
        if row.reason:
            return row.reason
        return "no_device" if self.loudspeaker.state.state in ("absent", "error") else "too_old"

    async def _end(self, row: Announcement) -> Announcement:
        """Give up rendering a message that is over, and tell listeners how it ended."""
        self._rendering.forget(row.id)
        return await self._ledger.publish(row)

    async def _cancel_row(self, row: Announcement) -> Announcement:
        if await self._queue.settle_waiting(row, State.CANCELLED, "stopped"):
            self._wake.set()
            return await self._end(row)
        current = self._current
        if current is not None and current.row.id == row.id:
            current.is_stopped = True
            await self.loudspeaker.stop(row.id)
            await asyncio.wait({current.task}, timeout=2.0)
        return await self._queue.get(row.tenant, row.id)

    # ------------------------------------------------------------ playing

    def _play_next(self, waiting: tuple[Announcement, ...]) -> None:
        """Play the first message once it is rendered; a later one never overtakes it."""
        if self._current is None and waiting and waiting[0].audio is not None and self.loudspeaker.is_open:
            row = waiting[0]
            self._current = _Current(row, asyncio.create_task(self._play(row), name=f"play {row.id}"))

    async def _play(self, row: Announcement) -> None:
        try:
            await self._require_speakable(row.tenant, row)  # a consent may have been revoked while it waited
            audio = await asyncio.to_thread(self._rendering.load, row)
            if await self._queue.begin_playing(row):
                self._ledger.tell(replace(row, state=State.PLAYING))
                self._wake.set()  # one more may be rendered ahead
                await self._play_claimed(row, audio)
        except (StorageFull, Busy) as error:  # the claim could not be written: nothing was heard, try again
            log.warning("announcer: %s", error)
            await asyncio.sleep(self._ledger.retry_s)
        except VoicedError as error:  # not allowed any more, or its sound is gone or rotten
            await self._ledger.fail(row, error.code)
        except Exception:
            log.exception("announcement %s could not be played", row.id)
            await self._ledger.fail(row, "announcement_play_failed")
        finally:
            self._current = None
            self._wake.set()

    async def _play_claimed(self, row: Announcement, audio: Audio) -> None:
        played = Played("stopped", 0.0)
        if not self._is_stopped(row):
            played = await self.loudspeaker.play(row.id, audio, gain=row.volume)
        has_said_all = played.position_s >= audio.duration_s - LOST_TAIL_S
        if played.underruns:
            log.warning("announcement %s: the sound device ran dry %d times", row.id, played.underruns)
        if played.outcome == "stopped" or (played.outcome == "lost" and self._is_stopped(row)):
            await self._ledger.insist(lambda: self._queue.settle(row, State.CANCELLED, "stopped"))
        elif played.outcome == "played" or (played.has_started and has_said_all):
            await self._ledger.insist(lambda: self._queue.settle(row, State.DONE))
        elif not played.has_started:
            await self._ledger.insist(lambda: self._queue.put_back(row))
        else:
            await self._ledger.insist(lambda: self._queue.interrupt(row, played.code))
            log.warning("announcement %s broke off after %.1f s: %s", row.id, played.position_s, played.code)
        await self._ledger.publish(row)

    def _is_stopped(self, row: Announcement) -> bool:
        return self._current is not None and self._current.row.id == row.id and self._current.is_stopped

    async def _require_speakable(self, tenant: str, what: NewAnnouncement | Announcement) -> None:
        """Everything that can be refused without making sound. A busy box is no reason: the queue waits for it."""
        with suppress(Busy):
            speech = await self._synthesis.open(speech_request(tenant, what))
            await speech.chunks.aclose()  # type: ignore[attr-defined]


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _require_sane(new: NewAnnouncement) -> None:
    if new.priority not in PRIORITIES:
        raise InvalidInput("priority_unknown", priority=new.priority[:40], known=", ".join(PRIORITIES))
    if not 0 < new.max_age_s <= MAX_AGE_S:  # NaN fails this too
        raise InvalidInput("max_age_out_of_range", seconds=new.max_age_s, most=MAX_AGE_S)
    if new.volume is not None:
        _require_volume(new.volume)


def _require_volume(volume: float) -> None:
    if not 0.0 <= volume <= 1.0:
        raise InvalidInput("volume_out_of_range", volume=volume)


def _remaining_s(row: Announcement) -> float:
    """What is left of a message's age after a restart. A clock that went backwards does not make it younger."""
    age_s = (datetime.fromisoformat(utc_now()) - datetime.fromisoformat(row.created_at)).total_seconds()
    return row.max_age_s - max(0.0, age_s)
