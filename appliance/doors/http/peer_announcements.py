"""`/v1/peer/announcements`, `/sounds`, `/questions`: paired boxes that have something said here."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from appliance.announcer.guests import Guest
from appliance.announcer.peer_orders import PIECE_BYTES
from appliance.doors.http.answers import answer_json
from appliance.doors.http.bodies import MAX_RECORD_BYTES, parse_json_object
from appliance.doors.http.channels import admit, put_piece
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.services import services_of
from appliance.publishing.peers import Peer


async def take_order(request: web.Request) -> web.Response:
    """`POST /v1/peer/announcements`."""
    peer, document = await _read(request)
    services = services_of(request)
    arrived = partial(services.office.offers.arrived, peer)
    answer = await services.announcer.guests.take(_guest(peer), document, arrived)
    return answer_json(answer)


async def stop_orders(request: web.Request) -> web.Response:
    """`POST /v1/peer/announcements/stop`."""
    peer, document = await _read(request)
    return answer_json(await services_of(request).announcer.guests.stop(_guest(peer), document))


async def tell_states(request: web.Request) -> web.Response:
    """`POST /v1/peer/questions/announcements`."""
    peer, document = await _read(request)
    return answer_json(await services_of(request).announcer.guests.states(_guest(peer), document))


async def take_piece(request: web.Request) -> web.Response:
    """`PUT /v1/peer/sounds/{digest}/{size}/{offset}`."""
    peer, body = await admit(request, PIECE_BYTES)
    services_of(request).announcer.guests.admit_sound(_guest(peer))
    return answer_json(await put_piece(request, peer, body))


async def _read(request: web.Request) -> tuple[Peer, dict[str, object]]:
    peer, body = await admit(request, MAX_RECORD_BYTES)
    return peer, parse_json_object(body.decode("utf-8", "replace"))


def _guest(peer: Peer) -> Guest:
    return Guest(peer.tenant, peer.uuid, peer.name, peer.grant)


_TAG = "peers"
_STANDS = (Answer(200, "how it stands"),)
ROUTES = (
    Route(
        "POST",
        "/v1/peer/announcements",
        take_order,
        "A paired box has something said in a zone",
        _TAG,
        _STANDS,
        body=Body(),
        is_public=True,
    ),
    Route(
        "POST",
        "/v1/peer/announcements/stop",
        stop_orders,
        "A paired box stops what it had said",
        _TAG,
        _STANDS,
        body=Body(),
        is_public=True,
    ),
    Route(
        "POST",
        "/v1/peer/questions/announcements",
        tell_states,
        "A paired box asks how its orders and a zone stand",
        _TAG,
        _STANDS,
        body=Body(),
        is_public=True,
    ),
    Route(
        "PUT",
        "/v1/peer/sounds/{digest}/{size}/{offset}",
        take_piece,
        "A paired box sends a piece of a sound",
        _TAG,
        (Answer(200, "how much of it is here"),),
        body=Body(content_types=("application/octet-stream",)),
        is_public=True,
    ),
)
