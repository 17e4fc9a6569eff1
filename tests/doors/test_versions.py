"""Versions over HTTP: compared, rolled back, their changelog and lineage; a pinned one says the same for ever."""

from __future__ import annotations

import base64

import pytest
import pytest_asyncio
from open_box import TEXT, open_box

from appliance.voices.records import NewVersion, NewVoice

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def box(tmp_path_factory):
    """A box of its own: these tests make voices."""
    async with open_box(tmp_path_factory.mktemp("versions")) as opened:
        yield opened


async def call(box, method, path, status=200, **options):
    async with box.client.request(method, path, **options) as answer:
        body = await answer.json(content_type=None)
        assert answer.status == status, body
        return body


async def make_voice(box, name: str, *pitches: float) -> None:
    """One version per pitch, the last one in production."""
    registry = box.services.registry
    await registry.create_voice("main", NewVoice(name, origin="starter"))
    for hz in pitches:
        version = await registry.add_version("main", name, NewVersion("sine", settings={"hz": hz}))
        await registry.promote("main", name, version.number)


async def speak(box, **params) -> tuple[bytes, str]:
    async with box.client.get("/tts", params={"text": TEXT, **params}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read(), answer.headers["X-Voice-Version"]


async def test_a_pinned_version_with_a_seed_is_bit_identical_whatever_the_alias_means(box):
    await make_voice(box, "pinned", 300.0, 310.0)
    before = await speak(box, speaker="pinned", version="1", seed="5")
    alias = await speak(box, speaker="pinned", seed="5")
    await call(box, "POST", "/v1/voices/pinned/rollback")
    again = await speak(box, speaker="pinned", version="1", seed="5")
    now = await speak(box, speaker="pinned", seed="5")
    assert before == again and before[1] == "pinned@1"
    assert alias[1] == "pinned@2" and now[1] == "pinned@1" and now[0] == before[0] != alias[0]


async def test_rollback_is_in_the_changelog_with_who_and_why(box):
    await make_voice(box, "rolled", 300.0, 310.0)
    voice = await call(box, "POST", "/v1/voices/rolled/rollback", json={"reason": "it hisses"})
    assert voice["current"] == 1
    moves = (await call(box, "GET", "/v1/voices/rolled/changelog"))["items"]
    assert [(m["from_number"], m["to_number"], m["kind"], m["reason"]) for m in moves[:2]] == [
        (2, 1, "rollback", "it hisses"),
        (1, 2, "promote", "promoted"),
    ]
    assert moves[0]["actor"] and moves[0]["moved_at"]
    assert (await call(box, "POST", "/v1/voices/rolled/rollback", 409))["code"] == "nothing_to_roll_back"
    assert (await call(box, "GET", "/v1/voices/nobody/changelog", 404))["code"] == "voice_not_found"


async def test_two_versions_say_the_same_with_one_seed(box):
    await make_voice(box, "twofold", 300.0, 310.0)
    order = {"first": "twofold@1", "second": "twofold@2", "text": TEXT, "seed": 3}
    answer = await call(box, "POST", "/v1/compare", json=order)
    sounds = [base64.b64decode(answer[side]["audio_wav_base64"]) for side in ("first", "second")]
    assert [answer[side]["voice"] for side in ("first", "second")] == ["twofold@1", "twofold@2"]
    assert all(sound[:4] == b"RIFF" for sound in sounds) and sounds[0] != sounds[1]
    assert sounds[0] == (await speak(box, speaker="twofold@1", seed="3"))[0]
    assert (await call(box, "POST", "/v1/compare", 404, json={**order, "second": "twofold@9"}))["code"]


async def test_lineage_and_examination_are_addresses(box):
    node = await call(box, "GET", "/v1/lineage/version/sine-220@1")
    assert node["facts"]["engine"] == "sine" and node["made_from"] == []
    assert (await call(box, "GET", "/v1/lineage/version/nobody@1", 404))["code"] == "lineage_not_found"
    missing = await call(box, "GET", "/v1/voices/sine-220/versions/1/examination", 404)
    assert missing["code"] == "version_not_examined" and missing["remedy"]
    path = "/v1/voices/sine-220/versions/1/examination/0"
    assert (await call(box, "GET", path, 404))["code"] == "examination_file_not_found"
