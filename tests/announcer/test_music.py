"""Music under speech, sample by sample, and whatever interrupts it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from announcer_stage import PATIENCE, RATE, LevelSpeech, SoundCard, until, until_over

from appliance.announcer import music_levels
from appliance.announcer.announcer import Announcer, Surroundings
from appliance.announcer.records import NewAnnouncement
from appliance.audio.loudness import integrated_lufs
from appliance.audio.mixing import Duck, Ducking
from appliance.database import open_database
from appliance.errors import InvalidInput, NotFound
from appliance.settings import LoudspeakerSettings
from appliance.voices.blobs import BlobStore

LEVEL = 0.25
DUCK_DB = -20.0
LOW = np.float32(LEVEL * 10 ** (DUCK_DB / 20))


@pytest.fixture
def morning(tmp_path: Path) -> Path:
    """A playlist of one long and one broken file."""
    folder = tmp_path / "music" / "morning"
    folder.mkdir(parents=True)
    soundfile.write(folder / "1.wav", np.full(60 * RATE, LEVEL, np.float32), RATE, subtype="FLOAT")
    (folder / "2.mp3").write_bytes(b"no sound at all")
    (tmp_path / "music" / "empty").mkdir()
    return folder


@asynccontextmanager
async def shop(folder: Path, music_lufs: float | None = None):
    config = LoudspeakerSettings(
        device="voiced_test",
        volume=1.0,
        chime=False,
        sample_rate=RATE,
        target_lufs=None,
        duck_db=DUCK_DB,
        music_lufs=music_lufs,
    )
    around = Surroundings(PATIENCE, music_dir=folder / "music")
    blobs = BlobStore(folder / "blobs")
    async with (
        open_database(folder / "voiced.db") as db,
        Announcer(LevelSpeech(RATE), db, blobs, config, around) as announcer,
    ):
        await until(lambda: announcer.loudspeaker.is_open)
        yield announcer


async def say(announcer: Announcer, text: str, **fields: object) -> str:
    return (await announcer.submit("main", NewAnnouncement(text=text, voice="anna", **fields))).id


def is_at(played: np.ndarray, level: float) -> np.ndarray:
    return np.isclose(played, level, atol=1e-6)


async def test_music_goes_to_the_wanted_level_under_speech_and_comes_back(tmp_path, morning, sound_card: SoundCard):
    async with shop(tmp_path) as announcer:
        await announcer.play_music("main", "main", "morning")
        await until(lambda: is_at(sound_card.played(), LEVEL).sum() > RATE // 2)
        await until_over(announcer, await say(announcer, "32 1.0"))
        await until(lambda: is_at(sound_card.played()[-RATE // 10 :], LEVEL).all(), 15)
    played = sound_card.played()
    speech = 32 / 64
    under = np.flatnonzero(is_at(played, speech + LOW))
    assert 0.8 * RATE < len(under) <= RATE  # all of the second of speech but the ramp down
    assert np.array_equal(under, np.arange(under[0], under[-1] + 1))
    after = played[under[-1] + 1 :]
    assert is_at(after[: RATE // 4], LOW).all()  # held between words
    back = int(np.flatnonzero(is_at(after, LEVEL))[0])
    assert 1.0 * RATE < back < 2.0 * RATE
    rising = after[int(np.flatnonzero(~is_at(after, LOW))[0]) : back]
    assert (np.diff(rising) >= 0).all()
    assert np.max(np.abs(np.diff(rising))) < 1e-4  # no step anywhere


async def test_music_comes_back_after_a_stop_an_emergency_and_a_killed_player(tmp_path, morning, sound_card):
    async with shop(tmp_path) as announcer:
        await announcer.play_music("main", "main", "morning")
        await until(lambda: is_at(sound_card.played(), LEVEL).any())
        for cut in range(3):
            lesser = await say(announcer, "16 20", interrupted="drop")
            await until(lambda: is_at(sound_card.played()[-RATE // 10 :], 16 / 64 + LOW).any())
            if cut == 0:
                await announcer.stop("main", lesser)
            elif cut == 1:
                await until_over(announcer, await say(announcer, "8 0.2", priority="emergency"))
            else:
                os.kill(announcer.loudspeaker.player_pid, signal.SIGKILL)
                await until(lambda: announcer.state()["playing"] is None)
                await announcer.stop("main")
            await until(lambda: is_at(sound_card.played()[-RATE // 10 :], LEVEL).sum() > RATE // 20, 15)
        await until(lambda: announcer.music.as_json("main")[0]["position_s"] is not None)  # the new player has told it
        assert announcer.music.as_json("main")[0]["position_s"] > 1.0  # it went on, it did not begin anew
        assert await announcer.stop_music() == 1
        await until(lambda: not sound_card.played()[-RATE // 10 :].any())
        assert announcer.music.as_json("main") == []


async def test_music_goes_on_after_a_restart_until_it_is_stopped(tmp_path, morning, sound_card):
    async with shop(tmp_path) as announcer:
        told = await announcer.play_music("main", "main", "morning", 0.5, is_shuffled=True)
        assert (told["playlist"], told["volume"], told["is_shuffled"]) == ("morning", 0.5, True)
    async with shop(tmp_path) as announcer:
        await until(lambda: is_at(sound_card.played(), LEVEL / 2).any())
        await announcer.stop_music("main")
    async with shop(tmp_path) as announcer:
        await asyncio.sleep(0.3)
        assert announcer.music.as_json("main") == []


async def test_a_playlist_that_is_not_there_or_empty_is_refused(tmp_path, morning, sound_card):
    async with shop(tmp_path) as announcer:
        for name in ("evening", "..", "morning/..", "../music/morning"):
            with pytest.raises(NotFound) as refused:
                await announcer.play_music("main", "main", name)
            assert refused.value.measured["known"] == "empty, morning"
        with pytest.raises(InvalidInput):
            await announcer.play_music("main", "main", "empty")
        with pytest.raises(NotFound):
            await announcer.play_music("main", "garage", "morning")


async def test_a_playlist_of_broken_files_says_so_and_speech_goes_on(tmp_path, morning, sound_card):
    (morning / "1.wav").write_bytes(b"RIFF")
    async with shop(tmp_path) as announcer:
        await announcer.play_music("main", "main", "morning")
        await until(lambda: announcer.music.as_json("main")[0]["state"] == "empty")
        (row,) = await until_over(announcer, await say(announcer, "1 0.1"))
    assert (str(row.state), sound_card.levels()) == ("done", [1])


def test_the_level_of_music_is_a_matter_of_what_sounds_and_never_sticks():
    duck = Duck(1_000, Ducking(-20.0, down_s=0.1, hold_s=0.2, up_s=0.5))
    chance = np.random.default_rng(3)
    block = np.ones(20, np.float32)
    for _ in range(2_000):
        level = duck.apply(block, is_speaking=bool(chance.random() < 0.3))
        assert 0.0999 < level.min() <= level.max() <= 1.0
    last = [duck.apply(block, is_speaking=False) for _ in range(40)][-1]
    assert (last == 1.0).all()


async def test_loud_and_quiet_files_are_played_at_one_loudness_and_measured_once(tmp_path, sound_card, monkeypatch):
    folder = tmp_path / "music" / "mixed"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(1).normal(0, 1, 60 * RATE).astype(np.float32)
    for number, (level, seconds) in enumerate(((0.01, 3), (0.2, 60)), start=1):
        samples = np.clip(noise[: seconds * RATE] * level, -1, 1)
        soundfile.write(folder / f"{number}.wav", samples, RATE, subtype="FLOAT")
    async with shop(tmp_path, -23.0) as announcer:
        await announcer.play_music("main", "main", "mixed")
        await until(lambda: announcer.music.as_json("main")[0]["file"] == "2.wav", 20)
        await until(lambda: (announcer.music.as_json("main")[0]["position_s"] or 0) > 3, 20)
        await announcer.stop_music()
        measured = []
        monkeypatch.setattr(music_levels, "_measure", measured.append)
        gains = [await announcer.music.zones["main"]._levels.gain(folder / f"{number}.wav") for number in (1, 2)]
        assert measured == []  # both were measured before
        assert await announcer.music.zones["main"]._levels.gain(folder / "missing.wav") == 1.0
    played = sound_card.played()
    first, last = np.flatnonzero(played)[[0, -1]]
    parts = played[first + RATE : first + 2 * RATE], played[last - 3 * RATE : last - 2 * RATE]  # it fades out for 1.5 s
    loud = [integrated_lufs(part, RATE) for part in parts]
    assert gains[0] == pytest.approx(10 ** (9 / 20)) and gains[1] < 1  # the quiet one is raised as far as it may be
    assert loud[1] == pytest.approx(-23.0, abs=0.7)
    assert loud[0] == pytest.approx(integrated_lufs(noise * np.float32(0.01), RATE) + 9.0, abs=0.7)
