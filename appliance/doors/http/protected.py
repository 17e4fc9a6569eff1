"""`/v1/protected-voices` and `/v1/gate-reviews`: who must not be cloned here, and likenesses that a person judges."""

from __future__ import annotations

from aiohttp import web

from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import read_record
from appliance.doors.http.guard_schemas import (
    ProtectedAsked,
    ProtectedListTold,
    ProtectedTold,
    ReviewAsked,
    ReviewsTold,
    ReviewTold,
)
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.services import services_of
from appliance.doors.http.uploads import receive_upload


async def protect(request: web.Request) -> web.Response:
    """`POST /v1/protected-voices`: a clip of somebody; the print is kept, the sound is not."""
    services, tenant = services_of(request), principal_of(request).tenant
    async with receive_upload(request, ProtectedAsked) as upload:
        voice = await services.gate.protect(tenant, upload.asked.name, upload.path)
    return answer_json(voice.as_json(), status=201)


async def list_protected(request: web.Request) -> web.Response:
    """`GET /v1/protected-voices`."""
    rows = await services_of(request).gate.prints.protected(principal_of(request).tenant)
    return answer_page(rows, None)


async def unprotect(request: web.Request) -> web.Response:
    """`DELETE /v1/protected-voices/{protected}`."""
    await services_of(request).gate.prints.unprotect(principal_of(request).tenant, request.match_info["protected"])
    return web.Response(status=204)


async def list_reviews(request: web.Request) -> web.Response:
    """`GET /v1/gate-reviews`."""
    rows = await services_of(request).gate.prints.reviews(principal_of(request).tenant)
    return answer_page(rows, None)


async def decide(request: web.Request) -> web.Response:
    """`POST /v1/gate-reviews/{review}`."""
    asked = await read_record(request, ReviewAsked)
    prints, tenant = services_of(request).gate.prints, principal_of(request).tenant
    review = await prints.decide(tenant, request.match_info["review"], is_allowed=asked.decision == "allow")
    return answer_json(review.as_json())


ROUTES = (
    Route(
        "GET",
        "/v1/protected-voices",
        list_protected,
        "Voices that nobody may clone",
        "protection",
        (Answer(200, "those this tenant enrolled", ProtectedListTold),),
    ),
    Route(
        "POST",
        "/v1/protected-voices",
        protect,
        "Protect a voice from being cloned",
        "protection",
        (Answer(201, "the protected voice", ProtectedTold),),
        query=ProtectedAsked,
        body=Body(content_types=("multipart/form-data", "audio/*", "application/octet-stream")),
    ),
    Route(
        "DELETE",
        "/v1/protected-voices/{protected}",
        unprotect,
        "Stop protecting a voice",
        "protection",
        (Answer(204, "gone"),),
    ),
    Route(
        "GET",
        "/v1/gate-reviews",
        list_reviews,
        "Likenesses that a person has to judge",
        "protection",
        (Answer(200, "reviews, newest first", ReviewsTold),),
    ),
    Route(
        "POST",
        "/v1/gate-reviews/{review}",
        decide,
        "Allow or deny a clone in spite of a likeness",
        "protection",
        (Answer(200, "the review", ReviewTold),),
        body=Body(ReviewAsked),
    ),
)
