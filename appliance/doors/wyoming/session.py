"""One connection of the Wyoming door.

One task reads events, so that a client that leaves is noticed at any time; one speaks, utterance after utterance, and
waits for the listener: the engine is never more than one piece ahead of what the socket takes. An error is told and
ends the connection, as clients of the protocol expect: they wait for sound until the line closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from appliance.doors.metrics import Metrics
from appliance.doors.utterances import WRITE_TIMEOUT_S, Listener, Mouth, Piece, Utterance
from appliance.doors.wyoming.events import (
    MAX_TOLD,
    WyomingEvent,
    encode_event,
    read_line,
    read_rest,
)
from appliance.doors.wyoming.info import InfoRooms, describe
from appliance.doors.wyoming.rights import DOOR, Guest, Rights
from appliance.errors import Busy, Conflict, InvalidInput, NotFound, VoicedError
from appliance.security.room import Security
from appliance.settings import Settings
from appliance.synthesis import SpeechRequest, Synthesis
from appliance.text.segments import CODES

log = logging.getLogger("voiced.wyoming")

MAX_WAITING = 8  # utterances of one connection that are begun and not yet spoken
REST_TIMEOUT_S = 10.0  # an event whose line has come is complete by then
LINGER_S = 1.0  # how long what a refused client still sends is read: a reset would take the reason from it
SAMPLE_BYTES = 2

Tell = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class SessionRooms:
    """What a connection works with."""

    settings: Settings
    security: Security
    synthesis: Synthesis
    metrics: Metrics
    info: InfoRooms


@dataclass(frozen=True)
class Line:
    """A connection's two directions, and the address at the other end."""

    address: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Session:
    """One connection."""

    def __init__(self, rooms: SessionRooms, rights: Rights, line: Line) -> None:
        self._rooms = rooms
        self._rights = rights
        self._address = line.address
        self._reader = line.reader
        self._writer = line.writer
        self._writing_lock = asyncio.Lock()
        self._writing: Utterance | None = None  # begun and not ended: where text goes
        self._waiting: asyncio.Queue[tuple[Utterance, Guest, bool]] = asyncio.Queue()
        self._open: set[Utterance] = set()  # begun and not through
        self._count = 0

    async def serve(self) -> None:
        """Until the client leaves, falls silent, or something it asked for fails."""
        tasks = (asyncio.create_task(self._read()), asyncio.create_task(self._speak()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, OSError):
                await self._refuse(end)
                return

    async def turn_away(self, error: VoicedError) -> None:
        """Tell why nothing is served here, and wait for nothing: there may be many of these."""
        await self._tell(self._error_event(error))

    # ------------------------------------------------------------ reading

    async def _read(self) -> None:
        while (event := await self._next()) is not None:
            await self._obey(event)

    async def _next(self) -> WyomingEvent | None:
        """The next event; None when the client left or was silent for too long while nothing was spoken."""
        while True:
            try:
                async with asyncio.timeout(self._rooms.settings.wyoming.idle_s):
                    line = await read_line(self._reader)
            except TimeoutError:
                if self._open and self._writing is None:
                    continue  # it listens
                return None
            if line is None:
                return None
            async with asyncio.timeout(REST_TIMEOUT_S):
                return await read_rest(self._reader, line)

    async def _obey(self, event: WyomingEvent) -> None:
        match event.type:
            case "describe":
                await self._tell(encode_event("info", await describe(self._rooms.info, self._admitted())))
            case "ping":
                await self._tell(encode_event("pong", {"text": event.data.get("text")}))
            case "synthesize" if self._writing is None:
                (await self._begin(event, is_streamed=False)).say(_text_in(event))
            case "synthesize-start":
                self._writing = await self._begin(event, is_streamed=True)
            case "synthesize-chunk":
                self._current().write(_text_in(event), self._rooms.settings.speech.max_characters)
            case "synthesize-stop":
                self._current().end()
                self._writing = None
            case _:
                return  # `synthesize` behind a stream repeats its text for old servers; what we do not know is let pass

    def _admitted(self) -> Guest:
        guest = self._rights.admit(self._address)
        guest.enter()
        return guest

    async def _begin(self, event: WyomingEvent, *, is_streamed: bool) -> Utterance:
        if len(self._open) >= MAX_WAITING:
            raise Busy("utterances_waiting", waiting=len(self._open), limit=MAX_WAITING, scope="client")
        if self._writing is not None:
            raise Conflict("utterance_not_ended", utterance=self._writing.id)
        guest = self._admitted()
        self._count += 1
        utterance = Utterance(str(self._count), await self._order(event, guest))
        self._open.add(utterance)
        self._waiting.put_nowait((utterance, guest, is_streamed))
        return utterance

    async def _order(self, event: WyomingEvent, guest: Guest) -> SpeechRequest:
        if event.data.get("text_format") not in {None, "text"}:
            raise InvalidInput("wyoming_text_format", format=_told(event.data["text_format"]))
        asked = event.data.get("voice")
        asked = {} if asked is None else asked
        if not isinstance(asked, dict):
            raise InvalidInput("wyoming_event_malformed", reason="voice is no object")
        voice = await self._voice_of(asked, guest)
        return SpeechRequest(guest.tenant, voice, "", _language_of(asked), client=guest.client)

    async def _voice_of(self, asked: dict[str, Any], guest: Guest) -> str:
        """The voice that is named, else the default one. A voice of ours is one speaker: another is not there."""
        name, speaker = asked.get("name"), asked.get("speaker")
        for part in (name, speaker):
            if part is not None and not isinstance(part, str):
                raise InvalidInput("wyoming_event_malformed", reason="a voice is named by text")
        if speaker and speaker != name:
            raise NotFound("voice_not_found", voice=_told(f"{name or ''}/{speaker}"))
        if name:
            return str(name)
        default = self._rooms.settings.wyoming.default_voice
        return default or await self._rooms.synthesis.default_voice(guest.tenant)

    def _current(self) -> Utterance:
        if self._writing is None:
            raise Conflict("utterance_not_started")
        return self._writing

    # ------------------------------------------------------------ speaking

    async def _speak(self) -> None:
        mouth = Mouth(self._rooms.synthesis, self._rooms.metrics, DOOR)
        while True:
            utterance, guest, is_streamed = await self._waiting.get()
            guest.enter()
            with self._rooms.security.quotas.one_request(guest.tenant):
                await utterance.run(mouth, _SoundEvents(self._tell, is_streamed))
            self._open.discard(utterance)

    async def _tell(self, event: bytes) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT_S), self._writing_lock:
            self._writer.write(event)
            await self._writer.drain()

    async def _refuse(self, error: Exception) -> None:
        """Say what is wrong, then wait a moment: closing at once could take the words back."""
        if not isinstance(error, VoicedError):
            name = secrets.token_hex(8)
            log.error("connection of %s failed (request %s)", self._address, name, exc_info=error)
            error = VoicedError("unforeseen_error", request_id=name)
        log.info("refused %s: %s", self._address, error.code)
        with contextlib.suppress(OSError):  # of any kind: a socket whose peer reset it says ENOTCONN
            await self._tell(self._error_event(error))
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                while await self._reader.read(1 << 16):
                    pass

    def _error_event(self, error: VoicedError) -> bytes:
        language = self._rooms.settings.language
        told = {"text": f"{error.message(language)} {error.remedy(language)}", "code": error.code}
        return encode_event("error", told)


class _SoundEvents(Listener):
    """The events that a client gets of one utterance: one stretch of sound for each piece."""

    def __init__(self, tell: Tell, is_streamed: bool) -> None:
        self._tell = tell
        self._is_streamed = is_streamed
        self._told_bytes = 0

    async def begin(self, piece: Piece) -> None:
        self._told_bytes = 0
        speech = piece.speech
        marks = {
            "ai_generated": True,
            "voice_version": speech.voice.spec,
            "rendition": speech.rendition,
            "mark": speech.mark,
            **speech.tags,
        }
        await self._tell(encode_event("audio-start", {**self._format(piece), "voiced": marks}))

    async def hear(self, piece: Piece, sound: bytes) -> None:
        await self._tell(encode_event("audio-chunk", self._format(piece), sound))
        self._told_bytes += len(sound)

    async def end(self, piece: Piece) -> None:
        await self._tell(encode_event("audio-stop", {"timestamp": self._format(piece)["timestamp"]}))

    async def done(self, pieces: int, duration_s: float) -> None:
        if self._is_streamed:
            await self._tell(encode_event("synthesize-stopped"))

    def _format(self, piece: Piece) -> dict[str, int]:
        rate = piece.speech.sample_rate
        timestamp = self._told_bytes * 1000 // (SAMPLE_BYTES * rate)  # ms
        return {"rate": rate, "width": SAMPLE_BYTES, "channels": 1, "timestamp": timestamp}


def _text_in(event: WyomingEvent) -> str:
    text = event.data.get("text")
    if not isinstance(text, str):
        raise InvalidInput("wyoming_event_malformed", reason="text is missing")
    return text


def _language_of(asked: dict[str, Any]) -> str:
    """The code of a tag like "zh-CN"; where only a voice is named, the text decides."""
    tag = asked.get("language")
    if not tag:
        return "auto"
    code = str(tag).replace("_", "-").partition("-")[0].lower()
    if code not in CODES:
        raise InvalidInput("language_unknown", language=_told(tag), known=", ".join(CODES))
    return code


def _told(value: object) -> str:
    return str(value)[:MAX_TOLD]
