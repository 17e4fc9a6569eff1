"""`/v1/keys`: going on without a master key that is lost for good. How it stands is told by `/v1/system`."""

from __future__ import annotations

from aiohttp import web

from appliance.doors.http.answers import answer_json
from appliance.doors.http.bodies import read_record
from appliance.doors.http.operator_schemas import AbandonAsked, AbandonedTold
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.services import Services, services_of
from appliance.errors import InvalidInput
from appliance.lost_keys import LostKeys


def lost_keys_of(services: Services) -> LostKeys:
    """The keys of the box's speakers, and what may be done when they are lost."""
    return LostKeys(services.db, services.registry, services.recordings, services.synthesis, services.audit)


async def abandon(request: web.Request) -> web.Response:
    """`POST /v1/keys/abandon`: not to be undone, so it has to be confirmed."""
    asked = await read_record(request, AbandonAsked)
    if not asked.confirm:
        raise InvalidInput("abandonment_not_confirmed")
    return answer_json(await lost_keys_of(services_of(request)).abandon())


ROUTES = (
    Route(
        "POST",
        "/v1/keys/abandon",
        abandon,
        "Go on without a master key that is lost",
        "operators",
        (Answer(200, "what was given up", AbandonedTold),),
        body=Body(AbandonAsked, is_required=False),
    ),
)
