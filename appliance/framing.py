"""Messages between our own processes: a small JSON header and a binary payload, length-prefixed.

One frame on the wire, integers big-endian:

    "VF" | header length (u32) | payload length (u32) | header (UTF-8 JSON object) | payload (raw bytes)

No pickle: a peer can send wrong figures, never code. Both lengths are bounded before anything is allocated. A peer that
closes between two frames raises EOFError; inside a frame, or with bytes that are no frame, FramingError: the stream
cannot be trusted after that and has to be closed.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

MAX_HEADER_BYTES = 1 << 20  # 1 MiB: headers are records, sound and tensors travel as payload
MAX_PAYLOAD_BYTES = 256 << 20  # 256 MiB: about 23 minutes of 48 kHz float32

Payload = bytes | bytearray | memoryview  # of any item type; contiguous

_MAGIC = b"VF"
_PREFIX = struct.Struct(">2sII")


class FramingError(ConnectionError):
    """The bytes are not a frame, or it breaks off, or it is larger than allowed."""


def encode_prefix(header: Mapping[str, Any], payload_bytes: int) -> bytes:
    """All bytes of a frame before its payload. Raises FramingError when the frame would be too large."""
    text = json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    _check_sizes(len(text), payload_bytes)
    return _PREFIX.pack(_MAGIC, len(text), payload_bytes) + text


def write_frame(sock: socket.socket, header: Mapping[str, Any], payload: Payload = b"") -> None:
    """Send one frame, blocking. One writer at a time."""
    view = _raw_bytes(payload)
    sock.sendall(encode_prefix(header, len(view)))
    if view:
        sock.sendall(view)


def read_frame(sock: socket.socket) -> tuple[dict[str, Any], bytes]:
    """Receive one frame, blocking. Raises EOFError at a clean end, FramingError at a broken one."""
    header_bytes, payload_bytes = _decode_prefix(_read_exactly(sock, _PREFIX.size, is_first=True))
    header = _decode_header(_read_exactly(sock, header_bytes))
    return header, _read_exactly(sock, payload_bytes)


class FrameStream:
    """The same frames over asyncio streams. One reading and any number of writing tasks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()

    async def read(self) -> tuple[dict[str, Any], bytes]:
        """Receive one frame. Raises EOFError at a clean end, FramingError at a broken one."""
        try:
            prefix = await self._reader.readexactly(_PREFIX.size)
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                raise EOFError("the peer closed") from error
            raise FramingError("the peer closed inside a frame") from error
        header_bytes, payload_bytes = _decode_prefix(prefix)
        try:
            header = _decode_header(await self._reader.readexactly(header_bytes))
            return header, await self._reader.readexactly(payload_bytes)
        except asyncio.IncompleteReadError as error:
            raise FramingError("the peer closed inside a frame") from error

    async def write(self, header: Mapping[str, Any], payload: Payload = b"") -> None:
        """Send one frame and wait until the peer takes more (its backpressure becomes ours)."""
        view = _raw_bytes(payload)
        async with self._sending:
            self._writer.write(encode_prefix(header, len(view)))
            if view:
                self._writer.write(view)
            await self._writer.drain()

    async def close(self) -> None:
        """Close both directions; idempotent, a peer that is already gone is fine."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, TimeoutError):
            return


async def open_frame_stream(sock: socket.socket) -> FrameStream:
    """Take over a connected socket (one end of a socketpair) as a FrameStream."""
    sock.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 20)
    return FrameStream(reader, writer)


def _raw_bytes(payload: Payload) -> memoryview:
    view = memoryview(payload)
    return view.cast("B") if view.nbytes else memoryview(b"")


def _check_sizes(header_bytes: int, payload_bytes: int) -> None:
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise FramingError(f"frame too large: header {header_bytes} bytes, payload {payload_bytes} bytes")


def _decode_prefix(prefix: bytes) -> tuple[int, int]:
    magic, header_bytes, payload_bytes = _PREFIX.unpack(prefix)
    if magic != _MAGIC:
        raise FramingError(f"not a frame: it starts with {magic!r}")
    _check_sizes(header_bytes, payload_bytes)
    return header_bytes, payload_bytes


def _decode_header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise FramingError("the header is not JSON") from error
    if not isinstance(header, dict):
        raise FramingError("the header is not a JSON object")
    return header


def _read_exactly(sock: socket.socket, count: int, *, is_first: bool = False) -> bytes:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = sock.recv_into(view)
        if got == 0:
            if is_first and len(view) == count:
                raise EOFError("the peer closed")
            raise FramingError("the peer closed inside a frame")
        view = view[got:]
    return bytes(data)
