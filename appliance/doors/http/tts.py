"""`/tts`: the product's own simple call."""

from __future__ import annotations

from time import perf_counter

from aiohttp import web

from appliance.audio.provenance import MEDIA_TYPES
from appliance.doors.http.access import principal_of
from appliance.doors.http.bodies import read_query, read_record
from appliance.doors.http.events import send_events
from appliance.doors.http.routes import ANY_AUDIO, Answer, Body, Route
from appliance.doors.http.services import services_of
from appliance.doors.http.speech import Delivery, send_speech
from appliance.doors.http.speech_schemas import SpeechAsked
from appliance.errors import InvalidInput
from appliance.synthesis import SpeechRequest

FORM = "application/x-www-form-urlencoded"


async def get_tts(request: web.Request) -> web.StreamResponse:
    """`GET /tts?speaker=&text=`."""
    return await _speak(request, read_query(request, SpeechAsked), perf_counter())


async def post_tts(request: web.Request) -> web.StreamResponse:
    """`POST /tts` with a JSON object or a form."""
    return await _speak(request, await read_record(request, SpeechAsked), perf_counter())


async def _speak(request: web.Request, asked: SpeechAsked, started: float) -> web.StreamResponse:
    is_signed = asked.provenance
    if is_signed and (asked.format not in MEDIA_TYPES or asked.stream in (True, "sse")):
        raise InvalidInput("provenance_format", format=asked.format, known=", ".join(MEDIA_TYPES))
    speech = await services_of(request).synthesis.open(
        SpeechRequest(
            tenant=principal_of(request).tenant,
            voice=asked.speaker,
            text=asked.text,
            language=asked.lang,
            speed=asked.speed,
            seed=asked.seed,
            version=asked.version,
            priority=asked.priority,
            client=principal_of(request).client,
        )
    )
    delivery = Delivery(asked.format, asked.stream is not False and not is_signed, "tts", started, is_signed)
    if asked.stream == "sse":
        return await send_events(request, speech, delivery, len(asked.text))
    return await send_speech(request, speech, delivery)


_SPOKEN = (Answer(200, "the sound; with stream=sse, events", content_type=ANY_AUDIO),)

ROUTES = (
    Route("GET", "/tts", get_tts, "Speak a text", "speech", _SPOKEN, query=SpeechAsked, takes_query_token=True),
    Route(
        "POST",
        "/tts",
        post_tts,
        "Speak a text",
        "speech",
        _SPOKEN,
        body=Body(SpeechAsked, ("application/json", FORM)),
        takes_query_token=True,
    ),
)
