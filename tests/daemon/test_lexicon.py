"""A tenant's own pronunciations, from the door to the sound: a real daemon, its worker and the embedded engine."""

from __future__ import annotations

import io

import aiohttp
import numpy as np
import pytest
import soundfile


async def say(session: aiohttp.ClientSession, url: str, text: str) -> tuple[bytes, str]:
    asked = {"speaker": "jf_alpha", "text": text, "lang": "zh", "seed": "5"}
    async with session.get(f"{url}/tts", params=asked) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read(), answer.headers["X-Rendition"]


async def test_a_word_sounds_as_the_lexicon_says_until_it_is_removed(speaking):
    place = f"{speaking.url}/v1/lexicon"
    word = {"language": "zh", "word": "重庆"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as session:
        before = await say(session, speaking.url, "我在重庆。")
        other = await say(session, speaking.url, "欢迎光临。")
        async with session.put(place, json={**word, "reading": "zhong4 qing4"}) as answer:
            assert answer.status == 200
        changed = await say(session, speaking.url, "我在重庆。")
        assert await say(session, speaking.url, "欢迎光临。") == other
        async with session.delete(place, params=word) as answer:
            assert answer.status == 204
        after = await say(session, speaking.url, "我在重庆。")
        inline = await say(session, speaking.url, "我在[重庆](zhong4 qing4)。")
    assert before == after
    assert changed[1] != before[1]
    assert changed[0] != before[0]
    # with one seed, how the reading was given is no matter; only the watermark tells the two requests apart
    sounds = [soundfile.read(io.BytesIO(one[0]))[0] for one in (inline, changed)]
    assert len(sounds[0]) == len(sounds[1]) and np.corrcoef(*sounds)[0, 1] > 0.99


@pytest.mark.parametrize(
    ("language", "text", "code"),
    [
        ("zh", "我在[重庆](chong2 qinq4)。", "reading_invalid"),
        ("zh", "我在[重庆](chong2)。", "reading_length"),
        ("zh", "我在[重庆](/zh Q9/)。", "reading_invalid"),
        ("ja", "簡[単](たん)です。", "override_not_placed"),
    ],
)
async def test_a_reading_that_does_not_fit_is_refused_with_its_own_words(speaking, language, text, code):
    async with aiohttp.ClientSession() as session:
        for answered in ("zh", "en"):
            asked = {"speaker": "jf_alpha", "text": text, "lang": language}
            headers = {"Accept-Language": answered}
            async with session.get(f"{speaking.url}/tts", params=asked, headers=headers) as answer:
                problem = await answer.json(content_type=None)
            assert (answer.status, problem["code"]) == (422, code)
            assert problem["detail"] and problem["remedy"]
