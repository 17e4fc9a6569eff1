"""Making the next messages ready before it is their turn, so that none waits for synthesis while the hall is silent."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from appliance.announcer.ledger import Ledger
from appliance.announcer.programme import compose
from appliance.announcer.records import PRIORITIES, Announcement, NewAnnouncement, State
from appliance.audio.encoding import encode_audio
from appliance.audio.files import read_audio, to_mono
from appliance.audio.tags import Tags
from appliance.contracts import Audio
from appliance.errors import Busy, Corrupt, NotFound, StorageFull, Unavailable, VoicedError
from appliance.synthesis import Identified, Speech, SpeechRequest
from appliance.vault.keys import Owner
from appliance.voices.blobs import BlobStore

log = logging.getLogger(__name__)

AHEAD = 2  # messages made ready beyond the next one of a zone
LOADED = 4  # sounds kept in memory between being ready and being played in the last of their zones
MAX_RENDITION_S = 3_600.0
CLIENT = "announcer"  # whose place in the synthesis queue announcements take


class SpeechMaker(Protocol):
    """What the announcer needs of `Synthesis`."""

    async def open(self, request: SpeechRequest) -> Speech: ...

    async def identify(self, request: SpeechRequest) -> Identified: ...


def speech_request(tenant: str, what: Announcement | NewAnnouncement) -> SpeechRequest:
    """The speech of a message; its priority counts among all requests of the box."""
    rank = PRIORITIES.index(what.priority)
    return SpeechRequest(tenant, what.voice, what.text, what.language, priority=rank, client=CLIENT, purpose="announce")


@dataclass(frozen=True)
class RenderingRooms:
    """What rendering stands on."""

    synthesis: SpeechMaker
    ledger: Ledger
    blobs: BlobStore


class RenderAhead:
    """Renders one message at a time, but never lets one wait behind a lesser one."""

    def __init__(self, rooms: RenderingRooms, target_lufs: float | None, on_change: Callable[[], None]) -> None:
        self._synthesis = rooms.synthesis
        self._ledger = rooms.ledger
        self._blobs = rooms.blobs
        self._target_lufs = target_lufs
        self._on_change = on_change
        self._tasks: dict[str, tuple[int, asyncio.Task[None]]] = {}  # id -> (rank, task)
        self._not_before: dict[str, float] = {}  # id -> loop time of the next attempt
        self._loaded: OrderedDict[str, Audio] = OrderedDict()  # id -> what is heard of it

    def begin(self, waiting: tuple[Announcement, ...]) -> None:
        """Start what is missing among `waiting`: the next ones of every zone, in order."""
        now = asyncio.get_running_loop().time()
        for row in waiting:
            if row.audio is not None or row.id in self._tasks or self._not_before.get(row.id, 0.0) > now:
                continue
            if all(row.rank > rank for rank, _ in self._tasks.values()):
                self._not_before.pop(row.id, None)
                self._tasks[row.id] = (row.rank, asyncio.create_task(self._render(row), name=f"render {row.id}"))

    def next_attempts(self, waiting: Iterable[Announcement]) -> list[float]:
        """When messages that were put off are to be tried again (loop times)."""
        return [self._not_before[row.id] for row in waiting if row.id in self._not_before]

    def forget(self, announcement_id: str) -> None:
        """The message is over: nothing of it is made any more."""
        self._not_before.pop(announcement_id, None)
        self._loaded.pop(announcement_id, None)
        if announcement_id in self._tasks:
            self._tasks[announcement_id][1].cancel()

    async def forget_voices(self, tenant: str, voices: tuple[str, ...]) -> None:
        """No sound of these voices is kept: not in memory, not on the disk."""
        for digest in await self._ledger.queue.forget_spoken(tenant, voices):
            await asyncio.to_thread(self._blobs.remove, digest)

    async def close(self) -> None:
        """Give up what is under way; it is rendered after the next start."""
        tasks = {task for _, task in self._tasks.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def load(self, row: Announcement) -> Audio:
        """What is heard of a message that has its sound: chime, repeats and all. Raises NotFound, Corrupt."""
        if row.id not in self._loaded:
            self._loaded[row.id] = await asyncio.to_thread(self._compose, row)
            while len(self._loaded) > LOADED:
                self._loaded.popitem(last=False)
        return self._loaded[row.id]

    def _compose(self, row: Announcement) -> Audio:
        decoded = read_audio(self._blobs.read(row.audio or ""), max_duration_s=MAX_RENDITION_S)
        return compose(Audio(to_mono(decoded.samples), decoded.sample_rate), row, self._target_lufs)

    async def prepare(self, tenant: str, new: NewAnnouncement) -> None:
        """Have the sound of a message made and kept before it is asked for. Raises what synthesis raises."""
        if not new.audio:
            await self._speak(tenant, new)

    async def _speak(self, tenant: str, what: Announcement | NewAnnouncement) -> tuple[str, str, float]:
        """(rendition, digest, seconds) of the speech of a message, made now or once before."""
        request = speech_request(tenant, what)
        rendition = (await self._synthesis.identify(request)).rendition
        known = await self._ledger.queue.spoken(tenant, rendition)
        if known is not None and await asyncio.to_thread(self._is_whole, known[0]):
            return rendition, *known
        speech = await self._synthesis.open(request)
        parts = [chunk.samples async for chunk in speech.chunks]
        audio = Audio(np.concatenate(parts) if parts else np.zeros(0, np.float32), speech.sample_rate)
        digest = await asyncio.to_thread(self._file, audio, speech.tags, speech.voice.owner)
        await self._ledger.queue.keep_spoken(tenant, speech.rendition, speech.voice.voice, digest, audio.duration_s)
        return speech.rendition, digest, audio.duration_s

    def _is_whole(self, digest: str) -> bool:
        try:
            self._blobs.verify(digest)
        except (NotFound, Corrupt):
            return False
        return True

    async def _render(self, row: Announcement) -> None:
        queue = self._ledger.queue
        try:
            if not await queue.begin_rendering(row):
                return
            self._ledger.tell(replace(row, state=State.RENDERING))
            rendition, digest, duration_s = await self._speak(row.tenant, row)
            if await queue.attach_audio(row, rendition, digest, duration_s):
                await self._ledger.publish(row)
        except (Busy, Unavailable, StorageFull) as error:  # may pass: it is tried again until it is too old
            await self._postpone(row, error.code)
        except VoicedError as error:
            await self._ledger.fail(row, error.code)
        except Exception:
            log.exception("announcement %s could not be rendered", row.id)
            await self._ledger.fail(row, "announcement_render_failed")
        finally:
            self._tasks.pop(row.id, None)
            self._on_change()

    async def _postpone(self, row: Announcement, reason: str) -> None:
        self._not_before[row.id] = asyncio.get_running_loop().time() + self._ledger.retry_s
        await self._ledger.insist(lambda: self._ledger.queue.requeue(row, reason))
        await self._ledger.publish(row)

    def _file(self, audio: Audio, tags: Tags, owner: Owner | None) -> str:
        return self._blobs.put_bytes(encode_audio(audio.samples, audio.sample_rate, "flac", tags), owner)
