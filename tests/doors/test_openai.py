"""OpenAI's own client, unmodified."""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np
import openai
import pytest
from open_box import TEXT

from appliance.audio.files import read_audio

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def client(box):
    return openai.AsyncOpenAI(base_url=f"{box.url}/v1", api_key="whatever the user typed", max_retries=0)


@pytest.mark.parametrize("format", ["mp3", "opus", "flac", "wav", "pcm"])
async def test_the_client_gets_speech_in_every_format_it_knows(client, format):
    answer = await client.audio.speech.create(
        model="tts-1", voice="sine-440", input=TEXT, response_format=format, speed=1.25
    )
    samples = np.frombuffer(answer.content, "<i2") if format == "pcm" else read_audio(answer.content).samples
    assert len(samples) == pytest.approx(24_000 * 0.02 * len(TEXT) / 1.25, rel=0.15)


async def test_the_client_can_stream_bytes(client):
    parts = []
    create = client.audio.speech.with_streaming_response.create
    async with create(model="gpt-4o-mini-tts", voice="sine-220", input=TEXT, response_format="pcm") as answer:
        assert answer.headers["x-voice-version"] == "sine-220@1"
        async for part in answer.iter_bytes():
            parts.append(part)
    assert len(b"".join(parts)) > 24_000


async def test_the_client_can_stream_events_and_the_first_comes_before_the_last_is_spoken(client):
    create, loop = client.audio.speech.with_streaming_response.create, asyncio.get_running_loop()
    words, began, moments, events = "quick words first, " + "slow, " * 20 + ".", loop.time(), [], []
    async with create(
        model="tts-1", voice="sine-440", input=words, response_format="pcm", stream_format="sse"
    ) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        async for line in answer.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line[6:]))
                moments.append(loop.time() - began)
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert done["type"] == "speech.audio.done"
    assert moments[0] < 0.5 * moments[-1]
    assert len(b"".join(base64.b64decode(event["audio"]) for event in deltas)) > 24_000


async def test_models_and_voices_are_listed(box, client):
    names = [model.id async for model in client.models.list()]
    assert {"voiced", "sine", "tts-1"} <= set(names)
    assert (await client.models.retrieve("voiced")).owned_by == "voiced"
    async with box.client.get("/v1/audio/voices") as answer:
        assert "sine-440" in {voice["id"] for voice in (await answer.json())["voices"]}


async def test_an_unknown_voice_or_model_is_not_found_never_a_substitute(client):
    with pytest.raises(openai.NotFoundError) as voice:
        await client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
    assert voice.value.code == "voice_not_found"
    with pytest.raises(openai.NotFoundError) as model:
        await client.audio.speech.create(model="whisper-9", voice="sine-440", input=TEXT)
    assert (model.value.code, model.value.param) == ("model_not_found", "model")


async def test_errors_have_the_shape_that_the_client_reads(client):
    with pytest.raises(openai.BadRequestError) as caught:
        await client.audio.speech.create(model="tts-1", voice="sine-440", input="")
    assert (caught.value.code, caught.value.type) == ("text_empty", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.audio.speech.create(model="tts-1", voice="sine-440", input=TEXT, speed=4.0)
    assert (caught.value.code, caught.value.param) == ("field_invalid", "speed")


async def test_a_client_that_names_no_voice_gets_the_default_one(box):
    async with box.client.get("/v1/system") as answer:
        default = (await answer.json())["speech"]["default_voice"]
    async with box.client.get(f"/v1/voices/{default}") as answer:
        current = (await answer.json())["current"]
    async with box.client.post("/v1/audio/speech", json={"model": "tts-1", "input": "Hello."}) as answer:
        assert (answer.status, answer.headers["X-Voice-Version"]) == (200, f"{default}@{current}")
