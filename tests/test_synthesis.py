"""The one way to make speech, with a real database, real blobs and a real worker (which speaks in tones)."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from appliance.audio.loudness import integrated_lufs
from appliance.contracts import StarterVoice
from appliance.database import open_database
from appliance.errors import Busy, DeadlineExceeded, InvalidInput, NotFound, TooLarge, Unavailable
from appliance.marks.stage import BoxMarks, MarksStage
from appliance.security.audit import append_entry
from appliance.security.room import open_security
from appliance.settings import IntakeSettings, MarksSettings, PluginSettings, Settings, SpeechSettings, WorkerSettings
from appliance.synthesis import SpeechRequest, SpeechRooms, Synthesis
from appliance.voices.blobs import BlobStore
from appliance.voices.consents import ConsentStore
from appliance.voices.lexicon import LexiconStore
from appliance.voices.records import NewConsent, NewVersion, NewVoice
from appliance.voices.registry import VoiceRegistry
from appliance.workers import WorkerPool, WorkerSpec

DROP_INS = Path(__file__).parent / "drop_ins"
TEXT = "The shop closes in ten minutes, please bring your goods to the counter."


@asynccontextmanager
async def synthesis(tmp_path: Path, **settings):
    shutil.copytree(DROP_INS, tmp_path / "plugins")
    spec = WorkerSpec("", "sine", (), "", 1, tmp_path, PluginSettings(), tmp_path / "plugins", IntakeSettings())
    async with (
        open_database(tmp_path / "voiced.db") as db,
        open_security(db, Settings(state_dir=tmp_path)) as security,
    ):
        registry = VoiceRegistry(db, BlobStore(tmp_path / "blobs"))
        voices = [StarterVoice(f"sine-{hz}", "", "", "", ("en",), "CC0", "", settings={"hz": hz}) for hz in (220, 440)]
        await registry.seed_starters("main", "sine", voices)
        pool = WorkerPool(spec, WorkerSettings(), 20.0)
        pool.start()
        try:
            marks = MarksStage(BoxMarks(bytes(32), "test"), security.audit, MarksSettings(), -18.0)
            consents, lexicon = ConsentStore(db, append_entry), LexiconStore(db, {})
            rooms = SpeechRooms(registry, consents, lexicon, pool, marks, security.quotas)
            yield Synthesis(rooms, SpeechSettings(**settings), "sine")
        finally:
            await pool.stop()


def ask(text: str = TEXT, **fields) -> SpeechRequest:
    return SpeechRequest(**{"tenant": "main", "voice": "sine-440", "text": text, **fields})


async def test_equal_requests_give_equal_audio_and_a_seed_changes_it(tmp_path):
    async with synthesis(tmp_path) as speech:
        first, one = await speech.render(ask())
        second, two = await speech.render(ask())
        third, other = await speech.render(ask(seed=7))
    np.testing.assert_array_equal(one.samples, two.samples)
    assert first.rendition == second.rendition != third.rendition
    assert not np.array_equal(one.samples, other.samples)


async def test_speech_arrives_at_the_target_loudness_below_the_ceiling(tmp_path):
    async with synthesis(tmp_path, target_lufs=-20.0, peak_dbfs=-3.0) as speech:
        _, audio = await speech.render(ask())
    assert integrated_lufs(audio.samples, audio.sample_rate) == pytest.approx(-20.0, abs=0.5)
    assert np.abs(audio.samples).max() <= 10 ** (-3 / 20)


@pytest.mark.parametrize(
    ("request_fields", "kind", "code"),
    [
        ({"text": ""}, InvalidInput, "text_empty"),
        ({"text": " \x00\u200b "}, InvalidInput, "text_empty"),
        ({"text": "😀 …!"}, InvalidInput, "text_not_speakable"),
        ({"text": "x" * 100_000}, TooLarge, "text_too_long"),
        ({"voice": "nobody"}, NotFound, "voice_not_found"),
        ({"voice": "sine-440@9"}, NotFound, "version_not_found"),
        ({"tenant": "other"}, NotFound, "voice_not_found"),
        ({"language": "tlh"}, InvalidInput, "language_unknown"),
        ({"speed": 9.0}, InvalidInput, "speed_out_of_range"),
        ({"speed": float("nan")}, InvalidInput, "speed_out_of_range"),
    ],
)
async def test_what_cannot_be_spoken_is_refused_before_anything_is_computed(tmp_path, request_fields, kind, code):
    async with synthesis(tmp_path) as speech:
        with pytest.raises(kind) as caught:
            await speech.open(ask(**request_fields))
        assert caught.value.code == code
        assert speech.active == 0


async def test_more_requests_than_places_are_refused_with_a_time_to_come_back(tmp_path):
    async with synthesis(tmp_path, max_waiting=3, max_waiting_per_client=2) as speech:
        held = [await speech.open(ask(client="a")), await speech.open(ask(client="a"))]
        with pytest.raises(Busy) as same_client:
            await speech.open(ask(client="a"))
        held.append(await speech.open(ask(client="b")))
        with pytest.raises(Busy) as box:
            await speech.open(ask(client="c"))
        assert (same_client.value.code, box.value.code) == ("client_busy", "box_busy")
        assert box.value.measured["retry_after_s"] >= 1
        assert speech._quotas._characters["main"] == 3 * len(TEXT)  # nothing is counted of what was turned away
        for one in held:
            await one.chunks.aclose()
        assert speech.active == 0
        await speech.render(ask(client="a"))


async def test_a_request_that_is_left_early_gives_its_place_and_the_worker_back(tmp_path):
    async with synthesis(tmp_path) as speech:
        opened = await speech.open(ask("slow one. slow two. slow three. " * 5))
        await anext(opened.chunks)
        await opened.chunks.aclose()
        assert speech.active == 0
        async with asyncio.timeout(3):
            await speech.render(ask("quick"))


async def test_a_request_past_its_deadline_says_so(tmp_path):
    async with synthesis(tmp_path, deadline_s=0.5) as speech:
        with pytest.raises(DeadlineExceeded) as caught:
            await speech.render(ask("slow, " * 40))
        assert caught.value.code == "speech_deadline"
        assert speech.active == 0


async def test_an_own_voice_speaks_where_none_is_named_as_long_as_its_speaker_agrees(tmp_path):
    async with synthesis(tmp_path) as speech:
        registry, consents = speech._registry, speech._consents
        assert await speech.default_voice("main") == "sine-220"  # the first that the engine lists
        await registry.create_voice("main", NewVoice("zoe"))
        version = await registry.add_version("main", "zoe", NewVersion("sine", {}, {"hz": 330}))
        await registry.promote("main", "zoe", version.number)
        assert await speech.default_voice("main") == "sine-220"  # nobody has agreed yet
        given = await consents.record("main", NewConsent("Zoe", "zoe", ("speak",), "I agree."))
        assert await speech.default_voice("main") == "zoe"
        assert await speech.default_voice("main", "announce") == "sine-220"
        await consents.revoke("main", given.id)
        assert await speech.default_voice("main") == "sine-220"
        with pytest.raises(Unavailable) as none:
            await speech.default_voice("nobody-here")
        assert none.value.code == "no_voice"


async def test_the_voice_of_the_settings_is_never_replaced(tmp_path):
    async with synthesis(tmp_path, default_voice="gone") as speech:
        assert await speech.default_voice("main") == "gone"
        with pytest.raises(NotFound):
            await speech.open(ask(voice=await speech.default_voice("main")))
