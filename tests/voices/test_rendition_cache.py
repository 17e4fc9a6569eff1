"""Requests for the same rendition at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from appliance.contracts import Audio
from appliance.errors import Unavailable
from appliance.voices import rendition_cache
from appliance.voices.rendition_cache import RenditionCache, Served
from appliance.voices.rendition_files import RenditionFiles, RenditionKey

KEY = RenditionKey("main", "anna", "a" * 64)


class Source:
    """Makes five chunks, each after `step()`, and notes what happens to it."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.begun = self.made = self.closed = 0
        self._steps = asyncio.Semaphore(0)
        self._fails_at = fails_at

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self._steps.release()

    async def make(self) -> AsyncGenerator[Audio, None]:
        self.begun += 1
        try:
            for number in range(5):
                await self._steps.acquire()
                if number == self._fails_at:
                    raise Unavailable("worker_died")
                self.made += 1
                yield Audio(np.full(100, number, np.float32), 24_000)
        finally:
            self.closed += 1


async def ask(cache: RenditionCache, source: Source, priority: int = 0, key: RenditionKey = KEY) -> Served:
    return cache.serve(key, await cache.find(key), priority, source.make)


async def heard(served: Served) -> list[float]:
    return [float(chunk.samples[0]) async for chunk in served.chunks]


@pytest.fixture
def cache(tmp_path):
    return RenditionCache(RenditionFiles(tmp_path / "renditions", 1_000_000, "this release"))


async def test_what_was_made_once_is_not_made_again(cache):
    source = Source()
    source.step(5)
    first = await ask(cache, source)
    assert await heard(first) == [0, 1, 2, 3, 4]
    second = await ask(cache, source)
    assert await heard(second) == [0, 1, 2, 3, 4]
    assert (first.outcome, second.outcome, source.begun) == ("miss", "hit", 1)


async def test_those_who_come_while_it_is_made_hear_all_of_it_and_it_is_made_once(cache):
    source = Source()
    first = await ask(cache, source)
    source.step(2)
    assert [float((await anext(first.chunks)).samples[0]) for _ in range(2)] == [0, 1]
    others = [await ask(cache, source) for _ in range(8)]
    source.step(3)
    everybody = await asyncio.gather(*map(heard, others), heard(first))
    assert everybody == [[0, 1, 2, 3, 4]] * 8 + [[2, 3, 4]]
    assert ({other.outcome for other in others}, source.begun, source.closed) == ({"joined"}, 1, 1)


async def test_the_engine_does_not_run_ahead_of_the_listener_who_is_furthest(cache):
    source = Source()
    source.step(5)
    first, second = await ask(cache, source), await ask(cache, source)
    await anext(first.chunks)
    await anext(first.chunks)
    await anext(second.chunks)
    await asyncio.sleep(0.05)
    assert source.made == 2
    await first.chunks.aclose()
    await second.chunks.aclose()


async def test_one_who_leaves_takes_nothing_from_the_others(cache):
    source = Source()
    first, second = await ask(cache, source), await ask(cache, source)
    waiting = asyncio.create_task(heard(first))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    source.step(5)
    assert await heard(second) == [0, 1, 2, 3, 4]
    assert (source.begun, source.closed) == (1, 1)


async def test_the_last_one_who_leaves_ends_the_work_and_the_next_begins_anew(cache):
    source = Source()
    first, second = await ask(cache, source), await ask(cache, source)
    source.step()
    await anext(first.chunks)
    waiting = asyncio.create_task(anext(first.chunks))
    await asyncio.sleep(0.01)
    await second.chunks.aclose()
    assert source.closed == 0
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert source.closed == 1
    source.step(5)
    third = await ask(cache, source)
    assert (third.outcome, await heard(third)) == ("miss", [0, 1, 2, 3, 4])


async def test_a_request_that_is_never_listened_to_holds_nobody_up(cache):
    source = Source()
    never = await ask(cache, source)
    del never
    source.step(5)
    assert (await ask(cache, source)).outcome == "miss"


async def test_a_failure_reaches_everybody_and_is_not_kept(cache):
    source = Source(fails_at=2)
    source.step(3)
    listeners = [await ask(cache, source) for _ in range(3)]
    ends = await asyncio.gather(*map(heard, listeners), return_exceptions=True)
    assert [getattr(end, "code", end) for end in ends] == ["worker_died"] * 3
    well = Source()
    well.step(5)
    again = await ask(cache, well)
    assert (again.outcome, await heard(again)) == ("miss", [0, 1, 2, 3, 4])


async def test_a_more_urgent_request_does_not_wait_behind_a_less_urgent_one(cache):
    slow, quick = Source(), Source()
    patient = await ask(cache, slow)
    urgent = await ask(cache, quick, priority=5)
    assert (urgent.outcome, (await ask(cache, quick)).outcome) == ("miss", "joined")
    quick.step(5)
    assert await heard(urgent) == [0, 1, 2, 3, 4]
    slow.step(5)
    assert await heard(patient) == [0, 1, 2, 3, 4]


async def test_a_voice_that_is_forgotten_while_it_speaks_is_not_kept(cache):
    source = Source()
    first = await ask(cache, source)
    source.step()
    await anext(first.chunks)
    await cache.forget("main", "anna")
    source.step(9)
    assert await heard(first) == [1, 2, 3, 4]
    assert (await ask(cache, source)).outcome == "miss"


async def test_what_would_take_too_much_memory_is_spoken_and_not_kept(cache, monkeypatch):
    monkeypatch.setattr(rendition_cache, "HELD_BYTES", 1_000)
    source = Source()
    source.step(10)
    assert await heard(await ask(cache, source)) == [0, 1, 2, 3, 4]
    assert (await ask(cache, source)).outcome == "miss"


async def test_a_disk_that_takes_nothing_costs_nobody_their_answer(cache, monkeypatch):
    def refuse(*_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(RenditionFiles, "put", refuse)
    source = Source()
    source.step(5)
    assert await heard(await ask(cache, source)) == [0, 1, 2, 3, 4]
