"""What every request passes: an id, figures, errors told in one shape, the gate, and headers that browsers obey."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from time import perf_counter

from aiohttp import web
from aiohttp.typedefs import Handler

from appliance import errors
from appliance.callers import VOICES
from appliance.doors.http.access import PRINCIPAL, let_in
from appliance.doors.http.problems import problem
from appliance.doors.http.routes import ErrorShape, Route
from appliance.doors.http.services import METRICS, SERVICES, TABLE
from appliance.events import ACTOR, ASKED, Event
from appliance.messages import preferred_language
from appliance.security.permissions import operation_of

log = logging.getLogger("voiced.http")

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")  # what we accept from outside and write to logs
OPENAI_PATHS = ("/v1/audio/", "/v1/models")
STORING = frozenset({"recordings.write", "voices.write", "weights.write", "jobs.write"})  # their POST keeps files
# Nothing of these is done unless the log has it first; consents, jobs, tokens, people and tenants are in the log by
# the transaction that changes them.
RECORDED = frozenset({"recordings.write", "voices.write", "weights.write", "scripts.write", "channels.write"})
TAKEN_AWAY = frozenset({"/v1/recordings/{recording}/audio", "/v1/scripts/{script}/publications/{publication}/archive"})
CLIENT_GONE = 499  # nobody reads it; the figures do

# The pages are ours alone: no foreign script, no frame, no form target. Sounds are blobs that the page made itself.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def language_of(request: web.Request) -> str:
    """The language for sentences in the answer: what the client prefers, else the box's own."""
    return preferred_language(request.headers.get("Accept-Language"), request.app[SERVICES].settings.language)


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, time it, count it, log it."""
    inbound = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = inbound if SANE_ID.fullmatch(inbound) else secrets.token_hex(8)
    route = request.app[TABLE].find(request)
    name, metrics = route.path if route else "(none)", request.app[METRICS]
    started, status = perf_counter(), CLIENT_GONE
    try:
        response = await handler(request)
        status = response.status
        return response
    except asyncio.CancelledError:
        metrics.cancelled.add(name)
        raise
    except ConnectionError:
        if request.transport is not None and not request.transport.is_closing():
            raise  # not the client's line
        metrics.cancelled.add(name)
        return web.Response(status=CLIENT_GONE)  # sent to nobody; raised, it would be logged as an error of ours
    finally:
        took_s = perf_counter() - started
        metrics.requests.add(request.method if route else "-", name, str(status))
        metrics.latency.observe(took_s, name)
        log.info("%s %s %d %.0f ms %s", request.method, name, status, took_s * 1e3, request[REQUEST_ID])


@web.middleware
async def translate_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors in this door's shape; the unexpected is logged in full and told only by its request id."""
    try:
        return await handler(request)
    except errors.VoicedError as error:
        return _answer(request, error)
    except web.HTTPException as error:
        return _answer(request, _from_aiohttp(error, request))
    except ConnectionError:
        raise  # the client left: `observe` ends it
    except Exception:  # the outermost net: whatever fails must end this request only
        log.exception("request %s failed: %s %s", request[REQUEST_ID], request.method, request.rel_url.raw_path)
        return _answer(request, errors.VoicedError("unforeseen_error", request_id=request[REQUEST_ID]))


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in who may come in, before a byte of the body is read."""
    route, services = request.app[TABLE].find(request), request.app[SERVICES]
    ACTOR.set("nobody")  # one task serves all requests of a connection
    VOICES.set(frozenset())
    principal = let_in(request, route, services) if route is not None and not route.is_public else None
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise errors.UnsupportedMedia("body_compressed", encoding=encoding[:40])
    if route is None or principal is None:
        return await handler(request)
    request[PRINCIPAL] = principal
    quotas = services.security.quotas
    operation = operation_of(route.method, route.path)
    if route.method == "POST" and operation in STORING:
        await quotas.check_storage(principal.tenant)
    if operation in RECORDED or route.path in TAKEN_AWAY:
        await services.audit.record(_intent(request, route, principal.tenant))
    with quotas.one_request(principal.tenant):
        return await handler(request)


def _intent(request: web.Request, route: Route, tenant: str) -> Event:
    """What is about to be done, for the log; whether it could be done is told by the rooms, or by what is there."""
    named = "/".join(request.match_info.values())
    action = f"{route.path.split('/')[2]}.{'take' if route.method == 'GET' else route.method.lower()}"
    voice = request.match_info.get("voice", "")
    return Event(tenant, action, voice=voice, subject=named, outcome=ASKED, details={"path": route.path})


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every answer, set as it starts (`on_response_prepare`)."""
    headers = response.headers
    headers["X-Request-Id"] = request.get(REQUEST_ID, "")
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers.setdefault("Cache-Control", "no-store")
    headers["Server"] = "voiced"
    if response.content_type == "text/html":
        headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        headers["X-Frame-Options"] = "DENY"
        headers["Permissions-Policy"] = "microphone=(self), camera=(), geolocation=()"


def _answer(request: web.Request, error: errors.VoicedError) -> web.StreamResponse:
    route = request.app[TABLE].find(request)
    shape: ErrorShape = "openai" if request.path.startswith(OPENAI_PATHS) else "problem"
    return problem(error, route.errors if route else shape, request[REQUEST_ID], language_of(request))


def _from_aiohttp(error: web.HTTPException, request: web.Request) -> errors.VoicedError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        return errors.InvalidInput("method_not_allowed", method=request.method, allowed=sorted(error.allowed_methods))
    if error.status == 404:
        return errors.NotFound("route_not_found", path=request.path[:200])
    if error.status == 413:
        return errors.TooLarge("body_too_large", limit_bytes=0, received_bytes=0)
    return errors.InvalidInput("request_malformed", reason=error.reason)
