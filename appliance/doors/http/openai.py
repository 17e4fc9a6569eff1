"""The doors of OpenAI's clients: same paths, same fields, same errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from time import perf_counter
from typing import Any

from aiohttp import web

from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json
from appliance.doors.http.bodies import read_record
from appliance.doors.http.events import send_events
from appliance.doors.http.routes import ANY_AUDIO, Answer, Body, Route
from appliance.doors.http.services import Services, services_of
from appliance.doors.http.speech import Delivery, send_speech
from appliance.doors.http.speech_schemas import ModelsTold, ModelTold, OpenAiSpeechAsked, SpeakersTold
from appliance.errors import NotFound
from appliance.synthesis import SpeechRequest
from appliance.voices.records import Voice

# Names that unmodified clients send. The voice decides which engine speaks, so all of them mean "whatever it needs".
CUSTOMARY_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
WHOLE_FORMATS = frozenset({"wav"})  # clients save it as a file, whose header must state its length


async def create_speech(request: web.Request) -> web.StreamResponse:
    """`POST /v1/audio/speech`."""
    asked = await read_record(request, OpenAiSpeechAsked)
    started, services = perf_counter(), services_of(request)
    if asked.model not in _model_names(services):
        raise NotFound("model_not_found", model=asked.model, field="model")
    principal = principal_of(request)
    speech = await services.synthesis.open(
        SpeechRequest(
            tenant=principal.tenant,
            voice=await _voice_of(asked, services, principal.tenant),
            text=asked.input,
            language=asked.language,
            speed=asked.speed,
            seed=asked.seed,
            client=principal.client,
        )
    )
    is_streamed = asked.stream_format is not None or asked.response_format not in WHOLE_FORMATS
    delivery = Delivery(asked.response_format, is_streamed, "openai", started)
    if asked.stream_format == "sse":
        return await send_events(request, speech, delivery, len(asked.input))
    return await send_speech(request, speech, delivery)


async def _voice_of(asked: OpenAiSpeechAsked, services: Services, tenant: str) -> str:
    if asked.voice is None:
        return await services.synthesis.default_voice(tenant)
    return asked.voice if isinstance(asked.voice, str) else asked.voice.id


async def list_models(request: web.Request) -> web.Response:
    """`GET /v1/models`."""
    services = services_of(request)
    models = [_model(name, services) for name in _model_names(services)]
    return answer_json({"object": "list", "data": models, "items": models, "next": None})


async def get_model(request: web.Request) -> web.Response:
    """`GET /v1/models/{model}`."""
    services, name = services_of(request), request.match_info["model"]
    if name not in _model_names(services):
        raise NotFound("model_not_found", model=name, field="model")
    return answer_json(_model(name, services))


async def list_speakers(request: web.Request) -> web.Response:
    """`GET /v1/audio/voices`: every voice, in the shape that chat front ends read."""
    services, tenant = services_of(request), principal_of(request).tenant
    voices = [{"id": voice.id, "name": voice.title or voice.id} async for voice in all_voices(services, tenant)]
    return answer_json({"voices": voices, "items": voices, "next": None})


async def all_voices(services: Services, tenant: str) -> AsyncIterator[Voice]:
    """Every voice of the tenant, page by page."""
    cursor: str | None = None
    while True:
        page = await services.registry.list_voices(tenant, cursor, 200)
        for voice in page.items:
            yield voice
        cursor = page.next
        if cursor is None:
            return


def _model_names(services: Services) -> tuple[str, ...]:
    return ("voiced", *sorted(services.plugins.engines), *CUSTOMARY_MODELS)


def _model(name: str, services: Services) -> dict[str, Any]:
    created = int(datetime.fromisoformat(services.box.started_at).timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": "voiced"}


ROUTES = (
    Route(
        "POST",
        "/v1/audio/speech",
        create_speech,
        "Speak a text (OpenAI clients)",
        "openai",
        (Answer(200, "the sound; with stream_format=sse, events", content_type=ANY_AUDIO),),
        body=Body(OpenAiSpeechAsked),
        errors="openai",
    ),
    Route(
        "GET", "/v1/models", list_models, "List models", "openai", (Answer(200, "models", ModelsTold),), errors="openai"
    ),
    Route(
        "GET",
        "/v1/models/{model}",
        get_model,
        "One model",
        "openai",
        (Answer(200, "the model", ModelTold),),
        errors="openai",
    ),
    Route(
        "GET",
        "/v1/audio/voices",
        list_speakers,
        "List voices (chat front ends)",
        "openai",
        (Answer(200, "voices", SpeakersTold),),
        errors="openai",
    ),
)
