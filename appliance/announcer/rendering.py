"""Making the next messages ready before it is their turn, so that none waits for synthesis while the hall is silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from appliance.announcer.chime import with_chime
from appliance.announcer.ledger import Ledger
from appliance.announcer.records import PRIORITIES, Announcement, NewAnnouncement, State
from appliance.audio.encoding import encode_audio
from appliance.audio.files import read_audio, to_mono
from appliance.audio.tags import Tags
from appliance.contracts import Audio
from appliance.errors import Busy, StorageFull, Unavailable, VoicedError
from appliance.synthesis import Speech, SpeechRequest
from appliance.voices.blobs import BlobStore

log = logging.getLogger(__name__)

AHEAD = 2  # messages made ready beyond the next one
MAX_RENDITION_S = 3_600.0
CLIENT = "announcer"  # whose place in the synthesis queue announcements take


class SpeechMaker(Protocol):
    """What the announcer needs of `Synthesis`."""

    async def open(self, request: SpeechRequest) -> Speech: ...

    async def render(self, request: SpeechRequest) -> tuple[Speech, Audio]: ...


def speech_request(tenant: str, what: Announcement | NewAnnouncement) -> SpeechRequest:
    """The speech of a message; its priority counts among all requests of the box."""
    rank = PRIORITIES.index(what.priority)
    return SpeechRequest(tenant, what.voice, what.text, what.language, priority=rank, client=CLIENT, purpose="announce")


class RenderAhead:
    """Renders one message at a time, but never lets one wait behind a lesser one."""

    def __init__(self, synthesis: SpeechMaker, ledger: Ledger, blobs: BlobStore, on_change: Callable[[], None]) -> None:
        self._synthesis = synthesis
        self._ledger = ledger
        self._blobs = blobs
        self._on_change = on_change
        self._tasks: dict[str, tuple[int, asyncio.Task[None]]] = {}  # id -> (rank, task)
        self._not_before: dict[str, float] = {}  # id -> loop time of the next attempt

    def begin(self, waiting: tuple[Announcement, ...]) -> None:
        """Start what is missing among the first of `waiting`."""
        now = asyncio.get_running_loop().time()
        for row in waiting[: 1 + AHEAD]:
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
        if announcement_id in self._tasks:
            self._tasks[announcement_id][1].cancel()

    async def close(self) -> None:
        """Give up what is under way; it is rendered after the next start."""
        tasks = {task for _, task in self._tasks.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def load(self, row: Announcement) -> Audio:
        """The sound of a rendered message, with its chime. Blocks. Raises NotFound, Corrupt."""
        digest = row.audio or ""
        self._blobs.verify(digest)
        decoded = read_audio(self._blobs.path(digest), max_duration_s=MAX_RENDITION_S)
        speech = Audio(to_mono(decoded.samples), decoded.sample_rate)
        return with_chime(speech) if row.chime else speech

    async def _render(self, row: Announcement) -> None:
        queue = self._ledger.queue
        try:
            if not await queue.begin_rendering(row):
                return
            self._ledger.tell(replace(row, state=State.RENDERING))
            speech, audio = await self._synthesis.render(speech_request(row.tenant, row))
            digest = await asyncio.to_thread(self._file, audio, speech.tags)
            if await queue.attach_audio(row, speech.rendition, digest, audio.duration_s):
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

    def _file(self, audio: Audio, tags: Tags) -> str:
        return self._blobs.put_bytes(encode_audio(audio.samples, audio.sample_rate, "flac", tags))
