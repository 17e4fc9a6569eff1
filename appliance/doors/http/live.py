"""Server-sent events: rows as they happen, a sign of life in between, an end when the box stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeVar

from aiohttp import web

from appliance.contracts import JsonDict
from appliance.doors.http.answers import encode_json
from appliance.doors.http.services import STOPPING
from appliance.doors.http.speech import unfinished_is_broken, write_in_time

T = TypeVar("T")

HEARTBEAT_S = 15.0  # a comment line, so that proxies and clients see that the line is alive


async def stream_events(
    request: web.Request, rows: AsyncIterator[T], show: Callable[[T], tuple[str, JsonDict]]
) -> web.StreamResponse:
    """Answer with every row as an event; `show` gives its name and its data."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    async with unfinished_is_broken(request):
        await response.prepare(request)
        async with aclosing(_with_heartbeat(rows, request.app[STOPPING])) as beats:
            async for beat in beats:
                await write_in_time(response, b": alive\n\n" if beat is None else _event(*show(beat[0])))
        await response.write_eof()
    return response


def _event(name: str, data: JsonDict) -> bytes:
    return f"event: {name}\ndata: ".encode() + encode_json(data) + b"\n\n"


async def _with_heartbeat(rows: AsyncIterator[T], stopping: asyncio.Event) -> AsyncGenerator[tuple[T] | None, None]:
    """Each row in a tuple, and None whenever nothing happened for a while; ends when the box stops."""
    stopped = asyncio.ensure_future(stopping.wait())
    pending = asyncio.ensure_future(_next(rows))
    try:
        while not stopped.done():
            done, _ = await asyncio.wait({pending, stopped}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if pending not in done:
                yield None
                continue
            row = pending.result()
            if row is None:
                return
            yield row
            pending = asyncio.ensure_future(_next(rows))
    finally:
        pending.cancel()
        stopped.cancel()
        await asyncio.gather(pending, stopped, return_exceptions=True)
        close = getattr(rows, "aclose", None)
        if close is not None:
            await close()


async def _next(rows: AsyncIterator[T]) -> tuple[T] | None:
    try:
        return (await anext(rows),)
    except StopAsyncIteration:
        return None
