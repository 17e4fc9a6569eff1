"""The engine in its real place: worker processes without a network, real front ends, two voices asked for at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from appliance.contracts import SpeakTask, VoiceAssets
from appliance.errors import VoicedError
from appliance.settings import IntakeSettings, PluginSettings, WorkerSettings
from appliance.workers import WorkerPool, WorkerSpec

pytest.importorskip("jieba")
pytest.importorskip("pypinyin")

TEXT = "欢迎再来。"


async def spoken(pool: WorkerPool, task: SpeakTask) -> np.ndarray:
    ticket = await pool.begin(task, priority=0)
    return np.concatenate([chunk.audio.samples async for chunk in ticket.chunks()])


async def test_two_voices_in_two_workers(tmp_path: Path, anna: VoiceAssets, bruno: VoiceAssets) -> None:
    spec = WorkerSpec("", "gpt_sovits", (), "", 1, tmp_path, PluginSettings(), tmp_path / "plugins", IntakeSettings())
    pool = WorkerPool(spec, WorkerSettings(count=2), 60.0)
    pool.start()
    tasks = [SpeakTask(TEXT, voice, "zh", seed=seed) for seed in range(2) for voice in (anna, bruno)]
    try:
        alone = [await spoken(pool, task) for task in tasks]
        together = await asyncio.gather(*(spoken(pool, task) for task in reversed(tasks)))
        with pytest.raises(VoicedError, match="text_not_speakable"):
            await spoken(pool, SpeakTask("。。。", anna, "zh"))
        after = await spoken(pool, tasks[0])
    finally:
        await pool.stop()
    for left, right in zip(alone, reversed(together), strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(after, alone[0])
