"""`/v1/speakers`: erasing what there is of a person."""

from __future__ import annotations

from aiohttp import web

from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json
from appliance.doors.http.bodies import read_record
from appliance.doors.http.recording_schemas import EraseAsked, ErasedTold
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.services import services_of
from appliance.errors import InvalidInput


async def erase(request: web.Request) -> web.Response:
    """`POST /v1/speakers/{speaker}/erase`: not to be undone, so the id has to be said twice."""
    asked, speaker = await read_record(request, EraseAsked), request.match_info["speaker"]
    if asked.confirm != speaker:
        raise InvalidInput("erasure_not_confirmed", speaker=speaker[:80])
    return answer_json(await services_of(request).erasure.erase(principal_of(request).tenant, speaker))


ROUTES = (
    Route(
        "POST",
        "/v1/speakers/{speaker}/erase",
        erase,
        "Destroy all data of a speaker",
        "consents",
        (Answer(200, "what was destroyed, with a signed receipt", ErasedTold),),
        body=Body(EraseAsked),
    ),
)
