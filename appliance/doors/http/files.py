"""Files of any size as answers: in pieces, never in memory whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from appliance.doors.http.speech import unfinished_is_broken, write_in_time

PART_BYTES = 1 << 20


async def send_parts(request: web.Request, path: Path, headers: Mapping[str, str]) -> web.StreamResponse:
    """The file as the answer; it may be removed when this returns. Raises OSError before anything is sent."""
    with await asyncio.to_thread(path.open, "rb") as file:
        response = web.StreamResponse(headers=dict(headers))
        response.content_length = os.fstat(file.fileno()).st_size
        async with unfinished_is_broken(request):
            await response.prepare(request)
            while part := await asyncio.to_thread(file.read, PART_BYTES):
                await write_in_time(response, part)
            await response.write_eof()
    return response
