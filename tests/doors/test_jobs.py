"""Jobs over HTTP: ordered, refused, watched live, cancelled. What a job does is tested in its own room."""

from __future__ import annotations

import asyncio
import json

import pytest
from open_box import open_box

from appliance.audio.files import read_audio
from appliance.contracts import QualityReport
from appliance.voices.records import NewRecording

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def call(box, method, path, status, **options):
    async with box.client.request(method, path, **options) as answer:
        body = await answer.json(content_type=None)
        assert answer.status == status, body
        return body


async def file_recording(box, content: bytes) -> str:
    """A labelled recording, filed without the examination that an upload goes through."""
    report = QualityReport(True, (), (), {"duration_s": 20.0, "sample_rate": 24_000})
    new = NewRecording(content, "a.wav", 20.0, 24_000, report, "It was the best of times.", "en", "given", "reader")
    return (await box.services.recordings.add("main", new)).id


async def agree(box, voice: str) -> None:
    order = {"speaker": "reader", "voice": voice, "purposes": ["clone", "speak"]}
    await call(box, "POST", "/v1/consents", 201, json=order)


async def watch(box, job_id: str) -> list[dict]:
    rows = []
    async with box.client.get(f"/v1/jobs/{job_id}/events") as answer:
        assert answer.content_type == "text/event-stream"
        async for line in answer.content:
            if line.startswith(b"data: "):
                rows.append(json.loads(line[6:]))
    return rows


async def test_a_clone_without_consent_is_refused(box, spoken_wav):
    order = {"kind": "clone", "voice": "nobody-asked", "recordings": [await file_recording(box, spoken_wav)]}
    assert (await call(box, "POST", "/v1/jobs", 403, json=order))["code"] == "consent_missing"


async def test_orders_that_make_no_sense_are_refused(box):
    order = {"kind": "clone", "voice": "anna", "recordings": ["rec_0"]}
    assert (await call(box, "POST", "/v1/jobs", 422, json={**order, "kind": "teleport"}))["code"] == "field_invalid"
    assert (await call(box, "POST", "/v1/jobs", 422, json={**order, "voice": "Anna!"}))["code"] == "field_invalid"
    assert (await call(box, "POST", "/v1/jobs", 422, json={**order, "recordings": []}))["code"] == "field_invalid"
    await agree(box, "anna")
    assert (await call(box, "POST", "/v1/jobs", 404, json=order))["code"] == "recording_not_found"
    for method, path in (
        ("GET", "job_0"),
        ("GET", "job_0/events"),
        ("DELETE", "job_0"),
        ("POST", "job_0/cancel"),
        ("POST", "job_0/pause"),
        ("POST", "job_0/resume"),
        ("GET", "job_0/curves"),
        ("GET", "job_0/samples"),
        ("GET", "job_0/samples/fit-1.wav"),
    ):
        assert (await call(box, method, f"/v1/jobs/{path}", 404))["code"] == "job_not_found"


async def test_a_job_is_watched_live_to_its_end_and_says_why_it_failed(box, spoken_wav):
    await agree(box, "toneless")
    order = {"kind": "clone", "voice": "toneless", "recordings": [await file_recording(box, spoken_wav)], "title": "T"}
    job = await call(box, "POST", "/v1/jobs", 202, json=order)
    assert job["state"] == "queued" and job["id"].startswith("job_")
    async with asyncio.timeout(40):
        rows = await watch(box, job["id"])
    assert rows[-1]["state"] == "failed"  # tones cannot be cloned
    assert rows[-1]["error"]["message"] and rows[-1]["error"]["remedy"]
    assert job["id"] in {row["id"] for row in (await call(box, "GET", "/v1/jobs", 200))["items"]}
    again = await watch(box, job["id"])  # who comes late is told the end at once
    assert [row["state"] for row in again] == ["failed"]


async def test_live_events_end_when_the_box_stops(tmp_path, spoken_wav):
    async with open_box(tmp_path) as stopping:
        await stopping.services.jobs.stop()  # so that the job stays queued
        await agree(stopping, "anna")
        recording = await file_recording(stopping, spoken_wav)
        job = await call(
            stopping, "POST", "/v1/jobs", 202, json={"kind": "clone", "voice": "anna", "recordings": [recording]}
        )
        answer = await stopping.client.get(f"/v1/jobs/{job['id']}/events")
        assert b"queued" in await answer.content.readuntil(b"\n\n")
        cancelled = await call(stopping, "DELETE", f"/v1/jobs/{job['id']}", 202)
        assert cancelled["state"] == "cancelled"
        other = await call(
            stopping, "POST", "/v1/jobs", 202, json={"kind": "clone", "voice": "anna", "recordings": [recording]}
        )
        answer = await stopping.client.get(f"/v1/jobs/{other['id']}/events")
        await answer.content.readuntil(b"\n\n")
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 5


async def test_a_resting_job_over_http_with_its_curves_and_samples(tmp_path, spoken_wav):
    async with open_box(tmp_path) as resting:
        await resting.services.jobs.stop()  # so that the job stays queued
        await agree(resting, "anna")
        recording = await file_recording(resting, spoken_wav)
        order = {"kind": "clone", "voice": "anna", "recordings": [recording]}
        path = f"/v1/jobs/{(await call(resting, 'POST', '/v1/jobs', 202, json=order))['id']}"
        assert (await call(resting, "POST", f"{path}/pause", 202, json={}))["state"] == "paused"
        assert (await call(resting, "POST", f"{path}/resume", 202))["state"] == "queued"
        folder = tmp_path / "jobs" / path.rpartition("/")[2]
        (folder / "samples").mkdir(parents=True)
        (folder / "samples/learn_sound-40.wav").write_bytes(spoken_wav)
        (folder / "curves.jsonl").write_text('{"stage": "fit", "step": 1, "loss": 2.5}\n{"stage": "fit", "st')
        curves = (await call(resting, "GET", f"{path}/curves", 200))["items"]
        assert curves == [{"id": "fit.loss", "stage": "fit", "name": "loss", "points": [[1, 2.5]]}]
        (sample,) = (await call(resting, "GET", f"{path}/samples", 200))["items"]
        assert (sample["id"], sample["step"]) == ("learn_sound-40.wav", 40)
        async with resting.client.get(f"{path}/samples/{sample['id']}") as answer:
            body = await answer.read()
            assert (answer.content_type, answer.headers["X-AI-Generated"]) == ("audio/wav", "true")
            assert len(read_audio(body).samples) == len(read_audio(spoken_wav).samples)
            assert body != spoken_wav  # marked as it leaves
        problem = await call(resting, "GET", f"{path}/samples/..%2Fcurves.jsonl", 404)
        assert problem["code"] == "job_sample_not_found"
        await call(resting, "DELETE", path, 202)
        assert (await call(resting, "POST", f"{path}/pause", 409))["code"] == "job_has_ended"
