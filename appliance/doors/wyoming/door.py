"""The Wyoming door as the daemon opens it: a listening socket, and a session for each connection.

Nothing here may keep the box from starting: a door that cannot be opened says why, and the others stay open.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.contracts import JsonDict
from appliance.doors.sockets import close_all, is_taken, listen
from appliance.doors.wyoming.events import MAX_LINE_BYTES
from appliance.doors.wyoming.rights import Rights
from appliance.doors.wyoming.session import Line, Session, SessionRooms
from appliance.errors import Busy, Unavailable, VoicedError

log = logging.getLogger("voiced.wyoming")

BACKLOG = 64
HELD_BYTES = 1 << 16  # of sound that waits for a client to take it, here and (doubled) in the kernel: 4 s together
CLOSE_S = 2.0
UNTOUCHED = "wyoming_not_trusted"  # nobody bound the door on a box that asks for credentials: no fault of the box


class WyomingDoor:
    """Closed until `opened` is entered. `port` is 0 while it is."""

    def __init__(self, rooms: SessionRooms) -> None:
        self._rooms = rooms
        self._rights = Rights(rooms.settings, rooms.security)
        self._problem: VoicedError | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Serve until the context ends, then close all connections. Never raises: `state` tells what is wrong."""
        servers = await self._open() if self._rooms.settings.wyoming.enabled else []
        try:
            yield
        finally:
            self.port = 0
            for server in servers:
                server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def state(self, tenant: str, language: str) -> JsonDict:
        """For `GET /v1/system`: state ("open", "closed", "off"), where it listens, connections, and what is wrong.

        The reason may name a token or a tenant, so it is told to the box's own tenant only.
        """
        settings = self._rooms.settings.wyoming
        error = self._problem if tenant == self._rooms.settings.tenant else None
        return {
            "state": "open" if self.port else "closed" if settings.enabled else "off",
            "host": settings.host,
            "port": self.port,
            "connections": self.connections,
            "code": error.code if error else "",
            "problem": error.message(language) if error else "",
            "remedy": error.remedy(language) if error else "",
        }

    async def _open(self) -> list[asyncio.Server]:
        host = self._rooms.settings.wyoming.host
        try:
            self._rights.check_binding()
            servers = await self._listen(host, self._rooms.settings.wyoming.port)
        except VoicedError as error:
            self._problem = error
            log.log(logging.INFO if error.code == UNTOUCHED else logging.WARNING, "Wyoming stays closed: %s", error)
            return []
        self.port = servers[0].sockets[0].getsockname()[1]
        log.info("Wyoming on %s, port %d", host, self.port)
        return servers

    async def _listen(self, host: str, port: int) -> list[asyncio.Server]:
        """Raises Unavailable("wyoming_address_in_use" | "wyoming_address_unusable")."""
        servers: list[asyncio.Server] = []
        sockets: list[socket.socket] = []
        try:
            sockets += await asyncio.to_thread(listen, host, port)
            for one in sockets:
                opening = asyncio.start_server(self._meet, sock=one, limit=MAX_LINE_BYTES, backlog=BACKLOG)
                servers.append(await opening)
        except OSError as error:
            for server in servers:
                server.close()
            close_all(sockets)
            code = "wyoming_address_in_use" if is_taken(error) else "wyoming_address_unusable"
            raise Unavailable(code, host=host, port=port, problem=error.strerror or str(error)) from error
        return servers

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its acceptance to its end."""
        task, peer = asyncio.current_task(), writer.get_extra_info("peername")
        if task is None or peer is None:  # it left already
            writer.transport.abort()
            return
        writer.transport.set_write_buffer_limits(high=HELD_BYTES)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HELD_BYTES)
        self._connections.add(task)
        try:
            session = Session(self._rooms, self._rights, Line(peer[0], reader, writer))
            limit = self._rooms.settings.wyoming.max_connections
            if len(self._connections) > limit:
                await session.turn_away(Busy("wyoming_full", open=len(self._connections) - 1, limit=limit))
            else:
                await session.serve()
        except OSError:  # it left, or takes nothing more
            return
        finally:
            self._connections.discard(task)
            await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    """What the client has not taken by then it will not take."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_S):
            await writer.wait_closed()
    except OSError:
        writer.transport.abort()
