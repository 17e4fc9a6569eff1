"""`/v1/channels` and `/v1/peers`: where publications go; `/v1/peer`: how boxes talk to each other."""

from __future__ import annotations

import asyncio
import hashlib

from aiohttp import web

from appliance.contracts import JsonDict, PeerGrant
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import parse_json_object, read_bytes, read_query, read_record
from appliance.doors.http.publishing_schemas import (
    ChannelAsked,
    ChannelsTold,
    ChannelTold,
    GrantAsked,
    IntroductionAsked,
    IntroductionTold,
    InvitationAsked,
    InvitationTold,
    PairAsked,
    PeerChangeAsked,
    PeersTold,
    PeerTold,
)
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import services_of
from appliance.errors import Forbidden, NotFound
from appliance.events import ACTOR, Event
from appliance.publishing.office import Office
from appliance.publishing.peer_channel import CHUNK_BYTES
from appliance.publishing.peer_messages import DIGEST
from appliance.publishing.peers import Peer

MOST_OFFER_BYTES = 64 << 20


def _office(request: web.Request) -> Office:
    return services_of(request).office


async def list_channels(request: web.Request) -> web.Response:
    """`GET /v1/channels`."""
    asked = read_query(request, PageQuery)
    page = await _office(request).channels.list(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next)


async def get_channel(request: web.Request) -> web.Response:
    """`GET /v1/channels/{channel}`."""
    row = await _office(request).channels.get(principal_of(request).tenant, request.match_info["channel"])
    return answer_json(row.as_json())


async def put_channel(request: web.Request) -> web.Response:
    """`PUT /v1/channels/{channel}`."""
    asked = await read_record(request, ChannelAsked)
    tenant, channel = principal_of(request).tenant, request.match_info["channel"]
    row = await _office(request).channels.put(tenant, channel, asked.kind, asked.settings, tuple(asked.scripts))
    return answer_json(row.as_json())


async def delete_channel(request: web.Request) -> web.Response:
    """`DELETE /v1/channels/{channel}`."""
    await _office(request).channels.delete(principal_of(request).tenant, request.match_info["channel"])
    return web.Response(status=204)


async def list_peers(request: web.Request) -> web.Response:
    """`GET /v1/peers`."""
    asked = read_query(request, PageQuery)
    page = await _office(request).peers.list(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next)


async def invite_peer(request: web.Request) -> web.Response:
    """`POST /v1/peers/invitations`: a code that a person types into another box."""
    asked = await read_record(request, InvitationAsked)
    return answer_json(_office(request).peers.invite(principal_of(request).tenant, _grant(asked.announce)), status=201)


async def pair_with(request: web.Request) -> web.Response:
    """`POST /v1/peers`: introduce this box to one that gave out a code."""
    asked = await read_record(request, PairAsked)
    tenant, grant = principal_of(request).tenant, _grant(asked.announce)
    peer = await _office(request).peers.pair(tenant, asked.url, asked.code, grant)
    return answer_json(peer.as_json(), status=201)


async def allow_peer(request: web.Request) -> web.Response:
    """`PATCH /v1/peers/{peer}`: what it may say aloud here."""
    asked = await read_record(request, PeerChangeAsked)
    tenant, peer = principal_of(request).tenant, request.match_info["peer"]
    event = Event(tenant, "peer.allow", subject=peer[:80], details={"zones": ", ".join(asked.announce.zones)})
    await services_of(request).audit.record(event)
    return answer_json((await _office(request).peers.allow(tenant, peer, _grant(asked.announce))).as_json())


def _grant(asked: GrantAsked | None) -> PeerGrant:
    return PeerGrant() if asked is None else PeerGrant(tuple(dict.fromkeys(asked.zones)), asked.priority)


async def remove_peer(request: web.Request) -> web.Response:
    """`DELETE /v1/peers/{peer}`."""
    await _office(request).peers.remove(principal_of(request).tenant, request.match_info["peer"])
    return web.Response(status=204)


# ------------------------------------------------------------ between boxes


async def introduce(request: web.Request) -> web.Response:
    """`GET /v1/peer`: who this box is."""
    return answer_json(_office(request).peers.introduce())


async def answer_pairing(request: web.Request) -> web.Response:
    """`POST /v1/peer/pairings`: another box shows that it knows our code."""
    asked = await read_record(request, IntroductionAsked)
    return answer_json(await _office(request).peers.answer(asked.model_dump()))


async def take_offer(request: web.Request) -> web.Response:
    """`POST /v1/peer/offers`."""
    peer, body = await admit(request, MOST_OFFER_BYTES)
    return answer_json(await _office(request).offers.take(peer, parse_json_object(body.decode("utf-8", "replace"))))


async def take_part(request: web.Request) -> web.Response:
    """`PUT /v1/peer/blobs/{digest}/{size}/{offset}`."""
    peer, body = await admit(request, CHUNK_BYTES)
    return answer_json(await put_piece(request, peer, body))


async def put_piece(request: web.Request, peer: Peer, body: bytes) -> JsonDict:
    """A piece of the file that the path names. Raises NotFound("blob_not_found") and what `OfferDesk.put` raises."""
    size, offset = (request.match_info[name] for name in ("size", "offset"))
    if not all(text.isascii() and text.isdigit() and len(text) < 12 for text in (size, offset)):
        raise NotFound("blob_not_found", digest=request.match_info["digest"][:80])
    return await _office(request).offers.put(peer, request.match_info["digest"], int(size), int(offset), body)


async def commit_offer(request: web.Request) -> web.Response:
    """`POST /v1/peer/offers/{offer}/commit`."""
    peer, _ = await admit(request, CHUNK_BYTES)
    return answer_json(await _office(request).offers.commit(peer, request.match_info["offer"]))


async def revert_offer(request: web.Request) -> web.Response:
    """`POST /v1/peer/offers/{offer}/revert`."""
    peer, _ = await admit(request, CHUNK_BYTES)
    return answer_json(await _office(request).offers.revert(peer, request.match_info["offer"]))


async def admit(request: web.Request, limit: int) -> tuple[Peer, bytes]:
    """The paired box that signed this very message, known before more than a piece of it is read.

    Raises Forbidden("peer_refused"), TooLarge.
    """
    promised = request.headers.get(DIGEST, "")
    peer = await _signer(request, promised) if promised else None
    body = await read_bytes(request, limit if promised else min(limit, CHUNK_BYTES))
    digest = (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
    if promised and digest != promised:
        raise Forbidden("peer_refused")
    peer = peer or await _signer(request, digest)
    ACTOR.set(f"peer:{peer.uuid}")
    return peer, body


async def _signer(request: web.Request, digest: str) -> Peer:
    return await _office(request).peers.admit(request.method, request.path, request.headers, digest)


_CHANNELS, _PEERS = "channels", "peers"
_ALL, _ONE = "/v1/channels", "/v1/channels/{channel}"
_CHANNEL = (Answer(200, "the channel", ChannelTold),)
_PAIRED = (Answer(201, "the box", PeerTold),)
_OFFER = "/v1/peer/offers/{offer}"
_MESSAGE = (Answer(200, "as the channel `peer` understands it"),)
ROUTES = (
    Route("GET", _ALL, list_channels, "List channels", _CHANNELS, (Answer(200, "by id", ChannelsTold),), PageQuery),
    Route("GET", _ONE, get_channel, "One channel", _CHANNELS, _CHANNEL),
    Route("PUT", _ONE, put_channel, "Make or change a channel", _CHANNELS, _CHANNEL, body=Body(ChannelAsked)),
    Route("DELETE", _ONE, delete_channel, "Delete a channel", _CHANNELS, (Answer(204, "gone"),)),
    Route("GET", "/v1/peers", list_peers, "List paired boxes", _PEERS, (Answer(200, "by id", PeersTold),), PageQuery),
    Route("POST", "/v1/peers", pair_with, "Pair with a box", _PEERS, _PAIRED, body=Body(PairAsked)),
    Route(
        "POST",
        "/v1/peers/invitations",
        invite_peer,
        "A code for another box",
        _PEERS,
        (Answer(201, "the code", InvitationTold),),
        body=Body(InvitationAsked, is_required=False),
    ),
    Route(
        "PATCH",
        "/v1/peers/{peer}",
        allow_peer,
        "What a paired box may say aloud here",
        _PEERS,
        (Answer(200, "the box", PeerTold),),
        body=Body(PeerChangeAsked),
    ),
    Route("DELETE", "/v1/peers/{peer}", remove_peer, "Forget a paired box", _PEERS, (Answer(204, "gone"),)),
    Route(
        "GET", "/v1/peer", introduce, "Who is this box?", _PEERS, (Answer(200, "it", IntroductionTold),), is_public=True
    ),
    Route(
        "POST",
        "/v1/peer/pairings",
        answer_pairing,
        "Another box introduces itself",
        _PEERS,
        (Answer(200, "this box, with its proof", IntroductionTold),),
        body=Body(IntroductionAsked),
        is_public=True,
    ),
    Route(
        "POST",
        "/v1/peer/offers",
        take_offer,
        "A paired box offers a publication",
        _PEERS,
        _MESSAGE,
        body=Body(),
        is_public=True,
    ),
    Route(
        "PUT",
        "/v1/peer/blobs/{digest}/{size}/{offset}",
        take_part,
        "A paired box sends a piece of a file",
        _PEERS,
        _MESSAGE,
        body=Body(content_types=("application/octet-stream",)),
        is_public=True,
    ),
    Route("POST", f"{_OFFER}/commit", commit_offer, "Carry it", _PEERS, _MESSAGE, body=Body(), is_public=True),
    Route("POST", f"{_OFFER}/revert", revert_offer, "Do not carry it", _PEERS, _MESSAGE, body=Body(), is_public=True),
)
