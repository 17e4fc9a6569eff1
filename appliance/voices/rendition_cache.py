"""Speech that was made before, or is being made for somebody else just now, is not made again.

A rendition under way is one `_Flight`: whoever asks for the same joins it, hears it from its beginning, and nobody's
leaving ends it but the last one's. It is drawn on by whoever is furthest, so that an engine never runs ahead of all of
its listeners. A flight that fails fails for all. One that completes is filed; see `rendition_files`.

Whether somebody may hear a rendition is asked before it is looked up here, each time. What is done to the sound of a
single request (marks) is done to what comes out here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from appliance.contracts import Audio
from appliance.errors import VoicedError
from appliance.voices.rendition_files import RenditionFiles, RenditionKey

log = logging.getLogger(__name__)

Outcome = Literal["hit", "miss", "joined"]
HELD_BYTES = 48 << 20  # samples of all flights together; the one that exceeds it is neither joined nor filed any more


@dataclass(frozen=True)
class Served:
    """How a request is answered. `chunks` has to be iterated to its end or closed."""

    outcome: Outcome
    chunks: AsyncGenerator[Audio, None]


class RenditionCache:
    """Files of finished renditions (none without `files`) and the flights of those under way. Belongs to one loop."""

    def __init__(self, files: RenditionFiles | None = None) -> None:
        self._files = files
        self._flights: dict[RenditionKey, _Flight] = {}
        self.outcomes: Counter[str] = Counter()

    @property
    def bytes(self) -> int:
        """What lies on disk."""
        return self._files.bytes if self._files else 0

    @property
    def corrupt(self) -> int:
        """Files that were found damaged and made again."""
        return self._files.corrupt if self._files else 0

    async def find(self, key: RenditionKey) -> tuple[Audio, ...] | None:
        """The finished rendition, if it is here."""
        if self._files is None or key in self._flights:
            return None
        return await asyncio.to_thread(self._files.get, key)

    def serve(
        self,
        key: RenditionKey,
        found: tuple[Audio, ...] | None,
        priority: int,
        make: Callable[[], AsyncGenerator[Audio, None]],
    ) -> Served:
        """The sound of `key`: what `find` found, a flight of at least this priority, or else `make()`."""
        served = self._serve(key, found, priority, make)
        self.outcomes[served.outcome] += 1
        return served

    async def forget(self, tenant: str, voice: str | None = None) -> int:
        """Nothing that a voice (or a whole tenant) said is kept; what is under way will not be. Returns how many."""
        for key in [key for key in self._flights if key.tenant == tenant and voice in {None, key.voice}]:
            del self._flights[key]
        return 0 if self._files is None else await asyncio.to_thread(self._files.forget, tenant, voice)

    def _serve(
        self,
        key: RenditionKey,
        found: tuple[Audio, ...] | None,
        priority: int,
        make: Callable[[], AsyncGenerator[Audio, None]],
    ) -> Served:
        if found is not None:
            return Served("hit", _replay(found))
        flight = self._flights.get(key)
        if flight is not None and flight.priority >= priority:
            return Served("joined", _Listener(flight))
        flight = self._flights[key] = _Flight(self, key, priority, make())
        return Served("miss", _Listener(flight))

    def _generation(self) -> int:
        return 0 if self._files is None else self._files.generation

    def _is_full(self) -> bool:
        return sum(flight.held_bytes for flight in self._flights.values()) > HELD_BYTES

    def _let_go(self, flight: _Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    async def _file(self, flight: _Flight, chunks: Sequence[Audio]) -> None:
        """Keep a finished flight, if it is still one of ours; a full or broken disk costs nobody their answer."""
        if self._files is None or self._flights.get(flight.key) is not flight:
            return
        try:
            await asyncio.to_thread(self._files.put, flight.key, chunks, flight.generation)
        except (OSError, VoicedError) as error:
            log.warning("a rendition is not kept: %s", error)


async def _replay(chunks: tuple[Audio, ...]) -> AsyncGenerator[Audio, None]:
    for chunk in chunks:
        yield chunk


class _Flight:
    """One rendition under way."""

    def __init__(
        self, cache: RenditionCache, key: RenditionKey, priority: int, source: AsyncGenerator[Audio, None]
    ) -> None:
        self.key = key
        self.priority = priority
        self.generation = cache._generation()
        self.held_bytes = 0
        self._cache = cache
        self._source = source
        self._chunks: list[Audio | None] = []  # None: everybody is past it, and it is not to be filed
        self._pull: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._is_done = False
        self._heard: dict[int, int] = {}  # by listener: chunks; no reference keeps one that was forgotten alive

    def note(self, listener: _Listener) -> None:
        """A listener is there, and how far it is."""
        self._heard[id(listener)] = listener.heard

    async def chunk(self, index: int) -> Audio | None:
        """The chunk at `index`, made if nobody has asked for it yet; None at the end. Raises what making it raised."""
        while index >= len(self._chunks):
            if self._error is not None:
                raise self._error
            if self._is_done:
                return None
            if self._pull is None:
                self._pull = asyncio.create_task(self._advance())
            await asyncio.shield(self._pull)  # who gives up waiting does not give up for the others
        return self._chunks[index]

    async def leave(self, listener: _Listener) -> None:
        """One listener less; the last one ends the work in the engine."""
        self.part(listener)
        if self._heard:
            return
        if self._pull is not None:
            self._pull.cancel()
            await asyncio.gather(self._pull, return_exceptions=True)
        await self._source.aclose()

    def part(self, listener: _Listener) -> None:
        """The part of leaving that needs no loop."""
        self._heard.pop(id(listener), None)
        if not self._heard:
            self._cache._let_go(self)

    async def _advance(self) -> None:
        """Draw one chunk from the source."""
        try:
            chunk = await anext(self._source)
            chunk.samples.setflags(write=False)  # it has many readers
            self._chunks.append(chunk)
            self.held_bytes += chunk.samples.nbytes
            if self._cache._is_full():
                self._cache._let_go(self)
            if self._cache._flights.get(self.key) is not self:
                self._drop_heard()
        except StopAsyncIteration:
            await self._cache._file(self, [chunk for chunk in self._chunks if chunk is not None])
            self._is_done = True
            self._cache._let_go(self)
        except Exception as error:  # noqa: BLE001 - whatever it is, every listener gets it
            self._error = error
            self._cache._let_go(self)
        finally:
            self._pull = None

    def _drop_heard(self) -> None:
        """Nobody joins any more: what all have heard needs no memory."""
        for index in range(min(self._heard.values(), default=0)):
            self._chunks[index] = None


class _Listener(AsyncGenerator[Audio, None]):
    """The sound of a flight from its beginning, for one request."""

    def __init__(self, flight: _Flight) -> None:
        self.heard = 0  # chunks
        self._flight: _Flight | None = flight
        flight.note(self)

    async def asend(self, value: None) -> Audio:
        flight = self._flight
        if flight is None:
            raise StopAsyncIteration
        try:
            chunk = await flight.chunk(self.heard)
        except BaseException:
            await self.aclose()
            raise
        if chunk is None:
            await self.aclose()
            raise StopAsyncIteration
        self.heard += 1
        if self._flight is not None:  # closed meanwhile
            flight.note(self)
        return chunk

    async def athrow(self, kind: Any, value: Any = None, traceback: TracebackType | None = None) -> Audio:
        await self.aclose()
        raise kind if value is None else value

    async def aclose(self) -> None:
        """Idempotent."""
        flight, self._flight = self._flight, None
        if flight is not None:
            await flight.leave(self)

    def __del__(self) -> None:
        if self._flight is not None:
            self._flight.part(self)
