"""Where the HTTP doors listen: plainly on this machine, with TLS for everybody else."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from appliance.doors.sockets import close_all, is_loopback, is_taken, listen
from appliance.errors import Unavailable
from appliance.settings import HttpSettings

WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - and who answers for them here


@dataclass(frozen=True)
class Listener:
    """A bound socket."""

    socket: socket.socket
    speaks_tls: bool


def lan_speaks_tls(settings: HttpSettings) -> bool:
    """Whether callers from outside this machine meet TLS."""
    return settings.tls == "required" or (settings.tls == "auto" and not is_loopback(settings.host))


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
        close_all(probes)
    outside = _listen(host, port, shared)
    port = outside[0].getsockname()[1]
    here = "::1" if host == "::" else "127.0.0.1"
    try:
        inside = _listen(here, port, shared)
    except Unavailable:
        close_all(outside)
        raise
    return [*(Listener(one, True) for one in outside), *(Listener(one, False) for one in inside)], _url(
        "http", here, port
    )


def _listen(host: str, port: int, shared: bool = False) -> list[socket.socket]:
    try:
        return listen(host, port, shared)
    except OSError as error:
        code = "http_address_in_use" if is_taken(error) else "http_address_unusable"
        raise Unavailable(code, host=host, port=port, problem=error.strerror or str(error)) from error


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
