"""Narration along subtitles, over real doors: every cue starts when the file says."""

from __future__ import annotations

import asyncio
import io

import aiohttp
import numpy as np
import pytest
import soundfile

from appliance.publishing.subtitles import Cue, write_srt

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def dub(box, content: str, **fields):
    form = aiohttp.FormData()
    for key, value in fields.items():
        form.add_field(key, value)
    form.add_field("file", content.encode(), filename="film.srt")
    row = await box("POST", "/v1/dubbings", 202, data=form)
    for _ in range(1200):
        if row["state"] != "running":
            return row
        await asyncio.sleep(0.05)
        row = await box("GET", f"/v1/dubbings/{row['id']}")
    raise AssertionError(row)


async def test_cues_start_where_the_file_says_and_those_that_do_not_fit_are_told(box):
    cues = [Cue(1.0 + 4 * number, 4.0 + 4 * number, f"Sentence number {number}.") for number in range(8)]
    cues += [Cue(40.0, 40.3, "This one has a very short time to be spoken in."), Cue(41.0, 44.0, "The end.")]
    row = await dub(box, write_srt(cues), voice="sine-440", max_speed="1.5")
    assert row["state"] == "done", row
    assert row["counts"]["fits"] >= 8 and len(row["cues"]) == 10
    short = row["cues"][8]
    assert short["state"] in {"cut", "overruns"} and short["speed"] == 1.5
    async with box.box.client.get(f"/v1/dubbings/{row['id']}/track") as answer:
        samples, rate = soundfile.read(io.BytesIO(await answer.read()))
    for cue in cues:
        start = int(cue.start * rate)
        assert np.abs(samples[start - int(0.02 * rate) : start]).max() < 1e-3
        heard = np.flatnonzero(np.abs(samples[start : start + rate]) > 0.02)
        assert len(heard) and heard[0] / rate < 0.02
    async with box.box.client.get(f"/v1/dubbings/{row['id']}/cues/1/audio") as answer:
        assert answer.status == 200 and answer.content_type == "audio/flac"
    for number in ("99", "0", "0000001999"):
        assert (await box("GET", f"/v1/dubbings/{row['id']}/cues/{number}/audio", 404))["code"] == "cue_not_found"


async def test_bad_orders_are_refused_at_once(box):
    for content, fields, code in (
        ("no subtitles", {}, "subtitles_empty"),
        ("1\n00:00:01,000 -> 2\nx --> y\n", {}, "subtitles_unreadable"),
        (write_srt([Cue(1, 2, "Hi.")]), {"voice": "nobody"}, "voice_not_found"),
        (write_srt([Cue(1, 2, "Hi.")]), {"max_speed": "9"}, "field_invalid"),
    ):
        form = aiohttp.FormData()
        for key, value in fields.items():
            form.add_field(key, value)
        form.add_field("file", content.encode(), filename="film.srt")
        status = 404 if code == "voice_not_found" else 422
        assert (await box("POST", "/v1/dubbings", status, data=form))["code"] == code
