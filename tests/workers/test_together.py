"""Several tasks in one process at a time, for engines that gain from it."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from appliance.contracts import SpeakTask, VoiceAssets
from appliance.errors import DeadlineExceeded, Unavailable

from .test_pool import running, task


def chorus(text: str, seed: int = 0) -> SpeakTask:
    return SpeakTask(text, VoiceAssets("one", "chorus"), seed=seed)


async def spoken(pool, wanted: SpeakTask, **options):
    ticket = await pool.begin(wanted, **options)
    return [chunk async for chunk in ticket.chunks()]


async def test_tasks_of_such_an_engine_are_spoken_at_once_up_to_its_number(tmp_path):
    async with running(tmp_path, engine="chorus") as pool:
        found = await asyncio.gather(*(spoken(pool, chorus("meet 3", seed)) for seed in range(7)))
    assert [chunks[0].audio.samples[0] for chunks in found] == list(range(7))
    assert max(chunks[0].timings["most"] for chunks in found) == 3


async def test_tasks_of_another_engine_wait_and_are_not_overtaken(tmp_path):
    async with running(tmp_path, engine="chorus") as pool:
        order: list[str] = []

        async def note(name: str, wanted: SpeakTask) -> None:
            await spoken(pool, wanted)
            order.append(name)

        await pool.warm()
        first = asyncio.create_task(note("two together", chorus("meet 2")))
        await asyncio.sleep(0.1)
        rest = [
            asyncio.create_task(note(name, wanted))
            for name, wanted in (("company", chorus("meet 2")), ("tone", task("slow tone")), ("last", chorus("now")))
        ]
        await asyncio.gather(first, *rest)
    assert order[-2:] == ["tone", "last"]


async def test_the_next_clause_of_a_request_does_not_compete_with_the_one_before(tmp_path):
    async with running(tmp_path, engine="chorus") as pool:
        await pool.warm()
        first = await pool.begin(chorus("slow"))
        second = await pool.begin(chorus("quick"), after=first)
        other = await spoken(pool, chorus("quick"))
        assert other[0].timings["most"] == 2
        await first.cancel()
        assert [chunk.timings["most"] async for chunk in second.chunks()] == [2]


async def test_one_that_kills_its_process_takes_no_other_with_it_twice(tmp_path):
    async with running(tmp_path, engine="chorus") as pool:
        await pool.warm()
        outcomes = await asyncio.gather(
            *(spoken(pool, chorus(text, seed)) for seed, text in enumerate(("pause", "crash", "pause", "hello"))),
            return_exceptions=True,
        )
    assert isinstance(outcomes[1], Unavailable)
    assert [outcomes[seed][0].audio.samples[0] for seed in (0, 2, 3)] == [0, 2, 3]


async def test_a_task_past_its_deadline_that_stops_leaves_the_others_alone(tmp_path):
    async with running(tmp_path, engine="chorus", deadline_s=1.0) as pool:
        await pool.warm()
        late = asyncio.create_task(spoken(pool, chorus("slow")))
        await asyncio.sleep(0.7)
        company = asyncio.create_task(spoken(pool, chorus("meet 3")))
        with pytest.raises(DeadlineExceeded):
            await late
        assert pool.state()[0]["restarts"] == 0
        third, fourth = await asyncio.gather(spoken(pool, chorus("a", 5)), spoken(pool, chorus("b", 6)))
        company.cancel()
        np.testing.assert_array_equal([third[0].audio.samples[0], fourth[0].audio.samples[0]], [5, 6])


async def test_one_that_hangs_costs_its_process_after_the_deadline(tmp_path):
    async with running(tmp_path, engine="chorus", deadline_s=1.0) as pool:
        await pool.warm()
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await spoken(pool, chorus("hang"))
        assert len(await spoken(pool, chorus("hello"))) == 1
        assert time.monotonic() - started < 30
