"""The supervised worker against real processes: a tone engine plays the model, everything else is the product."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from appliance.contracts import SpeakTask, VoiceAssets
from appliance.errors import DeadlineExceeded, InvalidInput, Unavailable
from appliance.settings import IntakeSettings, PluginSettings, WorkerSettings
from appliance.workers import WorkerPool, WorkerSpec

DROP_INS = Path(__file__).parents[1] / "drop_ins"


def spec(tmp_path: Path, engine: str = "sine") -> WorkerSpec:
    plugins = tmp_path / "plugins"
    if not plugins.exists():
        shutil.copytree(DROP_INS, plugins)
    return WorkerSpec("", engine, (), "", 1, tmp_path, PluginSettings(), plugins, IntakeSettings())


@asynccontextmanager
async def running(tmp_path: Path, *, deadline_s: float = 20.0, engine: str = "sine", **settings):
    pool = WorkerPool(spec(tmp_path, engine), WorkerSettings(**settings), deadline_s)
    pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


def task(text: str, hz: int = 440, seed: int = 0) -> SpeakTask:
    return SpeakTask(text, VoiceAssets(f"sine-{hz}", "sine", settings={"hz": hz}), seed=seed)


async def spoken(pool: WorkerPool, wanted: SpeakTask, priority: int = 0) -> np.ndarray:
    ticket = await pool.begin(wanted, priority=priority)
    return np.concatenate([chunk.audio.samples async for chunk in ticket.chunks()])


async def test_fifty_requests_at_once_are_what_they_are_alone(tmp_path):
    tasks = [task(f"sentence number {i % 7}", hz=(220, 330, 440, 550, 660)[i % 5], seed=i) for i in range(50)]
    async with running(tmp_path, count=2) as pool:
        alone = [await spoken(pool, one) for one in tasks]
        together = await asyncio.gather(*(spoken(pool, one) for one in reversed(tasks)))
    for left, right in zip(alone, reversed(together), strict=True):
        np.testing.assert_array_equal(left, right)


async def test_a_worker_that_dies_before_its_first_audio_is_replaced_and_the_task_retried(tmp_path):
    async with running(tmp_path) as pool:
        await pool.warm()
        results = await asyncio.gather(
            spoken(pool, task("hello")), spoken(pool, task("crash once")), spoken(pool, task("bye"))
        )
        assert [len(result) for result in results] == [2400, 4800, 1440]
        assert pool.state()[0]["restarts"] == 1


async def made_ready(tmp_path: Path, count: int) -> list[list[str]]:
    """Process and pitch of each voice, in order, once there are so many."""
    file = tmp_path / "ready"
    for _ in range(600):
        rows = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        if len(rows) >= count:
            break
        await asyncio.sleep(0.05)
    return rows


async def test_voices_are_made_ready_before_they_are_asked_for_also_in_a_process_that_follows(tmp_path):
    async with running(tmp_path) as pool:
        await pool.warm()
        await pool.prepare(task("", hz=220).voice)
        first = await made_ready(tmp_path, 1)
        await spoken(pool, task("hello", hz=440))
        await spoken(pool, task("crash once", hz=330))
        rows = await made_ready(tmp_path, 3)
        following = {str(row["pid"]) for row in pool.state() if row["pid"]}
    assert [pitch for _, pitch in first] == ["220"]
    assert [pitch for _, pitch in rows[1:]] == ["440", "330"]  # the last two that spoke
    assert {pid for pid, _ in rows[1:]} == following != {first[0][0]}


async def test_a_voice_that_is_forgotten_is_not_made_ready_in_a_process_that_follows(tmp_path):
    async with running(tmp_path) as pool:
        await pool.warm()
        await pool.prepare(task("", hz=220).voice)
        await made_ready(tmp_path, 1)
        pool.forget_voices()
        await spoken(pool, task("crash once", hz=330))
        assert [pitch for _, pitch in await made_ready(tmp_path, 2)] == ["220", "330"]


async def test_a_voice_that_kills_its_process_while_it_is_made_ready_is_left_alone(tmp_path):
    async with running(tmp_path) as pool:
        await pool.warm()
        await pool.prepare(replace(task("", hz=220).voice, settings={"hz": 220, "deadly": True}))
        assert len(await made_ready(tmp_path, 1)) == 1
        assert len(await spoken(pool, task("hello"))) == 2400
        assert pool.state()[0]["restarts"] == 1
        assert [pitch for _, pitch in await made_ready(tmp_path, 1)].count("220") == 1


async def test_a_task_that_kills_every_worker_fails_and_the_others_go_on(tmp_path):
    async with running(tmp_path) as pool:
        outcomes = await asyncio.gather(
            spoken(pool, task("crash always")), spoken(pool, task("hello")), return_exceptions=True
        )
        assert isinstance(outcomes[0], Unavailable)
        assert outcomes[0].code == "worker_died"
        assert len(outcomes[1]) == 2400


async def test_killing_the_worker_in_the_middle_touches_only_its_request(tmp_path):
    async with running(tmp_path) as pool:
        await pool.warm()
        waiting = [asyncio.create_task(spoken(pool, task(text))) for text in ("slow one", "two", "three")]
        await asyncio.sleep(0.3)
        os.kill(pool.state()[0]["pid"], signal.SIGKILL)
        assert [len(result) for result in await asyncio.gather(*waiting)] == [3840, 1440, 2400]


async def test_a_stopped_worker_is_noticed_and_replaced_within_ten_seconds(tmp_path):
    async with running(tmp_path) as pool:
        await pool.warm()
        os.kill(pool.state()[0]["pid"], signal.SIGSTOP)
        started = time.monotonic()
        assert len(await spoken(pool, task("hello"))) == 2400
        assert time.monotonic() - started < 12  # 8 s of silence, a second of looking, the start of Python


async def test_a_task_past_its_deadline_is_given_up_and_the_next_one_is_served(tmp_path):
    async with running(tmp_path, deadline_s=1.0) as pool:
        with pytest.raises(DeadlineExceeded) as caught:
            await spoken(pool, task("hang"))
        assert caught.value.code == "task_deadline"
        assert len(await spoken(pool, task("hello"))) == 2400


async def test_a_cancelled_task_frees_the_worker(tmp_path):
    async with running(tmp_path) as pool:
        await pool.warm()
        ticket = await pool.begin(task("slow " * 3))
        await asyncio.sleep(0.2)
        await ticket.cancel()
        started = time.monotonic()
        assert len(await spoken(pool, task("hello"))) == 2400
        assert time.monotonic() - started < 0.7


async def test_higher_priorities_go_first(tmp_path):
    order: list[str] = []

    async def note(text: str, priority: int) -> None:
        await spoken(pool, task(text), priority)
        order.append(text)

    async with running(tmp_path) as pool:
        await pool.warm()
        first = asyncio.create_task(note("slow", 0))
        await asyncio.sleep(0.2)
        await asyncio.gather(first, note("later", 0), note("urgent", 5))
    assert order == ["slow", "urgent", "later"]


async def test_errors_cross_the_process_border_with_code_and_class(tmp_path):
    async with running(tmp_path) as pool:
        with pytest.raises(InvalidInput) as caught:
            await spoken(pool, task("refuse this"))
    assert caught.value.code == "text_not_speakable"


async def test_an_absent_engine_is_a_reason_not_a_crash(tmp_path):
    async with running(tmp_path, engine="choir") as pool:
        with pytest.raises(Unavailable) as caught:
            await pool.warm()
        assert caught.value.code == "engine_missing"
        with pytest.raises(Unavailable):
            await spoken(pool, task("hello"))
        assert not pool.is_ready


async def test_a_worker_has_neither_our_secrets_nor_our_network(tmp_path, monkeypatch):
    monkeypatch.setenv("VOICED_ADMIN_TOKEN", "do-not-tell")
    async with running(tmp_path) as pool:
        await pool.warm()
        proc = Path("/proc") / str(pool.state()[0]["pid"])
        assert b"do-not-tell" not in (proc / "environ").read_bytes()
        if os.geteuid() == 0:
            assert (proc / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()


async def test_stopping_leaves_no_process_behind(tmp_path):
    async with running(tmp_path, count=2) as pool:
        while sum(row["state"] == "ready" for row in pool.state()) < 2:
            await asyncio.sleep(0.05)
        pids = [row["pid"] for row in pool.state() if row["pid"]]
    assert len(pids) == 2
    assert not any((Path("/proc") / str(pid)).exists() for pid in pids)


async def test_a_backend_that_fails_is_replaced_without_losing_the_request(tmp_path):
    """The task reaches a backend that runs out of memory; the answer comes from the next one, and the pool says so."""
    pytest.importorskip("onnx")
    wanted = replace(spec(tmp_path, "matrix"), backends=("brittle", "sluggish"))
    pool = WorkerPool(wanted, WorkerSettings(), 20.0)
    pool.start()
    try:
        await pool.warm()
        placed = pool.state()[0]["placement"]
        assert [(row["engine"], row["backend"], row["state"]) for row in placed] == [
            ("matrix", "brittle", "chosen"),
            ("matrix", "sluggish", "untried"),
        ]
        ask = SpeakTask("a" * 30, VoiceAssets("v", "matrix"))
        assert np.array_equal(await spoken(pool, ask), np.full(30_000, 0.5, np.float32))
        await spoken(pool, replace(ask, text="a"))  # what the worker says after the first task is in by now
        rows = {row["backend"]: row for row in pool.state()[0]["placement"]}
        assert rows["brittle"]["state"] == "demoted" and "memory" in rows["brittle"]["reason"]
        assert rows["sluggish"]["state"] == "chosen" and pool.state()[0]["restarts"] == 0
    finally:
        await pool.stop()


async def test_backends_are_compared_once_the_worker_idles_and_the_better_one_takes_over(tmp_path):
    """It speaks at once on the first one; a child measures meanwhile, and the next start knows."""
    pytest.importorskip("onnx")
    wanted = replace(spec(tmp_path, "matrix"), backends=("sluggish", "onnxruntime"), prepares=True, quiet_s=0.1)
    for states in (["chosen", "untried"], ["slower", "chosen"]):
        pool = WorkerPool(wanted, WorkerSettings(), 20.0)
        pool.start()
        try:
            await pool.warm()
            assert [row["state"] for row in pool.state()[0]["placement"]] == states
            ask = SpeakTask("a", VoiceAssets("v", "matrix"))
            assert np.array_equal(await spoken(pool, ask), np.full(1000, 0.5, np.float32))
            async with asyncio.timeout(60):
                while [row["state"] for row in pool.state()[0]["placement"]] != ["slower", "chosen"]:
                    await asyncio.sleep(0.1)
            assert np.array_equal(await spoken(pool, ask), np.full(1000, 0.5, np.float32))
        finally:
            await pool.stop()
