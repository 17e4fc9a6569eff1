"""`/v1/zones`: the named outputs of the box, what they do and what is wrong with them."""

from __future__ import annotations

from aiohttp import web

from appliance.doors.http.access import principal_of
from appliance.doors.http.announce_schemas import VolumeAsked, ZonesTold, ZoneTold
from appliance.doors.http.answers import answer_json
from appliance.doors.http.bodies import read_record
from appliance.doors.http.middleware import language_of
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.services import services_of
from appliance.errors import Forbidden
from appliance.events import Event
from appliance.security.permissions import may


async def list_zones(request: web.Request) -> web.Response:
    """`GET /v1/zones`."""
    tenant = principal_of(request).tenant
    zones = services_of(request).announcer.zones_as_json(tenant, language_of(request))
    return answer_json({"items": zones, "next": None})


async def get_zone(request: web.Request) -> web.Response:
    """`GET /v1/zones/{zone}`."""
    return _answer_zone(request)


async def change_zone(request: web.Request) -> web.Response:
    """`PATCH /v1/zones/{zone}`: its volume, for all tenants; that is for the box's own tenant and its owner."""
    asked, services, principal = await read_record(request, VolumeAsked), services_of(request), principal_of(request)
    zone = services.announcer.zone(request.match_info["zone"]).name
    if principal.tenant != services.settings.tenant and not may(principal.role, "tenants.write"):
        raise Forbidden("zone_volume_is_shared", zone=zone, tenant=services.settings.tenant)
    event = Event(principal.tenant, "zone.volume", subject=zone, details={"volume": str(asked.volume)})
    await services.audit.record(event)
    await services.announcer.set_volume(asked.volume, zone)
    return _answer_zone(request)


def _answer_zone(request: web.Request) -> web.Response:
    announcer, tenant = services_of(request).announcer, principal_of(request).tenant
    return answer_json(announcer.zone_as_json(tenant, request.match_info["zone"], language_of(request)))


_ONE = "/v1/zones/{zone}"
_TOLD = (Answer(200, "the zone", ZoneTold),)
ROUTES = (
    Route("GET", "/v1/zones", list_zones, "List zones", "zones", (Answer(200, "all zones", ZonesTold),)),
    Route("GET", _ONE, get_zone, "One zone", "zones", _TOLD),
    Route("PATCH", _ONE, change_zone, "Change the volume of a zone", "zones", _TOLD, body=Body(VolumeAsked)),
)
