"""What answers at a peer's address need not be a box."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from appliance.errors import Unavailable
from appliance.publishing.peer_messages import Address, exchange

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("status", [200, 403, 404, 500])
@pytest.mark.parametrize("body", ["[]", '"sign in first"', "<html>", "[" * 5_000, "7"])
async def test_a_stranger_at_the_address_is_an_error_with_a_code(status, body):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_get("/v1/peer", answer)
    async with TestServer(app) as server:
        with pytest.raises(Unavailable, match="peer_unreachable"):
            await asyncio.to_thread(exchange, Address(str(server.make_url(""))), "GET", "/v1/peer", b"", {})
