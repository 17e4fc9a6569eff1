"""Where doors listen: bound sockets of one host, and whom a host reaches."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

UNREAD_TIMEOUT_MS = 60_000  # a connection whose peer takes no byte for so long is dropped by the kernel


def listen(host: str, port: int, shared: bool = False) -> list[socket.socket]:
    """Bound sockets for every address that `host` stands for, all on one port; 0 takes a free one.

    `shared`: other sockets that say so, too, may have the same port. Raises OSError.
    """
    rows = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(rows):
        # an address family that a name also resolves to must listen on the same free port
        wanted = sockets[0].getsockname()[1] if sockets else address[1]
        try:
            sockets.append(_bind(socket.socket(family, kind, protocol), (address[0], wanted, *address[2:]), shared))
        except OSError:
            close_all(sockets)
            raise
    return sockets


def is_taken(error: OSError) -> bool:
    """Whether another program has the port."""
    return error.errno == errno.EADDRINUSE


def close_all(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        one.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached under `host`."""
    try:
        rows = [ip_address(host)] if host else []
    except ValueError:
        try:
            rows = [ip_address(row[4][0]) for row in socket.getaddrinfo(host, None)]
        except (socket.gaierror, ValueError):
            return False
    return bool(rows) and all(address.is_loopback for address in rows)


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
