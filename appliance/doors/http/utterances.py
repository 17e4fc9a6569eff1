"""One utterance of `/v1/stream`: pieces of its text come in on one side, their sound goes out on the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from time import perf_counter
from typing import Any

from aiohttp import web

from appliance.audio.encoding import pcm16
from appliance.contracts import Audio
from appliance.doors.http.access import Principal
from appliance.doors.http.services import METRICS, services_of
from appliance.doors.http.speech import closing_chunks
from appliance.doors.http.speech_schemas import StartFrame
from appliance.errors import InvalidInput, TooLarge
from appliance.synthesis import Speech, SpeechRequest
from appliance.text.incremental import TextFeed

SEND_S = 0.5  # of sound in one frame: players start on the first, a cancel waits for one


@dataclass(frozen=True)
class Speaker:
    """What an utterance needs of its connection."""

    request: web.Request
    principal: Principal
    tell: Callable[[dict[str, Any]], Awaitable[None]]  # a frame of JSON
    send: Callable[[bytes], Awaitable[None]]  # a frame of sound


class _Mark(Enum):
    FLUSHED = "flushed"
    ENDED = "ended"


class Utterance:
    """Text of one voice and its sound. The reader calls `write`, `flush`, `end`, `cancel`; the speaker task `run`."""

    def __init__(self, name: str, asked: StartFrame) -> None:
        self.id = name
        self._asked = asked
        self._feed = TextFeed()
        self._pieces: asyncio.Queue[tuple[str, float] | _Mark] = asyncio.Queue()  # text, when it was complete
        self._queued = 0  # characters in complete pieces that are not spoken yet
        self._has_text = False
        self._spoken_s = 0.0
        self._index = 0
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False

    def write(self, text: str, limit: int) -> None:
        """More text. Raises TooLarge("text_ahead") when more than `limit` characters would wait to be spoken."""
        waiting = self._queued + self._feed.kept + len(text)
        if waiting > limit:
            raise TooLarge("text_ahead", characters=waiting, limit=limit)
        self._has_text = self._has_text or bool(text)
        self._put(self._feed.push(text))

    def flush(self) -> None:
        """Speak what is there, whole sentence or not, and say `flushed` behind it."""
        self._put(self._feed.flush())
        self._pieces.put_nowait(_Mark.FLUSHED)

    def end(self) -> None:
        """No more text comes."""
        self._put(self._feed.flush())
        self._pieces.put_nowait(_Mark.ENDED)

    def cancel(self) -> None:
        """Not a sound more of this."""
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def run(self, speaker: Speaker) -> None:
        """Speak until `end` or `cancel`. Raises what synthesis raises, ConnectionError, TimeoutError."""
        if self._is_cancelled:
            return
        self._task = asyncio.create_task(self._speak_all(speaker))
        try:
            await asyncio.wait({self._task})
        finally:
            self._task.cancel()  # this connection ends
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _put(self, pieces: list[str]) -> None:
        for piece in pieces:
            self._queued += len(piece)
            self._pieces.put_nowait((piece, perf_counter()))

    async def _speak_all(self, speaker: Speaker) -> None:
        while (piece := await self._pieces.get()) is not _Mark.ENDED:
            if isinstance(piece, _Mark):
                await speaker.tell({"type": "flushed", "id": self.id})
            else:
                await self._speak(*piece, speaker)
        if not self._index:
            raise InvalidInput("text_not_speakable" if self._has_text else "text_empty")
        duration_s = round(self._spoken_s, 3)
        await speaker.tell({"type": "done", "id": self.id, "pieces": self._index, "duration_s": duration_s})

    async def _speak(self, text: str, complete_at: float, speaker: Speaker) -> None:
        speech = await services_of(speaker.request).synthesis.open(self._order(text, speaker.principal))
        metrics, is_first = speaker.request.app[METRICS], True
        async with closing_chunks(speech) as chunks:
            async for audio in chunks:
                if is_first:
                    metrics.first_sound.observe(perf_counter() - complete_at, "stream")
                    await speaker.tell(self._announce(text, speech))
                    is_first = False
                metrics.spoken.add("stream", amount=audio.duration_s)
                await self._send(audio, speaker, speech.withdrawn)
        self._index += 1
        self._queued -= len(text)

    def _order(self, text: str, principal: Principal) -> SpeechRequest:
        asked = self._asked
        return SpeechRequest(
            tenant=principal.tenant,
            voice=asked.speaker,
            text=text,
            language=asked.lang,
            speed=asked.speed,
            seed=asked.seed,
            version=asked.version,
            priority=asked.priority,
            client=principal.client,
        )

    def _announce(self, text: str, speech: Speech) -> dict[str, Any]:
        """The frame before the sound of a piece."""
        return {
            "type": "piece",
            "id": self.id,
            "index": self._index,
            "text": text,
            "voice_version": speech.voice.spec,
            "rendition": speech.rendition,
            "seed": speech.seed,
            "cache": speech.cache,
            "format": "pcm_s16le",
            "sample_rate": speech.sample_rate,
        }

    async def _send(self, audio: Audio, speaker: Speaker, withdrawn: asyncio.Event) -> None:
        step = int(SEND_S * audio.sample_rate)
        for start in range(0, len(audio.samples), step):
            if withdrawn.is_set():  # asking for more sound says why
                return
            await speaker.send(pcm16(audio.samples[start : start + step]))
        self._spoken_s += audio.duration_s
