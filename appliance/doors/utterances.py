"""One utterance on a connection that stays: pieces of its text come in on one side, their sound goes out on the other.

The WebSocket and Wyoming have this in common; how each tells its client what happens is their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum
from time import perf_counter

from appliance.audio.encoding import pcm16
from appliance.contracts import Audio
from appliance.doors.metrics import Metrics
from appliance.errors import InvalidInput, TooLarge, Unavailable
from appliance.synthesis import Speech, SpeechRequest, Synthesis
from appliance.text.incremental import TextFeed

SEND_S = 0.5  # of sound sent at once: players start on the first, a cancel waits for one
WRITE_TIMEOUT_S = 30.0  # a listener that takes nothing for so long has gone, whatever TCP says


@dataclass(frozen=True)
class Piece:
    """A part of the text that is spoken as one."""

    index: int
    text: str
    speech: Speech


class Listener(ABC):
    """The client's side of one utterance. Each call waits until the client takes more."""

    @abstractmethod
    async def begin(self, piece: Piece) -> None:
        """The first sound of `piece` is there."""

    @abstractmethod
    async def hear(self, piece: Piece, sound: bytes) -> None:
        """At most SEND_S of `piece`: mono PCM, 16 bit little-endian."""

    async def end(self, piece: Piece) -> None:  # noqa: B027 - not every protocol says so
        """All of `piece` was heard."""

    async def flushed(self) -> None:  # noqa: B027
        """What was written before a flush was heard."""

    async def done(self, pieces: int, duration_s: float) -> None:  # noqa: B027
        """The utterance is through."""


@dataclass(frozen=True)
class Mouth:
    """What every utterance of a door is spoken with."""

    synthesis: Synthesis
    metrics: Metrics
    door: str  # for the figures
    labels_once: bool = False  # the audible label of a voice once per connection, not per utterance
    heard: set[str] = field(default_factory=set)  # voices that were heard here, label included


class _Mark(Enum):
    FLUSHED = "flushed"
    ENDED = "ended"


class Utterance:
    """Text in one voice and its sound. The reader calls `write`, `flush`, `end`, `cancel`; the speaking task `run`."""

    def __init__(self, name: str, order: SpeechRequest) -> None:
        """`order` says everything but the text."""
        self.id = name
        self._order = order
        self._feed = TextFeed()
        self._pieces: asyncio.Queue[tuple[str, float] | _Mark] = asyncio.Queue()  # text, when it was complete
        self._queued = 0  # characters in complete pieces that are not spoken yet
        self._has_text = False
        self._spoken_s = 0.0
        self._index = 0
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False

    @property
    def has_unspoken(self) -> bool:
        """Whether a piece is complete and not spoken yet: else the next move is the writer's."""
        return self._queued > 0

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

    def say(self, text: str) -> None:
        """`text` is all of it, and spoken as one piece."""
        self._put([text])
        self._pieces.put_nowait(_Mark.ENDED)

    def cancel(self) -> None:
        """Not a sound more of this."""
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def run(self, mouth: Mouth, listener: Listener) -> None:
        """Speak until `end` or `cancel`. Raises what synthesis raises, ConnectionError, TimeoutError."""
        if self._is_cancelled:
            return
        self._task = asyncio.create_task(self._speak_all(mouth, listener))
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

    async def _speak_all(self, mouth: Mouth, listener: Listener) -> None:
        while (piece := await self._pieces.get()) is not _Mark.ENDED:
            if isinstance(piece, _Mark):
                await listener.flushed()
            else:
                await self._speak(*piece, mouth, listener)
        if not self._index:
            raise InvalidInput("text_not_speakable" if self._has_text else "text_empty")
        await listener.done(self._index, round(self._spoken_s, 3))

    async def _speak(self, text: str, complete_at: float, mouth: Mouth, listener: Listener) -> None:
        is_known = mouth.labels_once and self._order.voice in mouth.heard
        speech = await mouth.synthesis.open(replace(self._order, text=text, continues=self._index > 0 or is_known))
        piece, is_first = Piece(self._index, text, speech), True
        async with aclosing(speech.chunks) as chunks:
            async for audio in chunks:
                if is_first:
                    mouth.metrics.first_sound.observe(perf_counter() - complete_at, mouth.door)
                    await listener.begin(piece)
                    is_first = False
                mouth.metrics.spoken.add(mouth.door, amount=audio.duration_s)
                await self._send(audio, piece, listener)
        if is_first:
            raise Unavailable("speech_without_sound")
        await listener.end(piece)
        mouth.heard.add(self._order.voice)
        self._index += 1
        self._queued -= len(text)

    async def _send(self, audio: Audio, piece: Piece, listener: Listener) -> None:
        step = int(SEND_S * audio.sample_rate)
        for start in range(0, len(audio.samples), step):
            if piece.speech.withdrawn.is_set():  # asking for more sound says why
                return
            await listener.hear(piece, pcm16(audio.samples[start : start + step]))
        self._spoken_s += audio.duration_s
