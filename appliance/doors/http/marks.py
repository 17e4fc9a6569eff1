"""`/v1/detect`: what a sound says about where it came from. Open to all: a detector that none may use is none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from aiohttp import web

from appliance.doors.http.access import authenticate, principal_of
from appliance.doors.http.answers import answer_json
from appliance.doors.http.files import send_parts
from appliance.doors.http.guard_schemas import DetectAsked, DetectionTold
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.services import STRANGERS, services_of
from appliance.doors.http.uploads import receive_upload
from appliance.errors import Busy, Forbidden, InvalidInput, NotAuthenticated, NotFound, Unavailable

MOST_STRANGERS = 4  # whose files are looked at at once


async def detect(request: web.Request) -> web.Response:
    """`POST /v1/detect`: multipart with a part `file`, or the bare bytes. Nothing is kept."""
    services, tenant = services_of(request), None
    with contextlib.suppress(NotAuthenticated, Forbidden):  # strangers are told about the marks, not about the log
        tenant = authenticate(request, ROUTES[0], services).tenant
    with _place(request, tenant):
        async with receive_upload(request, DetectAsked) as upload:
            return answer_json(await services.marks.detect(upload.path, tenant))


@contextlib.contextmanager
def _place(request: web.Request, tenant: str | None) -> Iterator[None]:
    """Files of strangers take room on the disk: a few at a time. Raises Busy("detections_full")."""
    strangers = request.app[STRANGERS]
    if tenant is None and len(strangers) >= MOST_STRANGERS:
        raise Busy("detections_full", open=len(strangers), limit=MOST_STRANGERS, retry_after_s=5)
    place = object()
    if tenant is None:
        strangers.add(place)
    try:
        yield
    finally:
        strangers.discard(place)


async def require_right(request: web.Request, voices: Iterable[str], purpose: str) -> None:
    """What voices (`anna` or `anna@3`) said and is kept is handed out only while they may be used for `purpose`.

    Lines that another box delivered may name voices that are none of this box's: that box answers for them. Raises
    Forbidden (consent_…).
    """
    services, tenant = services_of(request), principal_of(request).tenant
    for voice in sorted({spec.partition("@")[0] for spec in voices}):
        try:
            await services.consents.require(tenant, voice, purpose)
        except Forbidden as error:
            if error.code != "consent_missing":
                raise
            with contextlib.suppress(NotFound):
                await services.registry.get_voice(tenant, voice)
                raise error


async def answer_filed(
    request: web.Request, path: Path, facts: dict[str, str], headers: dict[str, str]
) -> web.StreamResponse:
    """A rendered sound as it is filed, marks and all; with signed provenance where the site says so.

    `X-Provenance` says "signed", or by its code why it is not. Only what is signed is in memory whole.
    """
    services, format = services_of(request), headers["Content-Type"].partition("/")[2]
    told = {"X-AI-Generated": "true", **headers}
    if services.settings.marks.provenance:
        try:
            content = await services.marks.sign(await asyncio.to_thread(path.read_bytes), format, facts)
            return web.Response(body=content, headers={**told, "X-Provenance": "signed"})
        except (InvalidInput, Unavailable) as error:
            told["X-Provenance"] = error.code
    return await send_parts(request, path, told)


async def answer_marked(request: web.Request, path: Path) -> web.Response:
    """A generated sound filed without marks (samples of a training, an examination), marked as it leaves."""
    body = await services_of(request).marks.mark_file(path, principal_of(request).tenant)
    return web.Response(body=body, headers={"Content-Type": "audio/wav", "X-AI-Generated": "true"})


ROUTES = (
    Route(
        "POST",
        "/v1/detect",
        detect,
        "What a sound file says about where it came from",
        "marks",
        (Answer(200, "watermark, metadata, signed provenance", DetectionTold),),
        query=DetectAsked,
        body=Body(content_types=("multipart/form-data", "audio/*", "application/octet-stream")),
        is_public=True,
    ),
)
