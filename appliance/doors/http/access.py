"""Who may use the doors, and for what: tokens, people who signed in, the owner's token, or being the box itself.

On a fresh box nobody has configured a token, a person or a second tenant yet, so callers on the loopback interface are
trusted: they can read the token file or are its user. A browser on the box is such a caller too, and runs other
people's pages; trust therefore also asks that the Host names the loopback (a rebound DNS name does not), that no proxy
stands between, and that the page which sends the request came from this very origin.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from aiohttp import web

from appliance.callers import VOICES
from appliance.doors.http.routes import Route
from appliance.doors.http.services import Services
from appliance.errors import Busy, Forbidden, NotAuthenticated, NotFound
from appliance.events import ACTOR, REFUSED, Event
from appliance.security.permissions import door_of, may, operation_of
from appliance.security.tokens import Token

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
SAFE_METHODS = frozenset({"GET", "HEAD"})


SESSION_COOKIE = "voiced_session"


@dataclass(frozen=True)
class Principal:
    """Who asks. `client` tells callers apart when load is shared out: an address, and which token came from it."""

    tenant: str
    client: str
    role: str = "owner"
    actor: str = "loopback"  # as the audit log names them
    voices: frozenset[str] = field(default_factory=frozenset)  # empty: every voice of the tenant
    doors: frozenset[str] = field(default_factory=frozenset)  # empty: every door


PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)


def principal_of(request: web.Request) -> Principal:
    """Who was let in. Raises KeyError on a public route."""
    return request[PRINCIPAL]


def let_in(request: web.Request, route: Route, services: Services) -> Principal:
    """Find out who asks and whether they may do what the route does.

    Raises NotAuthenticated (token_…), Busy("token_throttled"), Forbidden (role_not_allowed, door_not_allowed,
    origin_not_allowed), NotFound("voice_not_found") for a voice outside the credential's scope.
    """
    principal = authenticate(request, route, services)
    ACTOR.set(principal.actor)
    VOICES.set(principal.voices)
    operation, door = operation_of(route.method, route.path), door_of(route.path)
    if not may(principal.role, operation):
        _note_refusal(services, principal, operation or "unruled")
        raise Forbidden("role_not_allowed", role=principal.role, operation=operation or route.path)
    if principal.doors and door not in principal.doors and operation != "self":
        _note_refusal(services, principal, f"door {door}")
        raise Forbidden("door_not_allowed", door=door, allowed=sorted(principal.doors))
    voice = request.match_info.get("voice")
    if voice is not None and principal.voices and voice not in principal.voices:
        raise NotFound("voice_not_found", voice=voice[:80])
    return principal


def authenticate(request: web.Request, route: Route, services: Services) -> Principal:
    """Let the caller in or raise NotAuthenticated / Forbidden."""
    token, settings = presented_token(request, route), services.settings
    if token is not None and _is_equal(token, services.admin_token):
        fingerprint = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()[:12]
        return Principal(settings.tenant, f"token:{fingerprint}@{request.remote}", actor="admin-token")
    person = _signed_in(request, services) if token is None else None
    if person is not None:
        return person
    refused: NotAuthenticated | None = None
    if token is not None:
        try:
            return _holder(request, services, services.security.tokens.check(token))
        except NotAuthenticated as error:
            refused = error
    if services.security.trusts_loopback(settings) and is_direct_loopback(request):
        refuse_foreign_pages(request)
        return Principal(settings.tenant, client=f"address:{request.remote}")
    raise _slowed(request, services, refused) if refused else NotAuthenticated("token_missing")


def _holder(request: web.Request, services: Services, token: Token) -> Principal:
    if not services.security.tenants.is_active(token.tenant):
        raise NotAuthenticated("tenant_disabled", tenant=token.tenant)
    return Principal(
        tenant=token.tenant,
        client=f"token:{token.id}@{request.remote}",
        role=token.role,
        actor=f"token:{token.id}",
        voices=frozenset(token.voices),
        doors=frozenset(token.doors),
    )


def _signed_in(request: web.Request, services: Services) -> Principal | None:
    cookie = request.cookies.get(SESSION_COOKIE)
    person = services.security.people.signed_in(cookie) if cookie else None
    if person is None or not services.security.tenants.is_active(person.tenant):
        return None
    refuse_foreign_pages(request)
    return Principal(person.tenant, f"person:{person.id}@{request.remote}", person.role, actor=f"person:{person.id}")


def _slowed(request: web.Request, services: Services, refused: NotAuthenticated) -> NotAuthenticated | Busy:
    """A wrong token costs the guesser ever more time; a right one from the same address is never kept waiting."""
    if refused.code != "token_wrong":
        return refused  # who knows the secret does not guess
    throttle, key = services.security.people.throttle, f"token from {request.remote}"
    wait_s = throttle.wait_s(key)
    if wait_s > 0:
        return Busy("token_throttled", scope="client", retry_after_s=max(1, round(wait_s)))
    count = throttle.failed(key)
    if count & (count - 1) == 0:  # the 1st, 2nd, 4th, …: guessing must not fill the log
        details: dict[str, str | int] = {"code": refused.code, "count": count, "address": request.remote or ""}
        services.audit.note(Event("", "access.refused", outcome=REFUSED, details=details, actor="nobody"))
    return refused


def _note_refusal(services: Services, principal: Principal, what: str) -> None:
    services.audit.note(
        Event(principal.tenant, "access.refused", outcome=REFUSED, details={"operation": what}, actor=principal.actor)
    )


def presented_token(request: web.Request, route: Route) -> str | None:
    """The credential in any of the accepted places; `?token=` only where the route allows it, from loopback."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    for header in ("X-API-Key", "xi-api-key"):
        if request.headers.get(header):
            return request.headers[header].strip()
    if route.takes_query_token and is_loopback_peer(request):
        return request.query.get("token")
    return None


def is_loopback_peer(request: web.Request) -> bool:
    """Whether the TCP connection comes from this machine."""
    address = _address(request.remote or "")
    return address is not None and address.is_loopback


def is_direct_loopback(request: web.Request) -> bool:
    """Whether the caller itself is on this machine: no proxy in between, and it asked for a loopback name."""
    if not is_loopback_peer(request) or any(name in request.headers for name in FORWARDED):
        return False
    host = (urlsplit(f"//{request.host}").hostname or "").rstrip(".")
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def refuse_foreign_pages(request: web.Request) -> None:
    """A page of another site must not use the trust that the box gives its own browser."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Forbidden("origin_not_allowed", origin=request.headers.get("Origin", "cross-site"))
    origin = request.headers.get("Origin")
    is_safe = request.method in SAFE_METHODS and "Upgrade" not in request.headers  # a socket is read by who opened it
    if origin is None or is_safe:
        return
    if urlsplit(origin).netloc.lower() != request.host.lower():
        raise Forbidden("origin_not_allowed", origin=origin)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _is_equal(presented: str, expected: str) -> bool:
    """Constant-time comparison; digests make it independent of length as well."""
    left, right = (hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest() for value in (presented, expected))
    return bool(expected) and hmac.compare_digest(left, right)
