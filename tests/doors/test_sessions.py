"""A sheet is read over HTTP: prompt, clip, verdict, next; interrupted and taken up again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
import soundfile
from open_box import open_box, wav

pytestmark = pytest.mark.asyncio(loop_scope="session")
READER = Path(__file__).parents[2] / "appliance/data/demo/two_cities.flac"
OTHER = Path(__file__).parents[1] / "data/beckett.flac"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def box(tmp_path_factory):
    settings = {"engine": {"default": "sine", "transcriber": "listener"}}
    async with open_box(tmp_path_factory.mktemp("sessions"), **settings) as opened:
        yield opened


def read_aloud(start_s: float, end_s: float, path: Path = READER) -> bytes:
    samples, rate = soundfile.read(path, dtype="float32")
    return wav(samples[int(start_s * rate) : int(end_s * rate)], rate)


async def call(box, method, path, status=200, **options):
    async with box.client.request(method, path, **options) as answer:
        body = await answer.json(content_type=None)
        assert answer.status == status, body.get("reasons") or body
        return body


async def clip(box, session, content, heard, status=201, **fields):
    """Upload a clip; `heard` is what the recogniser hears in it."""
    (box.services.settings.state_dir / "cache" / "heard.txt").write_text(heard, encoding="utf-8")
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    form.add_field("file", content, filename="clip.wav", content_type="audio/wav")
    return await call(box, "POST", f"/v1/recording-sessions/{session['id']}/clips", status, data=form)


async def test_a_sheet_is_read_prompt_by_prompt_and_taken_up_again(box):
    sheet = await call(box, "GET", "/v1/prompts", params={"language": "en"})
    session = await call(box, "POST", "/v1/recording-sessions", 201, json={"speaker": "Reader", "language": "en"})
    assert session["next"] == sheet["items"][0] and not session["is_complete"]
    for number, start_s in enumerate((0, 8)):
        said = sheet["items"][number]
        answer = await clip(box, session, read_aloud(start_s, start_s + 7), said["text"])
        assert answer["recording"]["transcript"] == said["text"] and answer["recording"]["prompt"] == said["id"]
        assert (
            answer["recording"]["speaker"] == "Reader" and answer["recording"]["report"]["measures"]["word_error"] == 0
        )
        assert answer["next"] == sheet["items"][number + 1]
    assert answer["recording"]["report"]["measures"]["speaker_cosine"] is None  # 7 s are too little to know somebody by

    again = await call(box, "GET", f"/v1/recording-sessions/{session['id']}")  # another day, another browser
    assert again["next"] == sheet["items"][2] and len(again["recordings"]) == 2
    stranger = await clip(box, session, read_aloud(0, 9, OTHER), sheet["items"][2]["text"], 422)
    assert [reason["code"] for reason in stranger["reasons"]] == ["other_speaker"]
    same = await clip(box, session, read_aloud(20, 27), sheet["items"][2]["text"])
    assert same["recording"]["report"]["measures"]["speaker_cosine"] > 0.85

    reread = await clip(box, session, read_aloud(30, 37), sheet["items"][0]["text"], prompt=sheet["items"][0]["id"])
    assert reread["session"]["prompts"][0]["recording"] == reread["recording"]["id"]
    node = await call(box, "GET", f"/v1/lineage/session/{session['id']}")
    assert len(node["made_into"]) == 4
    assert session["id"] in {row["id"] for row in (await call(box, "GET", "/v1/recording-sessions"))["items"]}


async def test_a_clip_that_does_not_do_is_told_why_in_both_languages_and_nothing_is_kept(box):
    session = await call(box, "POST", "/v1/recording-sessions", 201, json={"speaker": "Reader", "language": "zh"})
    wrong = await clip(box, session, read_aloud(0, 7), "完全是另外一些话", 422)
    assert wrong["code"] == "recording_refused" and wrong["reasons"][0]["code"] == "wrong_words"
    assert wrong["reasons"][0]["remedy"].startswith("Please read again, because")
    silent = await clip(box, session, wav(np.zeros(5 * 24_000, np.float32)), "x", 422)
    assert silent["reasons"][0]["code"] == "recording_silent"
    headers = {"Accept-Language": "zh"}
    form = aiohttp.FormData()
    form.add_field("file", read_aloud(0, 7), filename="clip.wav")
    path = f"/v1/recording-sessions/{session['id']}/clips"
    told = await call(box, "POST", path, 422, data=form, headers=headers)
    assert told["reasons"][0]["remedy"].startswith("请重新朗读，因为")
    now = await call(box, "GET", f"/v1/recording-sessions/{session['id']}")
    assert now["recordings"] == [] and now["next"] == session["next"]


async def test_what_a_session_cannot_be_is_refused(box):
    for order in ({"speaker": "", "language": "zh"}, {"speaker": "A", "language": "tlh"}, {"language": "zh"}):
        assert (await call(box, "POST", "/v1/recording-sessions", 422, json=order))["remedy"]
    blank = {"speaker": "  ", "language": "zh"}
    assert (await call(box, "POST", "/v1/recording-sessions", 422, json=blank))["code"] == "session_speaker_missing"
    assert (await call(box, "GET", "/v1/recording-sessions/ses_0", 404))["code"] == "session_not_found"
    session = await call(box, "POST", "/v1/recording-sessions", 201, json={"speaker": "A", "language": "mixed"})
    unknown = await clip(box, session, read_aloud(0, 7), "x", 422, prompt="zh-1.99")
    assert unknown["code"] == "prompt_unknown"


async def test_words_that_are_given_and_not_heard_are_doubted_but_kept(box):
    (box.services.settings.state_dir / "cache" / "heard.txt").write_text("It was the best of times", encoding="utf-8")
    for words, doubts in (("今天天气真好，我们去公园。", ["transcript_doubtful"]), ("It was the best of times.", [])):
        form = aiohttp.FormData()
        form.add_field("transcript", words)
        form.add_field("file", read_aloud(0, 7), filename="clip.wav", content_type="audio/wav")
        row = await call(box, "POST", "/v1/recordings", 201, data=form)
        assert row["accepted"] and row["transcript"] == words
        assert [warning["code"] for warning in row["report"]["warnings"] if "doubt" in warning["code"]] == doubts


async def test_a_protected_voice_reads_no_sheet_and_is_cut_into_no_clips(box):
    before = {row["id"] for row in (await call(box, "GET", "/v1/recordings"))["items"]}
    form = aiohttp.FormData()
    form.add_field("name", "The reader")
    form.add_field("file", read_aloud(0, 40), filename="reader.wav")
    protected = await call(box, "POST", "/v1/protected-voices", 201, data=form)
    session = await call(box, "POST", "/v1/recording-sessions", 201, json={"speaker": "Someone", "language": "en"})
    refused = await clip(box, session, read_aloud(10, 19), session["next"]["text"], 403)
    assert refused["code"] == "voice_protected"
    form = aiohttp.FormData()
    form.add_field("file", READER.read_bytes(), filename="long.flac")
    job = await call(box, "POST", "/v1/recordings/long", 202, data=form)
    async with asyncio.timeout(100):
        while (row := await call(box, "GET", f"/v1/jobs/{job['id']}"))["state"] in ("queued", "running"):
            await asyncio.sleep(0.2)
    assert (row["state"], row["error"]["code"]) == ("failed", "voice_protected")
    assert {row["id"] for row in (await call(box, "GET", "/v1/recordings"))["items"]} == before
    async with box.client.delete(f"/v1/protected-voices/{protected['id']}") as answer:
        assert answer.status == 204
