"""Speech as server-sent events, in the shape that OpenAI clients read; `/tts?stream=sse` speaks it as well.

data: {"type": "speech.audio.delta", "audio": BASE64}     as often as there is sound
data: {"type": "speech.audio.done", "usage": {…}}         once, at the end
data: {"type": "error", "error": {…}}                     instead of the end, when it fails after the first sound
"""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from aiohttp import web

from appliance.doors.http.answers import encode_json
from appliance.doors.http.middleware import language_of
from appliance.doors.http.problems import openai_body
from appliance.doors.http.speech import (
    Delivery,
    cut_when_withdrawn,
    encode,
    speech_headers,
    unfinished_is_broken,
    write_in_time,
)
from appliance.errors import VoicedError
from appliance.synthesis import Speech

log = logging.getLogger("voiced.http")


async def send_events(request: web.Request, speech: Speech, delivery: Delivery, characters: int) -> web.StreamResponse:
    """The sound of `speech` as events; what goes wrong before the first sound is raised, to have its own status."""
    async with aclosing(encode(request, speech, delivery, delivery.format, False)) as pieces:
        first = await anext(pieces)
        headers = {**speech_headers(speech, delivery.format), "Content-Type": "text/event-stream"}
        response = web.StreamResponse(headers={**headers, "X-Accel-Buffering": "no"})
        async with unfinished_is_broken(request), cut_when_withdrawn(request, speech):
            await response.prepare(request)
            await write_in_time(response, _delta(first))
            await write_in_time(response, await _send_rest(request, response, pieces, characters))
            await response.write_eof()
    return response


async def _send_rest(
    request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes], characters: int
) -> bytes:
    """Send what is left of the sound; the event that ends it."""
    try:
        async for piece in pieces:
            await write_in_time(response, _delta(piece))
    except VoicedError as error:
        log.warning("answer ends with an error: %s", error)
        return _event({"type": "error", **openai_body(error, language_of(request))})
    usage = {"input_tokens": characters, "output_tokens": 0, "total_tokens": characters}
    return _event({"type": "speech.audio.done", "usage": usage})


def _delta(piece: bytes) -> bytes:
    return _event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode("ascii")})


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + encode_json(document) + b"\n\n"
