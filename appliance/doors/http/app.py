"""Puts the doors together and opens them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from appliance.doors.discovery import reachable_addresses
from appliance.doors.http import (
    admin,
    announce,
    audit,
    channels,
    credentials,
    datasets,
    dubbings,
    exports,
    jobs,
    keys,
    lexicon,
    marks,
    middleware,
    music,
    openai,
    openapi,
    pages,
    peer_announcements,
    protected,
    recordings,
    schedules,
    scripts,
    sessions,
    speakers,
    statements,
    stream,
    tenants,
    trust,
    tts,
    versions,
    voices,
    weights,
    zones,
)
from appliance.doors.http.answers import answer_json
from appliance.doors.http.listeners import lan_speaks_tls, open_listeners
from appliance.doors.http.routes import Answer, Handler, Route, RouteTable
from appliance.doors.http.services import METRICS, SERVICES, STOPPING, STRANGERS, STREAMS, TABLE, Services
from appliance.doors.http.uploads import sweep_incoming
from appliance.plugin_manager import Plugins
from appliance.security.tls import ServerCertificate
from appliance.state_dir import StateDir

log = logging.getLogger("voiced.http")

MAX_LINE_BYTES = 1 << 16  # a request line: 5 000 Chinese characters in `GET /tts?text=` take 45 KB
MAX_FIELD_BYTES = 1 << 14
CERTIFICATE_CHECK_S = 60.0
PLUGIN_PREFIX = "/x/"

BUILT_IN: tuple[Route, ...] = (
    *pages.ROUTES,
    *tts.ROUTES,
    *stream.ROUTES,
    *openai.ROUTES,
    *voices.ROUTES,
    *versions.ROUTES,
    *exports.ROUTES,
    *weights.ROUTES,
    *lexicon.ROUTES,
    *recordings.ROUTES,
    *sessions.ROUTES,
    *datasets.ROUTES,
    *jobs.ROUTES,
    *announce.ROUTES,
    *zones.ROUTES,
    *music.ROUTES,
    *scripts.ROUTES,
    *channels.ROUTES,
    *peer_announcements.ROUTES,
    *dubbings.ROUTES,
    *schedules.ROUTES,
    *admin.ROUTES,
    *marks.ROUTES,
    *tenants.ROUTES,
    *audit.ROUTES,
    *trust.ROUTES,
    *credentials.ROUTES,
    *protected.ROUTES,
    *statements.ROUTES,
    *speakers.ROUTES,
    *keys.ROUTES,
    *openapi.ROUTES,
)


def make_app(services: Services) -> web.Application:
    """The application over `services`; nothing is opened yet."""
    app = web.Application(middlewares=[middleware.observe, middleware.translate_errors, middleware.guard])
    app[SERVICES] = services
    app[METRICS] = services.metrics
    app[STOPPING] = asyncio.Event()
    app[STREAMS] = set()
    app[STRANGERS] = set()
    app[TABLE] = RouteTable(BUILT_IN + plugin_routes(services.plugins))
    for route in app[TABLE]:
        app.router.add_route(route.method, route.path, route.handler)
        if route.is_public and route.method == "GET":
            app.router.add_route("HEAD", route.path, route.handler)
    app.on_response_prepare.append(middleware.set_headers)
    app.on_shutdown.append(_end_live_answers)
    return app


async def _end_live_answers(app: web.Application) -> None:
    """Answers that would go on for ever (live events) end now; those with an end may reach it."""
    app[STOPPING].set()


def plugin_routes(plugins: Plugins) -> tuple[Route, ...]:
    """Routes that plugins bring, behind the same token; one outside `/x/` is left out and logged."""
    routes: list[Route] = []
    for brought in plugins.routes.values():
        if not brought.path.startswith(PLUGIN_PREFIX):
            log.error("a plugin's route %s %s is not under %s: left out", brought.method, brought.path, PLUGIN_PREFIX)
            continue
        summary = (inspect.getdoc(brought.handler) or "A plugin's route").splitlines()[0]
        answers = (Answer(200, "what the plugin answers"),)
        handler = _plugin_handler(brought.handler)
        routes.append(Route(brought.method.upper(), brought.path, handler, summary, "plugins", answers))
    return tuple(routes)


def _plugin_handler(handler: Callable[..., Any]) -> Handler:
    """A plugin may answer with a response or with JSON values; one that is not `async` works in a thread."""

    async def call(request: web.Request) -> web.StreamResponse:
        if inspect.iscoroutinefunction(handler):
            answer = await handler(request)
        else:
            answer = await asyncio.to_thread(handler, request)
        return answer if isinstance(answer, web.StreamResponse) else answer_json(answer)

    return call


@asynccontextmanager
async def serve_http(services: Services) -> AsyncIterator[str]:
    """Listen as `settings.http` says; yields the URL for this machine. Closing drains running answers.

    Raises Unavailable("http_address_in_use" | "http_address_unusable").
    """
    settings = services.settings.http
    listeners, url = open_listeners(settings)
    certificate = await asyncio.to_thread(_certificate, services)
    await asyncio.to_thread(sweep_incoming, services.settings.state_dir)
    runner = web.AppRunner(
        make_app(services),
        access_log=None,  # ours says the route, never the query with its token
        keepalive_timeout=settings.keepalive_s,
        auto_decompress=False,  # compressed bodies are refused, not inflated first
        handler_cancellation=True,  # a client that leaves takes its synthesis with it
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES,
        shutdown_timeout=settings.drain_s,
    )
    await runner.setup()
    try:
        for listener in listeners:
            context = certificate.context if listener.speaks_tls else None
            await web.SockSite(runner, listener.socket, backlog=512, ssl_context=context).start()
        renewing = asyncio.create_task(_keep_valid(certificate, settings.host), name="certificate")
        yield url
        renewing.cancel()
    finally:
        await runner.cleanup()


def _certificate(services: Services) -> ServerCertificate:
    settings = services.settings
    certificate = ServerCertificate(StateDir(settings.state_dir).keys, services.box.name)
    certificate.cover(reachable_addresses(settings.http.host))
    if lan_speaks_tls(settings.http):
        log.info("other machines are answered with TLS; fingerprint of this box: %s", certificate.fingerprint)
    return certificate


async def _keep_valid(certificate: ServerCertificate, host: str) -> None:
    """A new address, or an end that comes near, gets a new certificate while the doors stay open."""
    while True:
        await asyncio.sleep(CERTIFICATE_CHECK_S)
        with contextlib.suppress(OSError):
            addresses = await asyncio.to_thread(reachable_addresses, host)
            if await asyncio.to_thread(certificate.cover, addresses):
                log.info("a new server certificate, for %s", ", ".join(addresses))
