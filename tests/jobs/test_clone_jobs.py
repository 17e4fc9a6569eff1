"""Clone jobs with real child processes; the engine is a tone, everything around it is the product."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import pytest

from appliance.errors import Conflict, Forbidden, InvalidInput, NotFound, StorageFull
from appliance.jobs.records import CloneRequest, Job
from appliance.voices.records import NewConsent, NewVoice


async def test_a_clone_is_adapted_examined_filed_and_promoted(box: Any) -> None:
    job = await box.submit("hello", steps=5)
    stages, fractions = [], []
    async for row in box.runner.events("main", job.id):
        stages.append(row.stage)
        fractions.append(row.fraction)
    assert row.state == "done", f"{row.error} {box.log_of(job)}"
    assert stages[-1] == "done" and fractions == sorted(fractions) and fractions[-1] == 1.0

    result = row.result
    assert (result["spec"], result["verdict"], result["promoted"]) == ("anna@1", "passed", True), result["exam"][
        "reasons"
    ]
    version = await box.registry.resolve("main", "anna")
    assert version.lineage["job"] == job.id and version.lineage["recordings"] == job.spec["recordings"]
    assert version.lineage["base"] == "tone-300" and version.lineage["engine_version"] == "tone-1"
    assert version.settings["sample_rate"] == 24_000 and -60 < version.settings["lufs"] < 0
    adaptation = version.metrics["adaptation"]
    assert (adaptation["nice"], adaptation["threads"]) == (min(19, os.nice(0) + 7), "1")
    if os.geteuid() == 0:
        assert adaptation["interfaces"] == []  # the child sees no network

    assets = await box.registry.assets(version)
    assert set(assets.files) == {"tone"}
    assert json.loads(assets.files["tone"].read_bytes())["hz"] == pytest.approx(210, abs=1)
    summary = version.metrics["exam"]["summary"]
    assert summary["clone"]["llr"] > summary["base"]["llr"] and summary["clone"]["error"] == {
        "en": 0,
        "zh": 0,
        "mixed": 0,
    }
    assert abs(summary["clone"]["f0_drift_semitones"]) < 0.5 < abs(summary["base"]["f0_drift_semitones"])
    sentence = version.metrics["exam"]["sentences"][0]
    assert sentence["clone"]["heard"] == sentence["text"]
    assert box.blobs.path(sentence["audio"]["clone"]).read_bytes()[:4] == b"RIFF"
    assert box.blobs.path(version.files["exam:picture:base:0"]).read_bytes().startswith(b"\x89PNG")
    assert summary["clone"]["speaker_cosine"] > summary["base"]["speaker_cosine"] and summary["closeness"] > 0.5
    assert summary["clone"]["cer"] == {"en": 0, "zh": 0, "mixed": 0}
    assert (summary["clone"]["dropped_share"], summary["clone"]["repeated"]) == (0, 0)
    lineage = version.lineage
    assert lineage["weights"] == {"tone": "0" * 64} and lineage["code"] and lineage["seed"] == 0
    assert list(lineage["clips"]) == job.spec["recordings"] and len(lineage["clips"][job.spec["recordings"][0]]) == 64
    assert sorted(path.name for path in (box.settings.state_dir / "jobs" / job.id).iterdir()) == [
        "curves.jsonl",
        "log.txt",
    ]
    move = (await box.registry.alias_moves("main", "anna"))[-1]
    assert job.id in move.reason


async def test_an_overfit_state_loses_to_an_earlier_one_and_a_person_promotes_where_the_tenant_says_so(
    tmp_path: Any, open_with: Any
) -> None:
    async with open_with(tmp_path, promoted_by_person=("main",)) as careful:
        ended = await careful.finished(await careful.submit("overfit", steps=5))
        exam = ended.result["exam"]
        assert (ended.result["verdict"], exam["chosen"]) == ("passed", 0), exam["reasons"]
        assert [candidate["verdict"] for candidate in exam["candidates"]] == ["passed", "failed"]
        version = await careful.registry.resolve("main", "anna@1")
        assert version.settings["shade"] == 0
        assert json.loads((await careful.registry.assets(version)).files["tone"].read_bytes())["mumbles"] is False
        assert not ended.result["promoted"] and (await careful.registry.get_voice("main", "anna")).current is None


async def test_a_tenants_policy_leaves_promotion_to_a_person(box: Any) -> None:
    row = ("main", "main", "{}", "2026", json.dumps({"by_person": True}))
    query = "INSERT INTO tenants (id, title, quota, created_at, policy) VALUES (?, ?, ?, ?, ?)"
    await box.db.write(lambda db: db.execute(query, row) and None)
    ended = await box.finished(await box.submit("hello", steps=3))
    assert ended.result["passed"] and not ended.result["promoted"]


async def test_of_many_clips_some_are_held_out_and_only_the_examination_hears_them(box: Any) -> None:
    clips = [await box.record(f"Sentence number {n}.", seconds=4.0, hz=205.0 + n) for n in range(7)]
    await box.consents.record("main", NewConsent("Anna", "anna"))
    request = CloneRequest("anna", tuple(clip.id for clip in clips), steps=3)
    job = await box.runner.submit_clone("main", request)
    ended = await box.finished(job)
    dataset = await box.runner._cloning._rooms.datasets.get("main", job.spec["dataset"])
    kept = {clip["recording"] for clip in dataset.clips if clip["held_out"]}
    assert len(kept) == 2 and dataset.stats["held_out"] == 2
    rows = [row for row in ended.result["exam"]["sentences"] if row["is_held_out"]]
    assert {row["text"] for row in rows} == {clip.transcript for clip in clips if clip.id in kept}
    assert all(row["audio"]["real"] and row["audio"]["clone"] for row in rows)


async def test_kill_9_of_the_child_resumes_from_the_checkpoint_to_the_same_voice(box: Any) -> None:
    unbroken = await box.finished(await box.submit("x", steps=120, voice="whole"))
    job = await box.submit("x", steps=120, voice="broken")
    await box.until(job, lambda found: found.stage == "fit")
    os.kill(box.runner._child[1].pid, signal.SIGKILL)
    ended = await box.finished(job)
    assert (ended.state, ended.crashes) == ("done", 1), ended.error
    assert ended.result["adaptation"]["began"] > 0
    whole = await box.registry.resolve("main", unbroken.result["spec"])
    broken = await box.registry.resolve("main", ended.result["spec"])
    assert whole.files["tone"] == broken.files["tone"]


async def test_killed_again_and_again_at_other_moments_it_still_ends_the_same(box: Any) -> None:
    unbroken = await box.finished(await box.submit("x", steps=250, voice="whole"))
    job = await box.submit("x", steps=250, voice="broken")
    for kill in range(3):
        await box.until(job, lambda found, kill=kill: found.stage == "fit" and found.fraction > 0.15 * (kill + 1))
        os.kill(box.runner._child[1].pid, signal.SIGKILL)
        await box.until(job, lambda found, kill=kill: found.crashes > kill)
    ended = await box.finished(job)
    assert (ended.state, ended.crashes) == ("done", 3), ended.error
    whole, broken = [await box.registry.resolve("main", one.result["spec"]) for one in (unbroken, ended)]
    assert whole.files["tone"] == broken.files["tone"]


async def test_a_child_that_dies_at_one_place_every_time_fails_with_reason_and_remedy(box: Any) -> None:
    ended = await box.finished(await box.submit("crash"))
    assert (ended.state, ended.crashes, ended.error["code"]) == ("failed", 4, "job_crashed")
    for language in ("en", "zh"):
        told = ended.as_json(language)["error"]
        assert told["message"] != "job_crashed.message" and told["remedy"] and "-9" in told["message"]
    with pytest.raises(NotFound):
        await box.registry.get_voice("main", "anna")


async def test_a_running_job_is_cancelled_with_its_whole_process_group_even_a_stubborn_one(
    box: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("appliance.jobs.process.GRACE_S", 0.5)
    job = await box.submit("stubborn", steps=10_000)
    await box.until(job, lambda found: found.stage == "fit")
    pid = box.runner._child[1].pid
    cancelled = await asyncio.wait_for(box.runner.cancel("main", job.id), 10)
    ended = await box.finished(job)
    assert ended.state == "cancelled" and cancelled.is_cancelling and ended.error is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (await box.runner.cancel("main", job.id)).state == "cancelled"


async def test_a_running_job_rests_over_a_restart_and_goes_on_to_the_same_voice(box: Any) -> None:
    unbroken = await box.finished(await box.submit("x", steps=120, voice="whole"))
    job = await box.submit("x", steps=120, voice="paused")
    await box.until(job, lambda found: found.stage == "fit" and found.fraction > 0.2)
    await asyncio.wait_for(box.runner.pause("main", job.id), 10)
    resting = await box.until(job, lambda found: found.state == "paused")
    assert (resting.stage, resting.is_pausing, resting.crashes) == ("paused", False, 0)
    other = await box.finished(await box.submit("y", voice="meanwhile"))
    assert other.state == "done"
    await box.runner.stop()
    box.runner = box.new_runner()
    await box.runner.start()
    assert (await box.runner.get("main", job.id)).state == "paused"
    await box.runner.resume("main", job.id)
    ended = await box.finished(job)
    assert (ended.state, ended.crashes) == ("done", 0) and ended.result["adaptation"]["began"] > 0
    whole, paused = [await box.registry.resolve("main", one.result["spec"]) for one in (unbroken, ended)]
    assert whole.files["tone"] == paused.files["tone"]
    with pytest.raises(Conflict) as late:
        await box.runner.pause("main", job.id)
    assert late.value.code == "job_has_ended"


async def test_a_waiting_job_rests_at_once_and_a_resting_one_can_be_cancelled(box: Any) -> None:
    await box.runner.stop()
    job = await box.submit("x")
    assert (await box.runner.pause("main", job.id)).state == "paused"
    assert (await box.runner.pause("main", job.id)).state == "paused"
    assert await box.runner._queue.claim() is None
    assert (await box.runner.cancel("main", job.id)).state == "cancelled"


async def test_a_job_that_is_resumed_while_it_stops_simply_goes_on(box: Any) -> None:
    job = await box.submit("x", steps=100)
    await box.until(job, lambda found: found.stage == "fit")
    await box.runner._queue.ask_to_pause("main", job.id)
    stopping = asyncio.create_task(box.runner._child[1].stop())
    await box.runner.resume("main", job.id)
    await stopping
    ended = await box.finished(job)
    assert (ended.state, ended.crashes) == ("done", 0)


async def test_curves_are_kept_without_gaps_over_a_crash(box: Any) -> None:
    job = await box.submit("crash once", steps=8)
    ended = await box.finished(job)
    assert (ended.state, ended.crashes) == ("done", 1)
    (curve,) = await box.runner.curves("main", job.id)
    assert (curve["id"], curve["stage"]) == ("fit.loss", "fit")
    assert curve["points"] == [[step, pytest.approx(1 / step, rel=1e-5)] for step in range(1, 9)]
    with pytest.raises(NotFound):
        await box.runner.curves("other", job.id)


async def test_a_waiting_job_is_cancelled_at_once(box: Any) -> None:
    running = await box.submit("one", steps=10_000)
    waiting = await box.submit("two", voice="second")
    assert (await box.runner.cancel("main", waiting.id)).state == "cancelled"
    await box.runner.cancel("main", running.id)
    assert (await box.finished(running)).state == "cancelled"


async def test_stopping_the_daemon_puts_the_job_back_and_the_next_one_goes_on(box: Any) -> None:
    job = await box.submit("x", steps=100)
    await box.until(job, lambda found: found.stage == "fit" and found.fraction > 0.1)
    await box.runner.stop()
    assert (await box.runner.get("main", job.id)).state == "queued"
    box.runner = box.new_runner()
    await box.runner.start()
    ended = await box.finished(job)
    assert (ended.state, ended.crashes) == ("done", 0) and ended.result["adaptation"]["began"] > 0


async def test_a_row_left_running_by_a_killed_daemon_is_taken_up_at_the_next_start(box: Any) -> None:
    await box.runner.stop()
    job = await box.submit("x")
    assert (await box.runner._queue.claim()).id == job.id
    box.runner = box.new_runner()
    await box.runner.start()
    assert (await box.finished(job)).state == "done"


async def test_an_error_of_the_engine_keeps_its_code_and_figures(box: Any) -> None:
    ended = await box.finished(await box.submit("raise", steps=5))
    assert ended.error == {
        "kind": "InvalidInput",
        "code": "speech_too_short",
        "measured": {"duration_s": 0.1, "required_s": 1.0},
    }


async def test_a_full_disk_fails_no_job(box: Any) -> None:
    ended = await box.finished(await box.submit("full", steps=5))
    assert ended.state == "done" and ended.result["adaptation"]["began"] == 3


async def test_the_failure_of_a_job_is_written_once_the_disk_takes_it(box: Any, monkeypatch: Any) -> None:
    queue, refusals = box.runner._queue, iter([True, True])
    end = queue.end

    async def ends_late(*given: Any, **more: Any) -> Any:
        if next(refusals, False):
            raise StorageFull("storage_full", path="/", free_mb=0)
        return await end(*given, **more)

    async def refuses(job: Any) -> Any:
        raise NotFound("recording_not_found", recording="rec_1")

    monkeypatch.setattr(queue, "end", ends_late)
    monkeypatch.setattr(box.runner._kinds["clone"], "child_spec", refuses)
    ended = await box.finished(await box.submit("hello"))
    assert (ended.state, ended.error["code"]) == ("failed", "recording_not_found")


async def test_a_clone_that_fails_its_examination_is_kept_but_not_promoted(box: Any) -> None:
    ended = await box.finished(await box.submit("mumble, shrill"))
    assert ended.state == "done" and ended.result["verdict"] == "failed" and not ended.result["promoted"]
    reasons = ended.as_json("zh")["result"]["exam"]["reasons"]
    assert {"exam_misheard_en", "exam_misheard_zh", "exam_pitch_drift"} <= {reason["code"] for reason in reasons}
    assert all(reason["remedy"] and "{" not in reason["message"] for reason in reasons)
    with pytest.raises(NotFound) as waiting:
        await box.registry.resolve("main", "anna")
    assert waiting.value.code == "voice_not_ready"
    assert (await box.registry.resolve("main", "anna@1")).metrics["exam"]["passed"] is False


async def test_withdrawn_consent_ends_the_running_job(box: Any) -> None:
    job = await box.submit("x", steps=10_000)
    await box.until(job, lambda found: found.stage == "fit")
    consent = (await box.consents.list("main")).items[0]
    await box.consents.revoke("main", consent.id)
    ended = await asyncio.wait_for(box.finished(job), 5)
    assert (ended.state, ended.error["code"]) == ("failed", "consent_revoked")


async def test_what_cannot_be_cloned_is_refused_before_it_is_queued(box: Any) -> None:
    good, bad, short = await box.record("x"), await box.record(accepted=False), await box.record(seconds=5.0)
    await box.consents.record("main", NewConsent("Anna", "anna"))
    theirs = await box.record(tenant="other")
    bob, eve = await box.record(speaker="bob", hz=200.0), await box.record(speaker="eve", hz=190.0)
    await box.registry.create_voice("main", NewVoice("tone-300", origin="starter"))
    for request, kind, code in (
        (CloneRequest("anna", (bad.id,)), InvalidInput, "dataset_empty"),
        (CloneRequest("anna", ()), InvalidInput, "dataset_empty"),
        (CloneRequest("anna", (short.id, short.id)), InvalidInput, "dataset_too_short"),
        (CloneRequest("anna", (bob.id, eve.id)), InvalidInput, "dataset_mixed_speakers"),
        (CloneRequest("anna", (good.id, theirs.id)), NotFound, "recording_not_found"),
        (CloneRequest("anna", ("rec_none",)), NotFound, "recording_not_found"),
        (CloneRequest("Anna!", (good.id,)), InvalidInput, "voice_id_invalid"),
        (CloneRequest("anna", (good.id,), language="tlh"), InvalidInput, "language_unknown"),
        (CloneRequest("anna", (good.id,), steps=0), InvalidInput, "steps_out_of_range"),
        (CloneRequest("nobody-agreed", (good.id,)), Forbidden, "consent_missing"),
        (CloneRequest("tone-300", (good.id,)), Forbidden, "starter_voice_protected"),
    ):
        with pytest.raises(kind) as refused:
            await box.runner.submit_clone("main", request)
        assert refused.value.code == code
        assert refused.value.message("zh") != refused.value.message("en") != f"{code}.message"
    assert (await box.runner.list("main")).items == ()


async def test_another_tenants_job_does_not_exist(box: Any) -> None:
    job = await box.submit("x", steps=10_000)
    for attempt in (
        box.runner.get("other", job.id),
        box.runner.cancel("other", job.id),
        anext(box.runner.events("other", job.id)),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert (await box.runner.list("other")).items == ()
    assert not (await box.runner.get("main", job.id)).is_cancelling
    await box.runner.cancel("main", job.id)


async def test_without_a_recogniser_a_person_decides(box: Any) -> None:
    deaf = box.settings.engine.model_copy(update={"transcriber": "none"})
    box.settings = box.settings.model_copy(update={"engine": deaf})
    await box.runner.stop()
    box.runner = box.new_runner()
    await box.runner.start()
    ended = await box.finished(await box.submit("x"))
    assert (ended.state, ended.result["verdict"], ended.result["promoted"]) == ("done", "needs_person", False)
    assert {reason["code"] for reason in ended.result["exam"]["reasons"]} == {"exam_not_measured"}
    await box.registry.promote("main", "anna", 1)
    assert (await box.registry.resolve("main", "anna")).number == 1


async def test_one_sound_uploaded_twice_counts_once(box: Any) -> None:
    twins = [await box.record(seconds=8.0) for _ in range(2)]
    await box.consents.record("main", NewConsent("Anna", "anna"))
    with pytest.raises(InvalidInput) as short:
        await box.runner.submit_clone("main", CloneRequest("anna", tuple(twin.id for twin in twins)))
    assert short.value.measured == {"speech_s": 8.0, "min_speech_s": 15.0}


async def test_a_recording_that_rots_before_the_job_runs_fails_it_with_the_reason(box: Any) -> None:
    await box.runner.stop()
    job: Job = await box.submit("x")
    recording = await box.recordings.get("main", job.spec["recordings"][0])
    path = await box.recordings.path(recording)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[5000] ^= 4
    path.write_bytes(content)
    box.runner = box.new_runner()
    await box.runner.start()
    assert (await box.finished(job)).error["code"] == "blob_corrupt"


async def test_a_child_that_was_stopped_can_still_be_cancelled(box: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("appliance.jobs.process.GRACE_S", 0.5)
    job = await box.submit("x", steps=10_000)
    await box.until(job, lambda found: found.stage == "fit")
    os.kill(box.runner._child[1].pid, signal.SIGSTOP)
    await box.runner.cancel("main", job.id)
    assert (await box.finished(job)).state == "cancelled"
