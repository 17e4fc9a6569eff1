"""`/v1/lexicon`, and what reaches the engine of a text with readings in it."""

from __future__ import annotations

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/v1/lexicon"


@pytest_asyncio.fixture(loop_scope="session")
async def words(box):
    """A lexicon that is empty before and after."""
    yield PATH
    async with box.client.get(PATH) as answer:
        for row in (await answer.json())["items"]:
            which = {"language": row["language"], "word": row["word"]}
            async with box.client.delete(PATH, params=which) as gone:
                assert gone.status == 204


async def rendition(box, text: str) -> str:
    async with box.client.get("/tts", params={"speaker": "sine-440", "text": text}) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()
        return answer.headers["X-Rendition"]


async def test_a_word_is_set_listed_and_removed(box, words):
    entry = {"language": "zh", "word": "他/她", "reading": "ta1 ta1"}
    async with box.client.put(words, json=entry) as answer:
        assert answer.status == 200
        assert {**entry, **(await answer.json())}.items() >= entry.items()
    async with box.client.get(words, params={"language": "en"}) as answer:
        assert (await answer.json())["items"] == []
    async with box.client.delete(words, params={"language": "zh", "word": "他/她"}) as answer:
        assert answer.status == 204
    async with box.client.delete(words, params={"language": "zh", "word": "他/她"}) as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (404, "lexicon_entry_not_found")


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"language": "zh", "word": "重庆", "reading": "chong2 qinq4"}, "reading_invalid"),
        ({"language": "zh", "word": "重庆", "reading": "chong2"}, "reading_length"),
        ({"language": "en", "word": "x", "reading": "/Q9/"}, "reading_invalid"),
        ({"language": "de", "word": "x", "reading": "y"}, "lexicon_language_unknown"),
        ({"language": "en", "word": "x", "reading": "y", "tone": 1}, "field_unknown"),
    ],
)
async def test_a_bad_reading_is_refused_with_what_was_given(box, words, entry, code):
    async with box.client.put(words, json=entry) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["code"]) == (422, code)
        assert problem["remedy"]


async def test_the_lexicon_is_part_of_what_decides_the_sound(box, words):
    shop, other = "Welcome to Voiced, the shop.", "Good morning to all of you."
    before = await rendition(box, shop), await rendition(box, other)
    async with box.client.put(words, json={"language": "en", "word": "voiced", "reading": "voyst"}) as answer:
        assert answer.status == 200
    after = await rendition(box, shop), await rendition(box, other)
    assert before[0] != after[0]
    assert before[1] == after[1]  # a text without the word stays what it was


async def test_a_reading_in_the_text_changes_the_answer_and_a_bad_one_is_refused(box):
    assert await rendition(box, "Ask [Siobhan](shivawn) now.") != await rendition(box, "Ask Siobhan now.")
    for stream in ("false", "true"):
        asked = {"speaker": "sine-440", "text": "Ask [Siobhan](/Q9/) now.", "stream": stream}
        async with box.client.get("/tts", params=asked) as answer:
            problem = await answer.json(content_type=None)
            assert (answer.status, problem["code"], problem["measured"]["part"]) == (422, "reading_invalid", "Q9")
