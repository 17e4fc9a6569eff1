"""The announcer: what is said aloud, in which order, exactly once.

One task, the conductor, looks at the queue whenever something changed: it lets go of messages that grew too old, has
the next ones rendered ahead, and plays the first. A message is claimed on disk before it is heard and settled after, so
a crash in between repeats it at most once, marked `repeated`. Without a sound device messages wait until they are too
old.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

from appliance.announcer.chime import with_chime
from appliance.announcer.loudspeaker import Loudspeaker, Played, Supervision
from appliance.announcer.queue import AnnouncementQueue
from appliance.announcer.records import PRIORITIES, Announcement, NewAnnouncement, State
from appliance.audio.encoding import encode_audio
from appliance.audio.files import read_audio, to_mono
from appliance.contracts import Audio, JsonDict
from appliance.database import Database, utc_now
from appliance.errors import Busy, InvalidInput, StorageFull, Unavailable, VoicedError
from appliance.settings import LoudspeakerSettings
from appliance.synthesis import Speech, SpeechRequest
from appliance.text.cleaning import clean_text
from appliance.voices.blobs import BlobStore
from appliance.voices.paging import Page
from appliance.voices.records import clean_name

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_AGE_S = 7 * 86_400.0
RENDER_AHEAD = 2  # messages made ready beyond the one that plays
RETRY_S = 3.0  # after a render that the box had no room for, or a disk that was full
LOST_TAIL_S = 0.25  # a player lost this close to the end has said it all
MAX_RENDITION_S = 3_600.0
CLIENT = "announcer"  # whose place in the synthesis queue announcements take
EVENTS_KEPT = 256  # for a slow listener; older ones are dropped, the newest state always arrives


class SpeechMaker(Protocol):
    """What the announcer needs of `Synthesis`."""

    async def open(self, request: SpeechRequest) -> Speech: ...

    async def render(self, request: SpeechRequest) -> tuple[Speech, Audio]: ...


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
        self._blobs = blobs
        self._settings = settings
        self._queue = AnnouncementQueue(db, settings.max_queue)
        self.loudspeaker = Loudspeaker(settings, self._wake_up, supervision or Supervision())
        self._wake = asyncio.Event()
        self._conductor: asyncio.Task[None] | None = None
        self._renders: dict[str, tuple[Announcement, asyncio.Task[None]]] = {}
        self._current: _Current | None = None
        self._deadlines: dict[str, float] = {}  # id -> loop time; wall clocks jump, waiting does not
        self._not_before: dict[str, float] = {}  # id -> loop time of the next attempt to render
        self._listeners: set[asyncio.Queue[Announcement]] = set()
        self._waiting = 0

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Announcer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Take over what an earlier process left, open the loudspeaker, begin."""
        if not self._settings.enabled:
            return
        for row in await self._queue.recover():
            log.warning("announcement %s was interrupted: now %s", row.id, row.state)
        await self.loudspeaker.__aenter__()
        self._conductor = asyncio.create_task(self._conduct(), name="announcer")

    async def close(self, drain_s: float = 10.0) -> None:
        """Let the message that plays end (at most `drain_s`), then go. What waits is said after the next start."""
        if self._conductor is not None:
            await _cancel(self._conductor)
        for _, task in list(self._renders.values()):
            await _cancel(task)
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
        self._tell(row)
        if not self.loudspeaker.is_open:
            self.loudspeaker.look_again()
        self._wake_up()
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

    async def events(self, tenant: str) -> AsyncIterator[Announcement]:
        """Every change of a tenant's messages from now on, as it happens."""
        listener: asyncio.Queue[Announcement] = asyncio.Queue(EVENTS_KEPT)
        self._listeners.add(listener)
        try:
            while True:
                row = await listener.get()
                if row.tenant == tenant:
                    yield row
        finally:
            self._listeners.discard(listener)

    # ------------------------------------------------------------ conducting

    def _wake_up(self) -> None:
        self._wake.set()

    async def _conduct(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            try:
                waiting = await self._live_rows()
                self._render_ahead(waiting)
                self._play_next(waiting)
                until = [self._deadlines[row.id] for row in waiting]
                until += [self._not_before[row.id] for row in waiting if row.id in self._not_before]
                pause_s = max(0.05, min(until) - loop.time()) if until else None
            except VoicedError as error:  # a full disk must not end the announcements
                log.warning("announcer: %s", error)
                pause_s = RETRY_S
            except Exception:
                log.exception("announcer")
                pause_s = RETRY_S
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
                await self._publish(row)
        self._waiting = len(rows)
        return tuple(rows)

    def _why_unsaid(self, row: Announcement) -> str:
        if row.reason:
            return row.reason
        return "no_device" if self.loudspeaker.state.state in ("absent", "error") else "too_old"

    async def _publish(self, row: Announcement) -> Announcement:
        """Tell listeners how a message stands now; forget what was kept about it once it is over."""
        row = await self._queue.get(row.tenant, row.id)
        if row.is_over:
            self._deadlines.pop(row.id, None)
            self._not_before.pop(row.id, None)
            rendering = self._renders.get(row.id)
            if rendering is not None and rendering[1] is not asyncio.current_task():
                rendering[1].cancel()
        self._tell(row)
        return row

    def _tell(self, row: Announcement) -> None:
        for listener in self._listeners:
            if listener.full():
                listener.get_nowait()
            listener.put_nowait(row)

    async def _cancel_row(self, row: Announcement) -> Announcement:
        if await self._queue.settle_waiting(row, State.CANCELLED, "stopped"):
            self._wake_up()
            return await self._publish(row)
        current = self._current
        if current is not None and current.row.id == row.id:
            current.is_stopped = True
            await self.loudspeaker.stop(row.id)
            await asyncio.wait({current.task}, timeout=2.0)
        return await self._queue.get(row.tenant, row.id)

    # ------------------------------------------------------------ rendering

    def _render_ahead(self, waiting: tuple[Announcement, ...]) -> None:
        """Begin what is missing among the next messages: one at a time, but never behind a lower priority."""
        now = asyncio.get_running_loop().time()
        for row in waiting[: 1 + RENDER_AHEAD]:
            if row.audio is not None or row.id in self._renders or self._not_before.get(row.id, 0.0) > now:
                continue
            if all(row.rank > other.rank for other, _ in self._renders.values()):
                self._not_before.pop(row.id, None)
                self._renders[row.id] = (row, self._spawn(self._render(row)))

    async def _render(self, row: Announcement) -> None:
        try:
            if not await self._queue.begin_rendering(row):
                return
            self._tell(replace(row, state=State.RENDERING))
            speech, audio = await self._synthesis.render(_speech_request(row.tenant, row))
            digest = await asyncio.to_thread(lambda: self._blobs.put_bytes(_encode(audio)))
            if await self._queue.attach_audio(row, speech.rendition, digest, audio.duration_s):
                await self._publish(row)
        except (Busy, Unavailable, StorageFull) as error:  # may pass: it is tried again until it is too old
            await self._postpone(row, error.code)
        except VoicedError as error:
            await self._fail(row, error.code)
        except Exception:
            log.exception("announcement %s could not be rendered", row.id)
            await self._fail(row, "announcement_render_failed")
        finally:
            self._renders.pop(row.id, None)
            self._wake_up()

    async def _postpone(self, row: Announcement, reason: str) -> None:
        self._not_before[row.id] = asyncio.get_running_loop().time() + RETRY_S
        await self._insist(lambda: self._queue.requeue(row, reason))
        await self._publish(row)

    async def _fail(self, row: Announcement, reason: str) -> None:
        log.warning("announcement %s failed: %s", row.id, reason)
        await self._insist(lambda: self._queue.settle(row, State.FAILED, reason))
        await self._publish(row)

    async def _insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Write, however long the disk is full: what happened must not be forgotten, or it would happen again."""
        has_complained = False
        while True:
            try:
                return await write()
            except (StorageFull, Busy) as error:
                if not has_complained:
                    log.warning("announcer: %s", error)
                has_complained = True
                await asyncio.sleep(RETRY_S)

    # ------------------------------------------------------------ playing

    def _play_next(self, waiting: tuple[Announcement, ...]) -> None:
        """Play the first message once it is rendered; a later one never overtakes it."""
        if self._current is None and waiting and waiting[0].audio is not None and self.loudspeaker.is_open:
            row = waiting[0]
            self._current = _Current(row, self._spawn(self._play(row)))

    async def _play(self, row: Announcement) -> None:
        try:
            await self._require_speakable(row.tenant, row)  # a consent may have been revoked while it waited
            audio = await asyncio.to_thread(self._load, row)
            if await self._queue.begin_playing(row):
                self._tell(replace(row, state=State.PLAYING))
                self._wake_up()  # one more may be rendered ahead
                await self._play_claimed(row, audio)
        except (StorageFull, Busy) as error:  # the claim could not be written: nothing was heard, try again
            log.warning("announcer: %s", error)
            await asyncio.sleep(RETRY_S)
        except VoicedError as error:  # not allowed any more, or its sound is gone or rotten
            await self._fail(row, error.code)
        except Exception:
            log.exception("announcement %s could not be played", row.id)
            await self._fail(row, "announcement_play_failed")
        finally:
            self._current = None
            self._wake_up()

    async def _play_claimed(self, row: Announcement, audio: Audio) -> None:
        current = self._current
        if current is not None and current.is_stopped:
            played = Played("stopped", 0.0)
        else:
            played = await self.loudspeaker.play(row.id, audio, gain=row.volume)
        has_said_all = played.position_s >= audio.duration_s - LOST_TAIL_S
        if played.underruns:
            log.warning("announcement %s: the sound device ran dry %d times", row.id, played.underruns)
        if played.outcome == "stopped":
            await self._insist(lambda: self._queue.settle(row, State.CANCELLED, "stopped"))
        elif played.outcome == "played" or (played.has_started and has_said_all):
            await self._insist(lambda: self._queue.settle(row, State.DONE))
        elif not played.has_started:
            await self._insist(lambda: self._queue.put_back(row))
        else:
            await self._insist(lambda: self._queue.interrupt(row, played.code))
            log.warning("announcement %s broke off after %.1f s: %s", row.id, played.position_s, played.code)
        await self._publish(row)

    def _load(self, row: Announcement) -> Audio:
        """The sound of a rendered message, with its chime. Blocks. Raises NotFound, Corrupt."""
        digest = row.audio or ""
        self._blobs.verify(digest)
        decoded = read_audio(self._blobs.path(digest), max_duration_s=MAX_RENDITION_S)
        speech = Audio(to_mono(decoded.samples), decoded.sample_rate)
        return with_chime(speech) if row.chime else speech

    # ------------------------------------------------------------ small things

    async def _require_speakable(self, tenant: str, what: NewAnnouncement | Announcement) -> None:
        """Everything that can be refused without making sound. A busy box is no reason: the queue waits for it."""
        with suppress(Busy):
            speech = await self._synthesis.open(_speech_request(tenant, what))
            await speech.chunks.aclose()  # type: ignore[attr-defined]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work, name="announcement")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _speech_request(tenant: str, what: Announcement | NewAnnouncement) -> SpeechRequest:
    rank = PRIORITIES.index(what.priority)
    return SpeechRequest(tenant, what.voice, what.text, what.language, priority=rank, client=CLIENT, purpose="announce")


def _encode(audio: Audio) -> bytes:
    return encode_audio(audio.samples, audio.sample_rate, "flac")


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
