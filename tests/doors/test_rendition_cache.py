"""What was said before is said again without the engine; who asks at the same time shares one making."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from open_box import open_box

from appliance.marks.stage import MarksStage
from appliance.voices.records import NewConsent, NewVersion, NewVoice

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def say(box, words: str, **query) -> tuple[aiohttp.ClientResponse, bytes]:
    query = {"speaker": "sine-440", "text": words, "format": "pcm", **query}
    async with box.client.get("/tts", params=query) as answer:
        return answer, await answer.read()


def served(box) -> int:
    return box.services.pool.state()[0]["served"]


def kept(box) -> list[Path]:
    folder = box.services.settings.state_dir / "cache/renditions"
    return [path for path in folder.rglob("*") if path.is_file()]


async def own_voice(box, name: str) -> str:
    """A voice that needs a consent; returns the consent's id."""
    registry, consents = box.services.registry, box.services.consents
    await registry.create_voice("main", NewVoice(name))
    version = await registry.add_version("main", name, NewVersion("sine", {}, {"hz": 500}))
    await registry.promote("main", name, version.number, reason="test")
    return (await consents.record("main", NewConsent(f"speaker of {name}", name, ("speak",)))).id


@pytest.mark.parametrize("first", ["false", "true", "sse"])
@pytest.mark.parametrize("second", ["false", "true", "sse"])
async def test_the_second_time_needs_no_engine_and_sounds_the_same(box, first, second):
    words = f"First {first}, then {second}, word for word."
    made, sound = await say(box, words, stream=first)
    before = served(box)
    again, same = await say(box, words, stream=second)
    assert (made.headers["X-Cache"], again.headers["X-Cache"], served(box)) == ("miss", "hit", before)
    if first == second:
        assert same == sound


async def test_the_sound_from_the_cache_is_bit_by_bit_that_of_a_box_without_one(box, tmp_path):
    words = "Bit by bit, however it came, and in every clause of the text."
    await say(box, words)
    _, again = await say(box, words)
    async with open_box(tmp_path, speech={"cache_mb": 0}) as other:
        for _ in range(2):
            answer, fresh = await say(other, words)
            assert (answer.headers["X-Cache"], kept(other)) == ("miss", [])
    # another box has a mark of its own, so the marks are compared by what they leave: the sound
    difference = np.frombuffer(again, "<i2").astype(int) - np.frombuffer(fresh, "<i2").astype(int)
    assert np.abs(difference).max() < 0.01 * 32768


async def test_seed_speed_voice_and_text_each_make_another_rendition(box):
    words = "One of several."
    asked = [{}, {"seed": 3}, {"speed": 1.5}, {"speaker": "sine-220"}, {"lang": "en"}]
    answers = [await say(box, words, **query) for query in asked] + [await say(box, words + " More.")]
    assert {answer.headers["X-Cache"] for answer, _ in answers} == {"miss"}
    assert len({answer.headers["X-Rendition"] for answer, _ in answers}) == len(answers)


async def test_many_who_ask_at_once_are_answered_by_one_making(box):
    words = "slow words for everybody who listens."
    before = served(box)
    answers = await asyncio.gather(*(say(box, words, stream=str(index % 2 == 0).lower()) for index in range(8)))
    assert sorted(answer.headers["X-Cache"] for answer, _ in answers) == ["joined"] * 7 + ["miss"]
    assert len({sound for _, sound in answers}) == 1
    assert served(box) - before <= 2  # clauses


async def test_a_first_client_that_leaves_does_not_take_the_sound_of_the_second(box):
    words = "slow words that the first one does not want any more."
    first = asyncio.create_task(say(box, words))
    async with asyncio.timeout(10):
        while not box.services.synthesis.active:
            await asyncio.sleep(0.01)
    second = asyncio.create_task(say(box, words))
    await asyncio.sleep(0.2)
    first.cancel()
    answer, sound = await second
    assert (answer.status, answer.headers["X-Cache"]) == (200, "joined")
    assert len(sound) > 24_000


async def test_an_error_reaches_everybody_who_joined(box):
    answers = await asyncio.gather(*(say(box, "slow, and then refuse, as always.") for _ in range(4)))
    assert [answer.status for answer, _ in answers] == [422] * 4


async def test_a_damaged_file_is_noticed_and_made_again(box):
    words = "Damaged on the disk."
    before = set(kept(box))
    _, sound = await say(box, words)
    (path,) = set(kept(box)) - before
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    path.write_bytes(damaged)
    answers = [await say(box, words) for _ in range(2)]
    assert [answer.headers["X-Cache"] for answer, _ in answers] == ["miss", "hit"]
    assert {same for _, same in answers} == {sound}
    async with box.client.get("/metrics") as answer:
        figures = await answer.text()
    assert "voiced_rendition_cache_corrupt_total 1" in figures
    assert 'voiced_renditions_total{outcome="hit"}' in figures


async def test_a_revoked_consent_silences_the_cache_and_empties_it(box):
    consent, before = await own_voice(box, "revoked"), set(kept(box))
    for _ in range(2):
        answer, _ = await say(box, "As long as I agree.", speaker="revoked")
    assert answer.headers["X-Cache"] == "hit"
    assert len(set(kept(box)) - before) == 1
    async with box.client.delete(f"/v1/consents/{consent}") as answer:
        assert answer.status == 200
    assert set(kept(box)) == before
    answer, _ = await say(box, "As long as I agree.", speaker="revoked")
    assert answer.status == 403


async def test_a_deleted_voice_leaves_nothing_in_the_cache(box):
    await own_voice(box, "deleted")
    before = set(kept(box))
    await say(box, "Soon gone.", speaker="deleted")
    assert len(kept(box)) == len(before) + 1
    async with box.client.delete("/v1/voices/deleted") as answer:
        assert answer.status == 204
    assert set(kept(box)) == before
    answer, _ = await say(box, "Soon gone.", speaker="deleted")
    assert answer.status == 404


async def test_marks_are_put_on_what_comes_out_of_the_cache_each_time(box, monkeypatch):
    prepared = []
    prepare = MarksStage.prepare
    monkeypatch.setattr(MarksStage, "prepare", lambda stage, spoken: prepared.append(spoken) or prepare(stage, spoken))
    for _ in range(3):
        answer, _ = await say(box, "Marked each time.")
    assert (answer.headers["X-Cache"], len(prepared)) == ("hit", 3)
