"""Where the HTTP doors listen: plainly on this machine, with TLS for everybody else."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from appliance.errors import Unavailable
from appliance.settings import HttpSettings

UNREAD_TIMEOUT_MS = 60_000  # a connection whose peer takes no byte for so long is dropped by the kernel
WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - and who answers for them here


@dataclass(frozen=True)
class Listener:
    """A bound socket."""

    socket: socket.socket
    speaks_tls: bool


def lan_speaks_tls(settings: HttpSettings) -> bool:
    """Whether callers from outside this machine meet TLS."""
    return settings.tls == "required" or (settings.tls == "auto" and not _is_loopback(settings.host))


def open_listeners(settings: HttpSettings) -> tuple[list[Listener], str]:
    """The sockets, and the URL for programs on this machine.

    Where TLS is automatic, this machine keeps a plain door on the same port of its loopback: nobody listens in there,
    and its programs need no certificate. Raises Unavailable("http_address_in_use" | "http_address_unusable").
    """
    host, secured = settings.host, lan_speaks_tls(settings)
    if not secured or settings.tls == "required":
        sockets = _listen(host, settings.port)
        port = sockets[0].getsockname()[1]
        url = _url("https" if secured else "http", WILDCARDS.get(host, host), port)
        return [Listener(one, secured) for one in sockets], url
    shared = host in WILDCARDS
    port = settings.port
    if shared:  # two sockets may share a port only if both say so: look first whether somebody else has it
        probes = _listen(host, port)
        port = probes[0].getsockname()[1]
        _close(probes)
    outside = _listen(host, port, shared)
    port = outside[0].getsockname()[1]
    here = "::1" if host == "::" else "127.0.0.1"
    try:
        inside = _listen(here, port, shared)
    except Unavailable:
        _close(outside)
        raise
    return [*(Listener(one, True) for one in outside), *(Listener(one, False) for one in inside)], _url(
        "http", here, port
    )


def _listen(host: str, port: int, shared: bool = False) -> list[socket.socket]:
    try:
        rows = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise Unavailable("http_address_unusable", host=host, port=port, problem=error.strerror) from error
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(rows):
        # an address family that a name also resolves to must listen on the same free port
        wanted = sockets[0].getsockname()[1] if sockets else address[1]
        try:
            sockets.append(_bind(socket.socket(family, kind, protocol), (address[0], wanted, *address[2:]), shared))
        except OSError as error:
            _close(sockets)
            code = "http_address_in_use" if error.errno == 98 else "http_address_unusable"
            raise Unavailable(code, host=host, port=port, problem=error.strerror or str(error)) from error
    return sockets


def _bind(listener: socket.socket, address: tuple[Any, ...], shared: bool) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_TIMEOUT_MS)  # inherited by connections
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _is_loopback(host: str) -> bool:
    """Whether only this machine is reached under `host`."""
    try:
        rows = [ip_address(host)] if host else []
    except ValueError:
        try:
            rows = [ip_address(row[4][0]) for row in socket.getaddrinfo(host, None)]
        except (socket.gaierror, ValueError):
            return False
    return bool(rows) and all(address.is_loopback for address in rows)
