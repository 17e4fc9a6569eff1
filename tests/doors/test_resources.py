"""Voices, consents, recordings, announcements, plugins' routes and what operators look at."""

from __future__ import annotations

import base64

import aiohttp
import numpy as np
import pytest
from open_box import TEXT, wav

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def call(box, method, path, status=200, **options):
    async with box.client.request(method, path, **options) as answer:
        body = await answer.json(content_type=None) if answer.status != 204 else None
        assert answer.status == status, body
        return body


async def upload(box, content: bytes, status=201, path="/v1/recordings", name="clip.wav", **fields):
    form = aiohttp.FormData(quote_fields=False)
    for key, value in fields.items():
        form.add_field(key, value)
    form.add_field("file", content, filename=name, content_type="application/octet-stream")
    return await call(box, "POST", path, status, data=form)


async def test_voices_are_listed_page_by_page(box):
    first = await call(box, "GET", "/v1/voices", params={"limit": "2"})
    assert len(first["items"]) == 2 and first["next"]
    rows, cursor = first["items"], first["next"]
    while cursor:
        page = await call(box, "GET", "/v1/voices", params={"limit": "2", "cursor": cursor})
        rows, cursor = rows + page["items"], page["next"]
    own = [row for row in rows if row["id"].startswith("sine-")]  # other tests of this box make voices, too
    assert [row["id"] for row in own] == ["sine-220", "sine-330", "sine-440", "sine-550", "sine-660"]
    assert all(row["current"] for row in own) and not any("tenant" in row for row in rows)
    for strange in (
        "!",
        base64.urlsafe_b64encode(b'["\\ud800"]').decode(),
        base64.urlsafe_b64encode(b"[[1]]").decode(),
        base64.urlsafe_b64encode(b"[" * 300).decode(),
    ):
        assert (await call(box, "GET", "/v1/voices", 422, params={"cursor": strange}))["code"] == "cursor_invalid"
    assert (await call(box, "GET", "/v1/voices", 422, params={"limit": "0"}))["code"] == "field_invalid"


async def test_a_version_is_looked_at_promoted_and_a_voice_retired(box):
    versions = await call(box, "GET", "/v1/voices/sine-660/versions")
    assert [row["id"] for row in versions["items"]] == ["sine-660@1"] and versions["next"] is None
    assert (await call(box, "GET", "/v1/voices/sine-660/versions/1"))["engine"] == "sine"
    assert (await call(box, "GET", "/v1/voices/sine-660/versions/9", 404))["code"] == "version_not_found"
    assert (await call(box, "GET", "/v1/voices/sine-660/versions/x", 404))["code"] == "version_not_found"
    assert (await call(box, "POST", "/v1/voices/sine-660/promote", json={"version": 1}))["current"] == 1
    assert (await call(box, "POST", "/v1/voices/sine-660/promote", 404, json={"version": 2}))[
        "code"
    ] == "version_not_found"
    await call(box, "DELETE", "/v1/voices/sine-660", 204)
    assert (await call(box, "GET", "/v1/voices/sine-660", 404))["code"] == "voice_not_found"
    params = {"speaker": "sine-660", "text": TEXT}
    assert (await call(box, "GET", "/tts", 404, params=params))["code"] == "voice_not_found"


async def test_a_good_recording_is_kept_labelled_heard_corrected_and_deleted(box, spoken_wav):
    row = await upload(box, spoken_wav, name="../../two cities.wav", speaker="reader-1")
    assert row["accepted"] and row["filename"] == "two cities.wav" and row["speaker"] == "reader-1"
    assert (row["transcript"], row["transcript_source"]) == ("every time the same words", "asr")
    assert row["duration_s"] == pytest.approx(8.0, abs=0.1)
    path = f"/v1/recordings/{row['id']}"
    async with box.client.get(f"{path}/audio") as answer:
        assert (answer.content_type, await answer.read()) == ("audio/wav", spoken_wav)
    changed = await call(box, "PATCH", path, json={"transcript": "It was the best of times", "language": "en"})
    assert (changed["transcript"], changed["transcript_source"]) == ("It was the best of times", "given")
    assert (await call(box, "GET", path))["transcript"] == "It was the best of times"
    assert row["id"] in {item["id"] for item in (await call(box, "GET", "/v1/recordings"))["items"]}
    await call(box, "DELETE", path, 204)
    assert (await call(box, "GET", path, 404))["code"] == "recording_not_found"


async def test_bare_bytes_are_taken_too_and_a_given_transcript_wins(box, spoken_wav):
    query = {"filename": "a.wav", "transcript": "What was read.", "language": "en"}
    row = await call(box, "POST", "/v1/recordings", 201, params=query, data=spoken_wav)
    assert (row["transcript"], row["transcript_source"], row["language"]) == ("What was read.", "given", "en")


async def test_a_recording_that_is_not_good_enough_is_refused_with_reasons_and_not_kept(box):
    before = await call(box, "GET", "/v1/recordings")
    problem = await upload(box, wav(np.zeros(5 * 24_000, np.float32)), 422)
    assert problem["code"] == "recording_refused"
    assert problem["reasons"] and problem["measured"]["duration_s"] == pytest.approx(5.0)
    assert all(reason["message"] and reason["remedy"] and reason["code"] for reason in problem["reasons"])
    assert await call(box, "GET", "/v1/recordings") == before
    kept = await upload(box, wav(np.zeros(5 * 24_000, np.float32)), 422, keep="true")
    row = await call(box, "GET", f"/v1/recordings/{kept['measured']['recording']}")
    assert row["accepted"] is False and row["report"]["reasons"][0]["message"]


@pytest.mark.parametrize("content", [b"", b"just text, whatever the name says", b"RIFF\x00\x00\x00\x00WAVE"])
async def test_what_is_no_sound_is_refused_with_a_code(box, content):
    form = aiohttp.FormData()
    form.add_field("file", content, filename="clip.wav", content_type="audio/wav")
    async with box.client.post("/v1/recordings", data=form) as answer:
        problem = await answer.json(content_type=None)
        assert 400 <= answer.status < 500
    assert problem["remedy"] and problem["code"] != "unforeseen_error"


async def test_a_verdict_alone_keeps_nothing(box):
    verdict = await upload(box, wav(np.zeros(5 * 24_000, np.float32)), 200, "/v1/recordings/check")
    assert verdict["accepted"] is False and verdict["measures"]["duration_s"] == pytest.approx(5.0)
    assert all(reason["message"] and reason["remedy"] for reason in verdict["reasons"])
    leftovers = list((box.services.settings.state_dir / "incoming").iterdir())
    assert leftovers == []


async def test_uploads_have_one_file_no_strange_fields_and_an_end(box, spoken_wav):
    assert (await upload(box, spoken_wav, 422, colour="red"))["code"] == "field_unknown"
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("transcript", "no file at all")
    assert (await call(box, "POST", "/v1/recordings", 422, data=form))["code"] == "field_missing"
    two = aiohttp.FormData()
    for _ in range(2):
        two.add_field("file", b"x", filename="x.wav")
    assert (await call(box, "POST", "/v1/recordings", 422, data=two))["code"] == "upload_one_file"
    broken = {"data": b"--a\r\nnot really", "headers": {"Content-Type": "multipart/form-data; boundary=a"}}
    assert (await call(box, "POST", "/v1/recordings", 400, **broken))["code"] == "request_malformed"
    limit = box.services.settings.http.max_upload_mb * 1_000_000
    large = {"data": b"0" * (limit + 1), "headers": {"Content-Type": "audio/wav"}}
    assert (await call(box, "POST", "/v1/recordings", 413, **large))["code"] == "body_too_large"


async def test_consents_are_recorded_listed_and_revoked(box):
    order = {"speaker": "anna", "voice": "anna", "purposes": ["clone", "speak"], "statement": "I agree."}
    consent = await call(box, "POST", "/v1/consents", 201, json=order)
    assert consent["revoked_at"] is None
    assert consent["id"] in {row["id"] for row in (await call(box, "GET", "/v1/consents"))["items"]}
    assert (await call(box, "DELETE", f"/v1/consents/{consent['id']}"))["revoked_at"]
    assert (await call(box, "DELETE", "/v1/consents/con_0", 404))["code"] == "consent_not_found"
    wrong = {**order, "purposes": ["anything"]}
    assert (await call(box, "POST", "/v1/consents", 422, json=wrong))["code"] == "purpose_unknown"


async def test_announcements_are_queued_listed_and_stopped(box):
    order = {"text": TEXT, "voice": "sine-440", "priority": "urgent", "volume": 0.5, "chime": False}
    row = await call(box, "POST", "/v1/announcements", 202, json=order)
    assert (row["state"], row["priority"]) == ("queued", "urgent")
    assert (await call(box, "GET", f"/v1/announcements/{row['id']}"))["id"] == row["id"]
    assert row["id"] in {item["id"] for item in (await call(box, "GET", "/v1/announcements"))["items"]}
    stopped = await call(box, "DELETE", f"/v1/announcements/{row['id']}")
    assert stopped["stopped"] == 1 and stopped["items"][0]["state"] == "cancelled"
    await call(box, "POST", "/v1/announcements", 202, json=order)
    assert (await call(box, "DELETE", "/v1/announcements"))["stopped"] >= 1
    assert (await call(box, "GET", "/v1/announcements/ann_0", 404))["code"] == "announcement_not_found"
    nobody = {**order, "voice": "nobody"}
    assert (await call(box, "POST", "/v1/announcements", 404, json=nobody))["code"] == "voice_not_found"
    loud = {**order, "volume": 2}
    assert (await call(box, "POST", "/v1/announcements", 422, json=loud))["code"] == "field_invalid"


async def test_operators_see_health_system_and_plugins(box):
    assert await call(box, "GET", "/healthz") == {"status": "ok"}
    assert (await call(box, "GET", "/readyz"))["is_ready"] is True
    system = await call(box, "GET", "/v1/system")
    assert system["box"]["name"] == "Counter" and system["storage"]["free_bytes"] > 0
    assert any(worker["state"] in ("ready", "busy") for worker in system["workers"])
    plugins = {row["id"]: row for row in (await call(box, "GET", "/v1/plugins"))["items"]}
    assert plugins["sine_engine"]["state"] == "active"


async def test_metrics_count_requests_by_route_and_measure_the_first_sound(box):
    async def scrape() -> dict[str, float]:
        async with box.client.get("/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            lines = (await answer.text()).splitlines()
        rows = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    before = await scrape()
    async with box.client.get("/tts", params={"speaker": "sine-440", "text": TEXT}) as answer:
        await answer.read()
    after = await scrape()
    for name in (
        'voiced_requests_total{method="GET",route="/tts",status="200"}',
        'voiced_first_sound_seconds_count{door="tts"}',
        'voiced_request_seconds_bucket{route="/tts",le="+Inf"}',
    ):
        assert after[name] == before.get(name, 0) + 1
    assert after["voiced_ready"] == 1
    assert "voiced_speech_queue" in after
    assert any(name.startswith("voiced_worker_restarts_total") for name in after)


async def test_plugins_bring_routes_under_x_and_nowhere_else(box):
    assert await call(box, "GET", "/x/weather", params={"city": "Ulm"}) == {"city": "Ulm", "is_raining": False}
    assert (await call(box, "GET", "/x/umbrella", 404))["code"] == "route_not_found"
    assert (await call(box, "GET", "/v1/elsewhere", 404))["code"] == "route_not_found"
