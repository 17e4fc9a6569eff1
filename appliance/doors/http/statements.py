"""`/v1/consent-statements`: a speaker says a statement with a fresh number, and thereby consents."""

from __future__ import annotations

from aiohttp import web

from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, as_json
from appliance.doors.http.bodies import read_record
from appliance.doors.http.recording_schemas import ConsentTold, StatementAsked, StatementSaid, StatementTold
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.services import services_of
from appliance.doors.http.uploads import receive_upload
from appliance.voices.records import NewConsent


async def ask(request: web.Request) -> web.Response:
    """`POST /v1/consent-statements`."""
    asked = await read_record(request, StatementAsked)
    new = NewConsent(asked.speaker, asked.voice, tuple(asked.purposes), expires_at=asked.expires_at)
    tenant = principal_of(request).tenant
    return answer_json((await services_of(request).spoken.ask(tenant, new, asked.language)).as_json(), status=201)


async def say(request: web.Request) -> web.Response:
    """`POST /v1/consent-statements/{statement}`: the clip in which it is said."""
    services, tenant = services_of(request), principal_of(request).tenant
    async with receive_upload(request, StatementSaid) as upload:
        consent = await services.spoken.hear(tenant, request.match_info["statement"], upload.path)
    return answer_json(as_json(consent), status=201)


ROUTES = (
    Route(
        "POST",
        "/v1/consent-statements",
        ask,
        "Ask for a statement to be said",
        "consents",
        (Answer(201, "the words, with a number that counts for ten minutes", StatementTold),),
        body=Body(StatementAsked),
    ),
    Route(
        "POST",
        "/v1/consent-statements/{statement}",
        say,
        "Consent by saying the statement",
        "consents",
        (Answer(201, "the consent", ConsentTold),),
        query=StatementSaid,
        body=Body(content_types=("multipart/form-data", "audio/*", "application/octet-stream")),
    ),
)
