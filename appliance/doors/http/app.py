"""Puts the doors together and opens them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from appliance.doors.http import (
    admin,
    announce,
    audit,
    channels,
    credentials,
    datasets,
    dubbings,
    jobs,
    lexicon,
    marks,
    middleware,
    openai,
    openapi,
    pages,
    recordings,
    scripts,
    sessions,
    stream,
    tenants,
    tts,
    versions,
    voices,
    weights,
    zones,
)
from appliance.doors.http.answers import answer_json
from appliance.doors.http.metrics import Metrics
from appliance.doors.http.routes import Answer, Handler, Route, RouteTable
from appliance.doors.http.services import METRICS, SERVICES, STOPPING, STREAMS, TABLE, Services
from appliance.doors.http.uploads import sweep_incoming
from appliance.errors import Unavailable
from appliance.plugin_manager import Plugins

log = logging.getLogger("voiced.http")

MAX_LINE_BYTES = 1 << 16  # a request line: 5 000 Chinese characters in `GET /tts?text=` take 45 KB
MAX_FIELD_BYTES = 1 << 14
UNREAD_TIMEOUT_MS = 60_000  # a connection whose peer takes no byte for so long is dropped by the kernel
PLUGIN_PREFIX = "/x/"

BUILT_IN: tuple[Route, ...] = (
    *pages.ROUTES,
    *tts.ROUTES,
    *stream.ROUTES,
    *openai.ROUTES,
    *voices.ROUTES,
    *versions.ROUTES,
    *weights.ROUTES,
    *lexicon.ROUTES,
    *recordings.ROUTES,
    *sessions.ROUTES,
    *datasets.ROUTES,
    *jobs.ROUTES,
    *announce.ROUTES,
    *zones.ROUTES,
    *scripts.ROUTES,
    *channels.ROUTES,
    *dubbings.ROUTES,
    *admin.ROUTES,
    *marks.ROUTES,
    *tenants.ROUTES,
    *audit.ROUTES,
    *credentials.ROUTES,
    *openapi.ROUTES,
)


def make_app(services: Services) -> web.Application:
    """The application over `services`; nothing is opened yet."""
    app = web.Application(middlewares=[middleware.observe, middleware.translate_errors, middleware.guard])
    app[SERVICES] = services
    app[METRICS] = Metrics()
    app[STOPPING] = asyncio.Event()
    app[STREAMS] = set()
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
    sockets = _listen(settings.host, settings.port)
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
        for listener in sockets:
            await web.SockSite(runner, listener, backlog=512).start()
        yield _url(settings.host, sockets[0].getsockname()[1])
    finally:
        await runner.cleanup()


def _listen(host: str, port: int) -> list[socket.socket]:
    try:
        rows = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise Unavailable("http_address_unusable", host=host, port=port, problem=error.strerror) from error
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(rows):
        # an address family that a name also resolves to must listen on the same free port
        wanted = sockets[0].getsockname()[1] if sockets else address[1]
        try:
            sockets.append(_bind(socket.socket(family, kind, protocol), (address[0], wanted, *address[2:])))
        except OSError as error:
            for listener in sockets:
                listener.close()
            code = "http_address_in_use" if error.errno == 98 else "http_address_unusable"
            raise Unavailable(code, host=host, port=port, problem=error.strerror or str(error)) from error
    return sockets


def _bind(listener: socket.socket, address: tuple[Any, ...]) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_TIMEOUT_MS)  # inherited by connections
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _url(host: str, port: int) -> str:
    """How a program on this machine reaches the doors; the wildcard is no address to connect to."""
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{port}"
