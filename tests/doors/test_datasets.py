"""Datasets and long recordings over HTTP, with the real listener and the real job."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from open_box import open_box

pytestmark = pytest.mark.asyncio(loop_scope="session")
READER = Path(__file__).parents[2] / "appliance/data/demo/two_cities.flac"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def box(tmp_path_factory):
    async with open_box(tmp_path_factory.mktemp("datasets")) as opened:
        yield opened


async def call(box, method, path, status=200, **options):
    async with box.client.request(method, path, **options) as answer:
        body = await answer.json(content_type=None)
        assert answer.status == status, body
        return body


async def upload(box, path, status, **fields):
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    form.add_field("file", READER.read_bytes(), filename="cities.flac")
    return await call(box, "POST", path, status, data=form)


async def ended(box, job: str) -> dict:
    async with asyncio.timeout(100):
        while (row := await call(box, "GET", f"/v1/jobs/{job}"))["state"] in ("queued", "running"):
            await asyncio.sleep(0.2)
    return row


async def test_a_long_recording_is_cut_checked_labelled_and_becomes_a_dataset_with_a_survey(box):
    job = await upload(box, "/v1/recordings/long", 202, speaker="Reader", language="en")
    done = await ended(box, job["id"])
    assert done["state"] == "done", done
    rows = [await call(box, "GET", f"/v1/recordings/{one}") for one in done["result"]["recordings"]]
    assert len(rows) >= 4 and all(row["accepted"] and row["duration_s"] < 13 for row in rows)
    assert {row["transcript"] for row in rows} == {"every time the same words"}
    source = await call(box, "GET", f"/v1/recordings/{done['result']['source']}")
    assert source["accepted"] is False and source["report"]["reasons"][0]["code"] == "recording_is_source"
    async with box.client.get(f"/v1/recordings/{source['id']}/audio") as sound:
        assert await sound.read() == READER.read_bytes()  # untouched
    assert rows[0]["lineage"]["recording"] == source["id"] and rows[0]["lineage"]["end_s"] > 0
    corrected = await call(
        box,
        "PATCH",
        f"/v1/recordings/{rows[0]['id']}",
        json={"transcript": "It was the best of times.", "language": "en"},
    )
    assert corrected["transcript_source"] == "given"

    order = {"recordings": [row["id"] for row in rows]}
    dataset = await call(box, "POST", "/v1/datasets", 201, json=order)
    again = await call(box, "POST", "/v1/datasets", 201, json=order)
    assert again["id"] == dataset["id"] and len(dataset["digest"]) == 64
    shown = await call(box, "GET", f"/v1/datasets/{dataset['id']}")
    survey = shown["survey"]
    assert survey["clips"] == len(rows) and 0.3 < survey["minutes"] < 0.9 and survey["snr_db"]["median"] > 15
    assert sum(bar["count"] for bar in survey["snr"]) == len(rows) == sum(bar["count"] for bar in survey["lengths"])
    assert "ZH" in survey["coverage"]["en"]["missing"] and 0.3 < survey["coverage"]["en"]["share"] < 1
    assert 0.2 < survey["speaking_rate"]["en"] < 6
    async with box.client.get(shown["picture"], headers={"Accept-Language": "zh"}) as answer:
        picture = await answer.text()
        assert answer.content_type == "image/svg+xml" and "信噪比" in picture and picture.startswith("<svg")
    assert await call(box, "GET", f"/v1/datasets/{dataset['id']}") == shown  # kept, not made anew
    assert dataset["id"] in {row["id"] for row in (await call(box, "GET", "/v1/datasets"))["items"]}


async def test_what_makes_no_dataset_is_refused(box):
    assert (await call(box, "POST", "/v1/datasets", 404, json={"recordings": ["rec_0"]}))[
        "code"
    ] == "recording_not_found"
    assert (await call(box, "GET", "/v1/datasets/ds_0", 404))["code"] == "dataset_not_found"
    form = aiohttp.FormData()
    form.add_field("file", b"not a sound" * 50, filename="talk.wav")
    job = await call(box, "POST", "/v1/recordings/long", 202, data=form)
    failed = await ended(box, job["id"])
    assert (failed["state"], failed["error"]["code"]) == ("failed", "long_audio_unreadable")
