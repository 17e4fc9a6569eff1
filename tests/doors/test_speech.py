"""`/tts`: the product's own simple call."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import aiohttp
import numpy as np
import pytest
import soundfile
from open_box import TEXT

from appliance.audio.files import read_audio

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def tts(box, **query):
    async with box.client.get("/tts", params={"speaker": "sine-440", "text": TEXT, **query}) as answer:
        return answer, await answer.read()


async def test_a_spoken_answer_is_a_wav_with_its_true_length_and_says_who_spoke(box):
    answer, body = await tts(box)
    samples, rate = soundfile.read(io.BytesIO(body))
    assert (answer.status, answer.content_type, rate) == (200, "audio/wav", 24_000)
    assert int(answer.headers["Content-Length"]) == len(body)
    assert answer.headers["X-Voice-Version"] == "sine-440@1"
    assert answer.headers["X-AI-Generated"] == "true"
    assert len(answer.headers["X-Rendition"]) == 64
    assert answer.headers["X-Request-Id"]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.argmax(spectrum) * rate / len(samples) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "opus", "pcm"])
async def test_every_format_carries_the_same_sound(box, format, stream):
    _, reference = await tts(box)
    expected = soundfile.read(io.BytesIO(reference))[0]
    answer, body = await tts(box, format=format, stream=stream)
    assert answer.status == 200
    assert ("Content-Length" in answer.headers) is (stream == "false")
    if format == "pcm":
        samples, rate = np.frombuffer(body, "<i2") / 32768, 24_000
    else:
        decoded = read_audio(body)  # a streamed FLAC or MP3 does not know its own length
        samples, rate = decoded.samples[:, 0], decoded.sample_rate
    assert rate == 24_000
    assert len(samples) == pytest.approx(len(expected), abs=3_000)
    assert np.sqrt(np.sum(samples**2)) == pytest.approx(np.sqrt(np.sum(expected**2)), rel=0.05)


async def test_streaming_sends_the_first_clause_before_the_last_is_spoken(box):
    loop = asyncio.get_running_loop()
    started = loop.time()
    query = {"speaker": "sine-440", "text": "quick words first, " + "slow, " * 30 + ".", "stream": "true"}
    async with box.client.get("/tts", params=query) as answer:
        await answer.content.readany()
        first_s = loop.time() - started
        await answer.read()
    assert first_s < 0.5 * (loop.time() - started)


async def test_seed_speed_and_version_are_heard(box):
    same, other = (await tts(box, seed=1))[1], (await tts(box, seed=2))[1]
    assert same == (await tts(box, seed=1))[1] != other
    fast = soundfile.read(io.BytesIO((await tts(box, speed=2))[1]))[0]
    slow = soundfile.read(io.BytesIO((await tts(box, speed=0.5))[1]))[0]
    assert len(slow) == pytest.approx(4 * len(fast), rel=0.01)
    assert (await tts(box, version=1))[0].status == 200


@pytest.mark.parametrize("how", ["json", "data"])
async def test_post_takes_json_and_forms(box, how):
    async with box.client.post("/tts", **{how: {"speaker": "sine-220", "text": "你好，世界"}}) as answer:
        assert (answer.status, answer.headers["X-Voice-Version"]) == (200, "sine-220@1")


async def test_field_names_of_api_v2_are_understood(box):
    theirs = {
        "text": TEXT,
        "text_lang": "en",
        "ref_audio_path": "sine-330",
        "prompt_lang": "zh",
        "top_k": 5,
        "media_type": "raw",
        "speed_factor": 1.0,
        "streaming_mode": False,
        "seed": -1,
    }
    async with box.client.post("/tts", json=theirs) as answer:
        assert (answer.status, answer.content_type) == (200, "audio/pcm")
        assert answer.headers["X-Voice-Version"] == "sine-330@1"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"speaker": "nobody"}, 404, "voice_not_found"),
        ({"speaker": "sine-440@9"}, 404, "version_not_found"),
        ({"text": ""}, 422, "text_empty"),
        ({"text": "😀"}, 422, "text_not_speakable"),
        ({"text": "x" * 10_000}, 413, "text_too_long"),
        ({"speed": "nan"}, 422, "field_invalid"),
        ({"speed": "3"}, 422, "field_invalid"),
        ({"format": "midi"}, 422, "field_invalid"),
        ({"lang": "tlh"}, 422, "field_invalid"),
        ({"txet": "hello"}, 422, "field_unknown"),
        ({"text": "refuse"}, 422, "text_not_speakable"),
        ({"text": "refuse", "stream": "true"}, 422, "text_not_speakable"),
    ],
)
async def test_what_cannot_be_spoken_has_its_status_and_code(box, query, status, code):
    answer, _ = await tts(box, **query)
    problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert problem["detail"] and problem["remedy"]


async def test_an_engine_that_fails_in_the_middle_breaks_the_stream_off(box):
    query = {
        "speaker": "sine-440",
        "text": "all is well in this first clause of the text, then refuse it.",
        "stream": "true",
    }
    with pytest.raises(aiohttp.ClientPayloadError):
        async with box.client.get("/tts", params=query) as answer:
            assert answer.status == 200
            await answer.read()


async def events_of(box, words: str) -> list[dict]:
    query = {"speaker": "sine-440", "text": words, "format": "pcm", "stream": "sse"}
    async with box.client.get("/tts", params=query) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        assert (answer.headers["X-Sample-Rate"], answer.headers["X-AI-Generated"]) == ("24000", "true")
        return [json.loads(line[6:]) async for line in answer.content if line.startswith(b"data: ")]


async def test_sound_comes_as_events_when_asked(box):
    *deltas, done = await events_of(box, TEXT)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert (done["type"], done["usage"]["input_tokens"]) == ("speech.audio.done", len(TEXT))
    _, expected = await tts(box, format="pcm")
    assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == expected


async def test_events_that_fail_in_the_middle_end_with_the_error(box):
    first, *_, last = await events_of(box, "all is well in this first clause of the text, then refuse it.")
    assert (first["type"], last["type"], last["error"]["code"]) == ("speech.audio.delta", "error", "text_not_speakable")


async def test_a_client_that_leaves_gives_its_place_back(box):
    with pytest.raises(TimeoutError):
        async with box.client.get(
            "/tts",
            params={"speaker": "sine-440", "text": "slow, " * 60},
            timeout=aiohttp.ClientTimeout(total=0.3),
        ):
            pass
    async with asyncio.timeout(3):
        while box.services.synthesis.active:
            await asyncio.sleep(0.02)


async def test_the_loop_keeps_turning_while_sound_is_encoded(box):
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - before - 0.005)

    watcher = asyncio.create_task(watch())
    answer, _ = await tts(box, text="word " * 500, format="mp3")
    watcher.cancel()
    assert answer.status == 200
    assert longest < 0.25  # 50 ms on a quiet machine; tests share theirs


@pytest.mark.parametrize("language", ["ko", "yue", "all_ko", "all_yue", "auto_yue"])
@pytest.mark.parametrize("stream", ["false", "true"])
async def test_a_language_that_the_engine_does_not_speak_is_refused_by_name(box, language, stream):
    answer, _ = await tts(box, lang=language, stream=stream)
    problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["code"]) == (422, "language_not_spoken")
    assert problem["measured"] == {"language": language, "engine": "sine", "known": "auto, zh, en, ja"}


@pytest.mark.parametrize("language", ["all_zh", "ALL_JA", "en"])
async def test_request_codes_of_gpt_sovits_reach_every_engine(box, language):
    assert (await tts(box, lang=language))[0].status == 200
