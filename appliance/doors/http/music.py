"""`/v1/music`: playlists in zones, under what is said there."""

from __future__ import annotations

import asyncio

from aiohttp import web

from appliance.doors.http.access import principal_of
from appliance.doors.http.announce_schemas import MusicAsked, MusicsTold, MusicStoppedTold, MusicTold, ZoneQuery
from appliance.doors.http.answers import answer_json
from appliance.doors.http.bodies import read_query, read_record
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.services import services_of
from appliance.security.permissions import may


async def list_music(request: web.Request) -> web.Response:
    """`GET /v1/music`: the zones in which music plays, and the playlists there are."""
    music = services_of(request).announcer.music
    playlists = await asyncio.to_thread(music.shelf.playlists)
    return answer_json({"items": music.as_json(principal_of(request).tenant), "next": None, "playlists": playlists})


async def play_music(request: web.Request) -> web.Response:
    """`POST /v1/music`."""
    asked, announcer = await read_record(request, MusicAsked), services_of(request).announcer
    zone, tenant = asked.zone or next(iter(announcer.zones)), principal_of(request).tenant
    return answer_json(
        await announcer.play_music(tenant, zone, asked.playlist, asked.volume, is_shuffled=asked.shuffle)
    )


async def stop_music(request: web.Request) -> web.Response:
    """`DELETE /v1/music`: in one zone, or in all. What plays for another tenant only the owner of the box stops."""
    asked, principal = read_query(request, ZoneQuery), principal_of(request)
    tenant = "" if may(principal.role, "tenants.write") else principal.tenant
    return answer_json({"stopped": await services_of(request).announcer.stop_music(asked.zone, tenant)})


_PATH, _TAG = "/v1/music", "music"
_STOPPED = (Answer(200, "in how many zones", MusicStoppedTold),)
ROUTES = (
    Route("GET", _PATH, list_music, "What plays, and playlists", _TAG, (Answer(200, "music", MusicsTold),)),
    Route("POST", _PATH, play_music, "Play music", _TAG, (Answer(200, "music", MusicTold),), body=Body(MusicAsked)),
    Route("DELETE", _PATH, stop_music, "Stop music", _TAG, _STOPPED, query=ZoneQuery),
)
