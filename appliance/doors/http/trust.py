"""`/ca.pem`: the certificate of the box's own authority, for clients that will talk TLS to it."""

from __future__ import annotations

import asyncio

from aiohttp import web

from appliance.doors.http.routes import Answer, Route
from appliance.doors.http.services import services_of
from appliance.errors import NotFound
from appliance.security.tls import AUTHORITY
from appliance.state_dir import StateDir


async def get_authority(request: web.Request) -> web.Response:
    """`GET /ca.pem`. Not secret; worth nothing until its fingerprint was compared."""
    path = StateDir(services_of(request).settings.state_dir).keys / AUTHORITY
    try:
        pem = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise NotFound("tls_absent") from error
    return web.Response(body=pem, content_type="application/x-pem-file")


ROUTES = (
    Route(
        "GET",
        "/ca.pem",
        get_authority,
        "The box's own certificate authority",
        "pages",
        (Answer(200, "a certificate (PEM)", content_type="application/x-pem-file"),),
        is_public=True,
    ),
)
