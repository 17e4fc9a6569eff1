"""`WS /v1/stream`: text in as it is written, sound out as it is made. The protocol is told in docs/http.md.

One task reads frames, so that a cancel is heard at any time; one speaks, utterance after utterance, piece after piece,
and waits for the listener: the engine is never more than one piece ahead of what the socket takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import encode_json
from appliance.doors.http.bodies import check_record, parse_json_object
from appliance.doors.http.middleware import REQUEST_ID, language_of
from appliance.doors.http.problems import problem_body
from appliance.doors.http.routes import Answer, Route
from appliance.doors.http.services import METRICS, STOPPING, STREAMS, services_of
from appliance.doors.http.speech_schemas import CancelFrame, EndFrame, FlushFrame, StartFrame, TextFrame
from appliance.doors.utterances import WRITE_TIMEOUT_S, Listener, Mouth, Piece, Utterance
from appliance.errors import Busy, Conflict, InvalidInput, VoicedError
from appliance.synthesis import SpeechRequest

log = logging.getLogger("voiced.http")

MAX_FRAME_BYTES = 1 << 20
MAX_WAITING = 16  # utterances of one connection that are begun and not yet spoken
# close reasons: why the box ended the connection
IDLE, UTTERANCE_NOT_ENDED, BOX_STOPS, FAILED = "idle", "utterance_not_ended", "box_stops", "failed"
SHORTEST_S = 0.01  # aiohttp takes a timeout of 0 for none
PING_S = 20.0  # a peer that does not answer has gone

Tell = Callable[[dict[str, Any]], Awaitable[None]]  # a frame of JSON
Frame = StartFrame | TextFrame | FlushFrame | EndFrame | CancelFrame
FRAMES: dict[str, type[Frame]] = {
    "start": StartFrame,
    "text": TextFrame,
    "flush": FlushFrame,
    "end": EndFrame,
    "cancel": CancelFrame,
}


async def open_stream(request: web.Request) -> web.StreamResponse:
    """`GET /v1/stream`, upgraded to a WebSocket."""
    if not web.WebSocketResponse().can_prepare(request).ok:
        raise InvalidInput("websocket_expected")
    async with _place(request):
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=MAX_FRAME_BYTES, timeout=2.0)
        socket.headers["X-AI-Generated"] = "true"
        await socket.prepare(request)
        await Session(request, socket).serve()
    return socket


@asynccontextmanager
async def _place(request: web.Request) -> AsyncIterator[None]:
    """One of the connections that may be open at once. Raises Busy("streams_full")."""
    streams, limit = request.app[STREAMS], services_of(request).settings.http.max_streams
    if len(streams) >= limit:
        raise Busy("streams_full", open=len(streams), limit=limit)
    place = object()
    streams.add(place)
    try:
        yield
    finally:
        streams.discard(place)


class Session:
    """One connection."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self._request = request
        self._socket = socket
        self._settings = services_of(request).settings
        self._writing: Utterance | None = None  # begun and not ended: where text goes
        self._waiting: asyncio.Queue[Utterance] = asyncio.Queue()
        self._open: dict[str, Utterance] = {}  # begun and not through, by id
        self._count = 0
        self._last_sign = asyncio.get_running_loop().time()  # of the client, or of sound that it took
        self._reason = ""  # why the box ends the connection, where it does

    async def serve(self) -> None:
        """Until the client leaves, falls silent, or the box stops."""
        speaking = asyncio.create_task(self._speak())
        stopping = asyncio.create_task(self._request.app[STOPPING].wait())
        reading = asyncio.create_task(self._read())
        tasks = (speaking, stopping, reading)
        try:
            await self._tell({"type": "ready", "request": self._request[REQUEST_ID]})
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(ConnectionError, TimeoutError):
                code, reason = self._closing(ends)
                await self._socket.close(code=code, message=reason.encode())

    def _closing(self, ends: Sequence[object]) -> tuple[WSCloseCode, str]:
        """Why the connection ends: a client that left or takes nothing any more ends it as well as one that is done."""
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, ConnectionError | TimeoutError):
                log.error("stream %s failed", self._request[REQUEST_ID], exc_info=end)
                return WSCloseCode.INTERNAL_ERROR, FAILED
        if self._request.app[STOPPING].is_set():
            return WSCloseCode.GOING_AWAY, BOX_STOPS
        return WSCloseCode.OK, self._reason

    async def _read(self) -> None:
        while True:
            try:
                message = await self._socket.receive(timeout=max(SHORTEST_S, self._patience_s()))
            except TimeoutError:
                if self._is_owed_sound() or self._patience_s() > 0:
                    continue
                self._reason = UTTERANCE_NOT_ENDED if self._open else IDLE
                return
            self._last_sign = asyncio.get_running_loop().time()
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                return  # closed by either side
            try:
                await self._obey(_read_frame(message.data))
            except VoicedError as error:
                await self._tell(self._describe(error))

    def _patience_s(self) -> float:
        """How long the client may still say nothing; the same again while it waits for sound."""
        idle_s = self._settings.http.stream_idle_s
        left_s = self._last_sign + idle_s - asyncio.get_running_loop().time()
        return idle_s if self._is_owed_sound() else left_s

    def _is_owed_sound(self) -> bool:
        """Whether something that the client has written to its end, or to the end of a sentence, is not spoken yet."""
        return any(one is not self._writing or one.has_unspoken for one in self._open.values())

    async def _obey(self, frame: Frame) -> None:
        match frame:
            case StartFrame():
                self._start(frame)
            case TextFrame():
                self._current().write(frame.text, self._settings.speech.max_characters)
            case FlushFrame():
                self._current().flush()
            case EndFrame():
                self._current().end()
                self._writing = None
            case CancelFrame():
                await self._cancel(frame.id)

    def _start(self, frame: StartFrame) -> None:
        if len(self._open) >= MAX_WAITING:
            raise Busy("utterances_waiting", waiting=len(self._open), limit=MAX_WAITING, scope="client")
        if self._writing is not None:
            raise Conflict("utterance_not_ended", utterance=self._writing.id)
        self._count += 1
        name = frame.id or str(self._count)
        if name in self._open:
            raise Conflict("utterance_exists", utterance=name)
        self._writing = self._open[name] = Utterance(name, self._order(frame))
        self._waiting.put_nowait(self._writing)

    def _order(self, frame: StartFrame) -> SpeechRequest:
        principal = principal_of(self._request)
        return SpeechRequest(
            tenant=principal.tenant,
            voice=frame.speaker,
            text="",
            language=frame.lang,
            speed=frame.speed,
            seed=frame.seed,
            version=frame.version,
            priority=frame.priority,
            client=principal.client,
        )

    def _current(self) -> Utterance:
        if self._writing is None:
            raise Conflict("utterance_not_started")
        return self._writing

    async def _cancel(self, name: str | None) -> None:
        """Silence for one utterance, or for all that are open; one that is through already is no error."""
        for utterance in list(self._open.values()):
            if name in {None, utterance.id}:
                utterance.cancel()
                self._forget(utterance)
                await self._tell({"type": "cancelled", "id": utterance.id})

    def _forget(self, utterance: Utterance) -> None:
        self._open.pop(utterance.id, None)
        if self._writing is utterance:
            self._writing = None

    async def _speak(self) -> None:
        services = services_of(self._request)
        is_once = services.settings.marks.label_once_per_session
        mouth = Mouth(services.synthesis, self._request.app[METRICS], "stream", is_once)
        while True:
            utterance = await self._waiting.get()
            try:
                await utterance.run(mouth, _Frames(utterance.id, self._tell, self._send))
            except VoicedError as error:
                self._forget(utterance)
                await self._tell({**self._describe(error), "id": utterance.id})
            self._forget(utterance)

    def _describe(self, error: VoicedError) -> dict[str, Any]:
        problem = problem_body(error, self._request[REQUEST_ID], language_of(self._request))
        return {**problem, "type": "error"}

    async def _tell(self, document: dict[str, Any]) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self._socket.send_str(encode_json(document).decode())

    async def _send(self, sound: bytes) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await self._socket.send_bytes(sound)
        self._last_sign = asyncio.get_running_loop().time()


class _Frames(Listener):
    """The frames that a client gets of one utterance."""

    def __init__(self, name: str, tell: Tell, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._name = name
        self._tell = tell
        self._send = send

    async def begin(self, piece: Piece) -> None:
        speech = piece.speech
        await self._tell(
            {
                "type": "piece",
                "id": self._name,
                "index": piece.index,
                "text": piece.text,
                "voice_version": speech.voice.spec,
                "rendition": speech.rendition,
                "seed": speech.seed,
                "cache": speech.cache,
                "format": "pcm_s16le",
                "sample_rate": speech.sample_rate,
            }
        )

    async def hear(self, piece: Piece, sound: bytes) -> None:
        await self._send(sound)

    async def flushed(self) -> None:
        await self._tell({"type": "flushed", "id": self._name})

    async def done(self, pieces: int, duration_s: float) -> None:
        await self._tell({"type": "done", "id": self._name, "pieces": pieces, "duration_s": duration_s})


def _read_frame(data: str | bytes) -> Frame:
    """Raises InvalidInput (frame_not_text, body_not_json, frame_unknown, field_…)."""
    if isinstance(data, bytes):
        raise InvalidInput("frame_not_text", received_bytes=len(data))
    values = parse_json_object(data)
    kind = values.pop("type", None)
    if kind not in FRAMES:
        raise InvalidInput("frame_unknown", type=json.dumps(kind)[:80], known=", ".join(FRAMES))
    return check_record(FRAMES[kind], values)


ROUTES = (
    Route(
        "GET",
        "/v1/stream",
        open_stream,
        "Text in as it is written, sound out as it is made (WebSocket)",
        "speech",
        (Answer(101, "the connection is a WebSocket now; its frames are told in docs/http.md"),),
        takes_query_token=True,
    ),
)
