"""Events of the Wyoming protocol on a stream, bounded.

One event on the wire:

    {"type": …, "data": {…}, "data_length": N, "payload_length": M}\\n | N bytes of JSON | M raw bytes

All but `type` may be missing; the JSON behind the line is merged over the one in it. The library of the protocol's
authors reads whatever lengths a peer names, so reading is our own: nothing is allocated before its bound was checked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.errors import InvalidInput, TooLarge

MAX_LINE_BYTES = 1 << 16
MAX_DATA_BYTES = 1 << 18  # 100 000 characters, the most that `speech.max_characters` can allow, written as JSON
MAX_PAYLOAD_BYTES = 1 << 18  # of events that we do not know: only those carry sound to us
DISCARD_BYTES = 1 << 14
MAX_TOLD = 80  # characters of what a stranger sent, in a message


@dataclass(frozen=True)
class WyomingEvent:
    """One event. Its payload, if it had one, was thrown away."""

    type: str
    data: Mapping[str, Any] = field(default_factory=dict)


async def read_line(reader: asyncio.StreamReader) -> bytes | None:
    """The first line of the next event; None when the peer closed before it. Raises TooLarge, ConnectionError."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ConnectionResetError("the peer closed inside an event") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise TooLarge("wyoming_event_too_large", part="line", limit_bytes=MAX_LINE_BYTES) from error


async def read_rest(reader: asyncio.StreamReader, line: bytes) -> WyomingEvent:
    """What follows the line. Raises InvalidInput("wyoming_event_malformed"), TooLarge, ConnectionError."""
    head = _parse_object(line)
    kind, data = head.get("type"), head.get("data")
    if not isinstance(kind, str):
        raise _malformed("it has no type")
    if data is not None and not isinstance(data, dict):
        raise _malformed("data is no object")
    data_length = _length_in(head, "data_length", MAX_DATA_BYTES)
    payload_length = _length_in(head, "payload_length", MAX_PAYLOAD_BYTES)
    try:
        more = _parse_object(await reader.readexactly(data_length)) if data_length else {}
        while payload_length:
            payload_length -= len(await reader.readexactly(min(payload_length, DISCARD_BYTES)))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the peer closed inside an event") from error
    return WyomingEvent(kind, {**(data or {}), **more})


def encode_event(kind: str, data: Mapping[str, Any] | None = None, payload: bytes = b"") -> bytes:
    """All bytes of one event."""
    head: dict[str, Any] = {"type": kind}
    body = json.dumps(data, separators=(",", ":")).encode() if data else b""
    if body:
        head["data_length"] = len(body)
    if payload:
        head["payload_length"] = len(payload)
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + body + payload


def _parse_object(document: bytes) -> dict[str, Any]:
    try:
        value = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise _malformed("it is not JSON") from error
    if not isinstance(value, dict):
        raise _malformed("it is not a JSON object")
    return value


def _length_in(head: Mapping[str, Any], name: str, limit: int) -> int:
    length = head.get(name)
    if length is None:
        return 0
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise _malformed(f"{name} is no number of bytes")
    if length > limit:
        raise TooLarge("wyoming_event_too_large", part=name, limit_bytes=limit)
    return length


def _malformed(reason: str) -> InvalidInput:
    return InvalidInput("wyoming_event_malformed", reason=reason)
