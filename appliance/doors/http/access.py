"""Who may use the doors: one administrator token, or being the box itself.

On a fresh box nobody has configured a token yet, so callers on the loopback interface are trusted: they can read the
token file or are its user. A browser on the box is such a caller too, and runs other people's pages; trust therefore
also asks that the Host names the loopback (a rebound DNS name does not), that no proxy stands between, and that the
page which sends the request came from this very origin.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from aiohttp import web

from appliance.doors.http.routes import Route
from appliance.doors.http.services import Services
from appliance.errors import Forbidden, NotAuthenticated

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
SAFE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Principal:
    """Who asks. `client` tells callers apart when load is shared out: an address, and which token came from it."""

    tenant: str
    client: str
    is_administrator: bool = True


PRINCIPAL: web.RequestKey[Principal] = web.RequestKey("principal", Principal)


def principal_of(request: web.Request) -> Principal:
    """Who was let in. Raises KeyError on a public route."""
    return request[PRINCIPAL]


def authenticate(request: web.Request, route: Route, services: Services) -> Principal:
    """Let the caller in or raise NotAuthenticated / Forbidden."""
    token, settings = presented_token(request, route), services.settings
    if token is not None and _is_equal(token, services.admin_token):
        fingerprint = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()[:12]
        return Principal(settings.tenant, client=f"token:{fingerprint}@{request.remote}")
    trusts = settings.http.trust_loopback
    if trusts is None:
        trusts = settings.admin_token is None
    if trusts and is_direct_loopback(request):
        _refuse_foreign_pages(request)
        return Principal(settings.tenant, client=f"address:{request.remote}")
    raise NotAuthenticated("token_missing" if token is None else "token_wrong")


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


def _refuse_foreign_pages(request: web.Request) -> None:
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
