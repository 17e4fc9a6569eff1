"""Fine-tuning of GPT-SoVITS as a job: real children, real recordings, networks that are small and know nothing."""

from __future__ import annotations

import asyncio
import io
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

pytest.importorskip("torch", reason="GPT-SoVITS needs PyTorch (voiced[clone])")

from appliance.engine.gpt_sovits.training import rehearsal
from appliance.errors import InvalidInput, NotFound
from appliance.jobs.records import CloneRequest, Job
from appliance.voices.models import NewModel
from appliance.voices.records import NewConsent

READER = Path(__file__).parents[2] / "appliance/data/demo/two_cities.flac"
WORDS = "It was the best of times, it was the worst of times."
CLIPS = 4
Open = Callable[..., Any]


def spoken(seconds: float) -> bytes:
    """The beginning of a real reading."""
    samples, rate = soundfile.read(READER, dtype="float32", frames=int(seconds * soundfile.info(READER).samplerate))
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


async def bring_weights(box: Any, folder: Path, version: str = "v2", without: str = "") -> None:
    """As if an operator had imported them."""
    folder.mkdir()
    files = rehearsal.make_base(folder, version, "tiny")
    new = []
    for kind in ("s1", "s2", "s2d", "hubert", "bert", "sv"):
        if kind != without:
            told = {"s1": "v2", "s2": version, "s2d": version[:5]}.get(kind, "")
            pair = {"weights": files[kind], "config": files[f"{kind}_config"]}
            new.append(NewModel(f"base-{kind}", kind, told, pair, f"{kind}.pth", "0" * 64, 1, report={"missing": []}))
    await box.runner.models.add_all("main", new)


async def order(box: Any, voice: str = "anna", words: str = WORDS, steps: int = 2, **more: Any) -> Job:
    recordings = []
    for number in range(CLIPS):
        seconds = 4.8 + 0.1 * number
        recordings.append(await box.record(words, seconds=seconds, source=spoken(seconds), sample_rate=48_000))
    await box.consents.record("main", NewConsent("Anna", voice))
    ids = tuple(one.id for one in recordings)
    return await box.runner.submit_clone("main", CloneRequest(voice, ids, engine="gpt_sovits", steps=steps, **more))


async def finished(box: Any, job: Job) -> Job:
    return await box.until(job, lambda found: found.has_ended, 240.0)


async def test_recordings_become_a_voice_with_its_lineage(open_with: Open, tmp_path: Path) -> None:
    async with open_with(tmp_path, optimise=True) as box:
        await _become_a_voice(box, tmp_path)


async def _become_a_voice(box: Any, tmp_path: Path) -> None:
    version = "v2Pro"
    await bring_weights(box, tmp_path / "base", version)
    job = await order(box, base=("base-s1", "base-s2"), rank=2)
    ended = await finished(box, job)
    assert ended.state == "done", f"{ended.error} {box.log_of(job)}"
    version_made = await box.registry.resolve("main", ended.result["spec"])
    assert version_made.engine == "gpt_sovits"
    assert {"s1", "s1_config", "s2", "s2_config", "reference", "hubert", "bert"} <= version_made.files.keys()
    assert "sv" in version_made.files
    assert version_made.settings["transcript"] == WORDS
    assert version_made.lineage["base"] == version
    assert version_made.lineage["job"] == job.id
    learnt = version_made.metrics["adaptation"]
    assert (learnt["clips"], learnt["s2"]["updates"], learnt["s1"]["updates"]) == (CLIPS, 2, 2)
    assert learnt["plan"]["tokens"]["rank"] == 2
    base = await box.runner.models.get("main", "base-s1")
    assert version_made.files["s1"] != base.files["weights"]
    curves = {row["id"]: row["points"] for row in await box.runner.curves("main", job.id)}
    assert [step for step, _ in curves["learn_sound.mel"]] == [1, 2]
    assert [step for step, _ in curves["learn_tokens.cross_entropy"]] == [1, 2]
    samples = await box.runner.samples("main", job.id)
    assert [sample.id for sample in samples][:2] == ["learn_sound-1.wav", "learn_sound-2.wav"]
    assert soundfile.info(await box.runner.sample("main", job.id, samples[-1].id)).samplerate == 32_000
    async with asyncio.timeout(30):  # by itself, its networks are made ready for backends next
        while (following := (await box.runner.list("main")).items[0]).kind != "optimize":
            await asyncio.sleep(0.1)
    assert following.spec["voice"] == "anna"
    exported = {file["role"]: file["weights"] for file in following.spec["files"]}
    assert exported == {role: version_made.files[role] for role in ("s1", "s2", "bert", "hubert")}


@pytest.mark.skipif("VOICED_TEST_KILLS" not in os.environ, reason="minutes; tests/engine has a short form")
async def test_killed_at_random_moments_it_ends_with_the_weights_of_an_unbroken_run(box: Any, tmp_path: Path) -> None:
    """VOICED_TEST_KILLS says how often."""
    kills, chance = int(os.environ["VOICED_TEST_KILLS"]), random.Random(11)
    await bring_weights(box, tmp_path / "base")
    unbroken = await finished(box, await order(box, "whole", steps=4))
    assert unbroken.state == "done", unbroken.error
    job = await order(box, "broken", steps=4)
    for kill in range(kills):
        await box.until(job, lambda found: found.has_ended or box.runner._child is not None, 60)
        await asyncio.sleep(chance.random() * 10.0)
        await box.until(job, lambda found: found.has_ended or box.runner._child is not None, 60)
        if box.runner._child is None:
            break
        os.kill(box.runner._child[1].pid, signal.SIGKILL)
        await box.until(job, lambda found, kill=kill: found.has_ended or found.crashes > kill, 60)
    ended = await finished(box, job)
    assert ended.state == "done", f"{ended.error} {box.log_of(job)}"
    whole, broken = [await box.registry.resolve("main", one.result["spec"]) for one in (unbroken, ended)]
    print(f"killed {ended.crashes} times")
    assert ended.crashes > 0
    assert {role: whole.files[role] for role in ("s1", "s2", "reference")} == {
        role: broken.files[role] for role in ("s1", "s2", "reference")
    }


async def test_what_is_missing_is_told_before_anything_is_queued(box: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as nothing:
        await order(box)
    assert nothing.value.code == "training_base_missing"
    await bring_weights(box, tmp_path / "judgeless", without="s2d")
    with pytest.raises(NotFound) as judgeless:
        await order(box)
    assert (judgeless.value.code, judgeless.value.measured["kind"]) == ("model_helper_missing", "s2d")
    with pytest.raises(NotFound) as unknown:
        await order(box, base=("base-s1", "nobody-knows"))
    assert unknown.value.code == "model_not_imported"
    with pytest.raises(InvalidInput) as tone:
        await box.runner.submit_clone(
            "main", CloneRequest("anna", ((await box.record("x")).id,), engine="tone", base=("a", "b"))
        )
    assert tone.value.code == "engine_takes_no_weights"


async def test_clips_that_cannot_be_trained_on_end_the_job_with_the_reason(box: Any, tmp_path: Path) -> None:
    await bring_weights(box, tmp_path / "base")
    ended = await finished(box, await order(box, words="今天下雨了，我们去看海。"))
    assert (ended.state, ended.error["code"]) == ("failed", "training_nothing_usable"), f"{ended} {box.log_of(ended)}"
    assert ended.error["measured"] == {"clips": CLIPS, "reasons": f"clip_language_differs ×{CLIPS}"}
    assert ended.as_json("zh")["error"]["remedy"]


async def test_weights_that_are_gone_when_the_job_begins_fail_it_with_the_reason(box: Any, tmp_path: Path) -> None:
    await bring_weights(box, tmp_path / "base")
    await box.runner.stop()
    job = await order(box)
    await box.runner.models.remove("main", "base-s1")
    box.runner = box.new_runner()
    await box.runner.start()
    ended = await finished(box, job)
    assert (ended.state, ended.error["code"]) == ("failed", "model_not_imported")
