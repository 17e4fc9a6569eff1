"""Requests that were admitted and are not yet through: their places in the queue, and how one of them is ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from appliance.contracts import Audio
from appliance.errors import Forbidden


class Admitted:
    """Chunks that give their place in the queue back when they end, fail, are closed or are never asked for.

    `withdraw` ends them from outside, at once, also in the middle of making or waiting for the next one.
    """

    def __init__(
        self, about: tuple[str, str, str], chunks: AsyncIterator[Audio], release: Callable[[float], None]
    ) -> None:
        """`about`: tenant, voice, purpose; `release` is told once how many seconds it took."""
        self.about = about
        self.withdrawn = asyncio.Event()
        self._chunks = chunks
        self._release = release
        self._admitted_at: float | None = time.monotonic()
        self._refusal: Forbidden | None = None
        self._pulling: asyncio.Timeout | None = None

    def __aiter__(self) -> AsyncIterator[Audio]:
        return self

    async def __anext__(self) -> Audio:
        """Raises what making the chunk raises, and Forbidden once the right to it was withdrawn."""
        try:
            return await self._pull()
        except BaseException:
            self._leave()
            raise

    async def _pull(self) -> Audio:
        if self._refusal is not None:
            raise self._refusal
        try:
            async with asyncio.timeout(None) as self._pulling:
                return await anext(self._chunks)
        except TimeoutError:
            if self._refusal is None:
                raise
            raise self._refusal from None
        finally:
            self._pulling = None

    def withdraw(self, refusal: Forbidden) -> None:
        """Not a chunk more: whoever waits for one, or asks for the next, gets `refusal`."""
        self._refusal = self._refusal or refusal
        self.withdrawn.set()
        if self._pulling is not None:
            self._pulling.reschedule(asyncio.get_running_loop().time())

    async def aclose(self) -> None:
        """Cancel what is still under way; idempotent."""
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()
        self._leave()

    def __del__(self) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._admitted_at is not None:
            took_s, self._admitted_at = time.monotonic() - self._admitted_at, None
            self._release(took_s)
