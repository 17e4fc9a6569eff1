"""The player process and its supervisor, sample by sample."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from announcer_stage import PATIENCE, RATE, until

from appliance.announcer.loudspeaker import Loudspeaker
from appliance.audio.mixing import CEILING
from appliance.contracts import Audio
from appliance.framing import read_frame, write_frame
from appliance.messages import catalogue
from appliance.settings import LoudspeakerSettings

RAMP = Audio(np.linspace(-0.5, 0.5, RATE // 2, dtype=np.float32), RATE)
LONG = Audio(np.full(RATE * 10, 0.25, np.float32), RATE)


def sounding(samples: np.ndarray) -> np.ndarray:
    """What was played, without the silence around it."""
    heard = np.flatnonzero(samples)
    return samples[heard[0] : heard[-1] + 1] if len(heard) else samples[:0]


async def opened(loudspeaker: Loudspeaker) -> Loudspeaker:
    await until(lambda: loudspeaker.is_open)
    return loudspeaker


async def test_what_is_played_reaches_the_device_sample_by_sample(sound_card, settings):
    started = []
    async with Loudspeaker(settings, supervision=PATIENCE) as loudspeaker:
        await opened(loudspeaker)
        played = await loudspeaker.play("a", RAMP, on_started=lambda: started.append(1))
    assert (played.outcome, played.position_s, started) == ("played", 0.5, [1])
    assert np.array_equal(sounding(sound_card.played()), RAMP.samples)


async def test_volume_of_message_and_loudspeaker_multiply(sound_card, settings):
    async with Loudspeaker(settings.model_copy(update={"volume": 0.5}), supervision=PATIENCE) as loudspeaker:
        await opened(loudspeaker)
        await loudspeaker.play("a", RAMP, gain=0.5)
        await loudspeaker.set_volume(1.0)
        await asyncio.sleep(0.2)
        await loudspeaker.play("b", RAMP, gain=0.5)
    heard = sound_card.played()
    first, second = RAMP.samples * np.float32(0.5) * np.float32(0.5), RAMP.samples * np.float32(0.5)
    begin = np.flatnonzero(heard)[0]
    assert np.allclose(heard[begin : begin + len(first)], first, atol=1e-7)
    assert np.allclose(sounding(heard)[-len(second) :], second, atol=1e-7)


async def test_a_telephone_rate_is_resampled_without_a_step_between_chunks(sound_card, settings):
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000 * 2) / 16_000).astype(np.float32) * 0.5
    async with Loudspeaker(settings, supervision=PATIENCE) as loudspeaker:
        await opened(loudspeaker)
        await loudspeaker.play("a", Audio(tone, 16_000))
    heard = sounding(sound_card.played())
    assert abs(len(heard) - 2 * RATE) < RATE // 100
    middle = heard[RATE // 2 : RATE // 2 + RATE]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
    assert spectrum[990:1010].sum() / spectrum.sum() > 0.99999


async def test_stop_falls_silent_within_200_ms_and_without_a_click(sound_card, settings):
    async with Loudspeaker(settings, supervision=PATIENCE) as loudspeaker:
        await opened(loudspeaker)
        playing = asyncio.create_task(loudspeaker.play("a", LONG))
        await asyncio.sleep(0.7)
        before = np.count_nonzero(sound_card.played())
        asked = time.monotonic()
        await loudspeaker.stop("a")
        played = await playing
        assert time.monotonic() - asked < 0.2
    heard = sounding(sound_card.played())
    assert played.outcome == "stopped"
    assert len(heard) - before < 0.2 * RATE
    assert np.max(np.abs(np.diff(heard[-RATE // 10 :]))) < 0.25 / (0.02 * RATE)  # a fade of more than 20 ms


async def test_nothing_but_numbers_reaches_the_loudspeaker_and_never_beyond_the_ceiling(sound_card, settings):
    wild = np.full(RATE // 4, 5.0, np.float32)
    wild[::7], wild[1::7], wild[2::7] = np.nan, np.inf, -np.inf
    async with Loudspeaker(settings, supervision=PATIENCE) as loudspeaker:
        await opened(loudspeaker)
        await loudspeaker.play("a", Audio(wild, RATE))
    heard = sound_card.played()
    assert np.isfinite(heard).all()
    assert 0.5 < np.max(np.abs(heard)) <= CEILING + 1e-6


async def test_a_long_sound_is_sent_as_it_plays_and_not_all_at_once(sound_card, settings):
    async with Loudspeaker(settings, supervision=PATIENCE) as loudspeaker:
        await opened(loudspeaker)
        playing = asyncio.create_task(loudspeaker.play("a", Audio(np.full(RATE * 90, 0.25, np.float32), RATE)))
        await asyncio.sleep(1.0)
        assert not playing.done()  # 90 s at once would be refused: the player holds 60
        await loudspeaker.stop()
        assert (await playing).outcome == "stopped"


async def test_a_killed_player_is_replaced_and_the_sound_reported_as_lost(sound_card, settings):
    async with Loudspeaker(settings, supervision=PATIENCE) as loudspeaker:
        await opened(loudspeaker)
        playing = asyncio.create_task(loudspeaker.play("a", LONG))
        await asyncio.sleep(1.2)
        first = loudspeaker.player_pid
        os.kill(first, signal.SIGKILL)
        played = await asyncio.wait_for(playing, 1.0)
        assert (played.outcome, played.code, played.has_started) == ("lost", "player_lost", True)
        assert 0.5 < played.position_s < 1.3
        await opened(loudspeaker)
        assert loudspeaker.player_pid != first
        assert loudspeaker.state.restarts == 1
        assert (await loudspeaker.play("b", RAMP)).outcome == "played"


async def test_a_player_that_hangs_is_replaced(sound_card, settings):
    async with Loudspeaker(settings, supervision=PATIENCE) as loudspeaker:
        await opened(loudspeaker)
        playing = asyncio.create_task(loudspeaker.play("a", LONG))
        await asyncio.sleep(0.3)
        os.kill(loudspeaker.player_pid, signal.SIGSTOP)
        assert (await asyncio.wait_for(playing, 4.0)).code == "player_stuck"
        await opened(loudspeaker)
        assert (await loudspeaker.play("b", RAMP)).outcome == "played"


async def test_without_its_card_the_state_says_so_and_the_card_is_found_when_it_comes(sound_card, settings):
    sound_card.unplug()
    async with Loudspeaker(settings, supervision=PATIENCE) as loudspeaker:
        await until(lambda: loudspeaker.state.state == "absent")
        state = loudspeaker.state.as_json("zh")
        assert state["code"] == "sound_device_unknown"
        assert "another" in state["message"]  # what there is instead
        assert "找不到声音输出设备" in state["message"]
        assert (await loudspeaker.play("a", RAMP)).has_started is False
        sound_card.plug()
        await opened(loudspeaker)
        assert (await loudspeaker.play("a", RAMP)).outcome == "played"


@pytest.mark.skipif(Path("/proc/asound/cards").exists(), reason="this machine may have a sound card")
async def test_a_machine_without_any_card_is_told_so():
    async with Loudspeaker(LoudspeakerSettings(), supervision=PATIENCE) as loudspeaker:
        await until(lambda: loudspeaker.state.state == "absent")
        assert loudspeaker.state.code in ("sound_device_none", "portaudio_missing")


async def test_without_portaudio_the_state_names_the_package(no_portaudio, settings):
    async with Loudspeaker(settings, supervision=PATIENCE) as loudspeaker:
        await until(lambda: loudspeaker.state.state == "absent")
        assert loudspeaker.state.code == "portaudio_missing"
        assert "libportaudio2" in loudspeaker.state.as_json()["remedy"]


async def test_a_switched_off_loudspeaker_starts_no_process():
    async with Loudspeaker(LoudspeakerSettings(enabled=False), supervision=PATIENCE) as loudspeaker:
        assert (loudspeaker.state.state, loudspeaker.player_pid) == ("disabled", None)


class RawPlayer:
    """A player at the end of a bare socket, to say to it what a supervisor never would."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(10)
        options = ["--control-fd", str(theirs.fileno()), "--device", "voiced_test"]
        command = [sys.executable, "-m", "appliance.audio.player", *options]
        self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stderr=subprocess.DEVNULL)
        theirs.close()

    def until(self, event: str) -> dict:
        while (report := read_frame(self.sock)[0])["event"] != event:
            pass
        return report

    def close(self) -> None:
        self.sock.close()
        assert self.process.wait(timeout=5) == 0


@pytest.fixture
def raw_player(sound_card):
    player = RawPlayer()
    assert player.until("device")["state"] == "open"
    yield player
    player.process.kill()
    player.process.wait()


NONSENSE = (
    {"op": "dance"},
    {},
    {"op": "play", "id": "x", "sample_rate": 0},
    {"op": "play", "id": "x", "sample_rate": "much"},
    {"op": "play", "id": "x", "sample_rate": RATE, "gain": 40},
    {"op": "volume", "value": None},
    {"op": "volume", "value": -1},
    {"op": "stop"},
)


def test_orders_without_sense_are_refused_and_the_player_goes_on(raw_player):
    for order in NONSENSE:
        write_frame(raw_player.sock, order)
        assert raw_player.until("refused")["op"] == order.get("op")
    write_frame(raw_player.sock, {"op": "play", "id": "a", "sample_rate": RATE})
    write_frame(raw_player.sock, {"op": "pcm", "id": "a"}, RAMP.samples.data)
    write_frame(raw_player.sock, {"op": "end", "id": "a"})
    assert raw_player.until("finished")["outcome"] == "played"
    raw_player.close()


def test_two_sounds_at_once_are_summed_and_limited(raw_player, sound_card):
    levels = {"a": 0.25, "b": 0.5, "c": 0.75}
    for name, level in levels.items():
        write_frame(raw_player.sock, {"op": "play", "id": name, "sample_rate": RATE})
        if name != "c":
            write_frame(raw_player.sock, {"op": "pcm", "id": name}, np.full(RATE, level, np.float32).data)
            write_frame(raw_player.sock, {"op": "end", "id": name})
    time.sleep(0.3)
    write_frame(raw_player.sock, {"op": "pcm", "id": "c"}, np.full(RATE // 4, levels["c"], np.float32).data)
    write_frame(raw_player.sock, {"op": "end", "id": "c"})
    for _ in levels:
        assert raw_player.until("finished")["outcome"] == "played"
    raw_player.close()
    heard = sound_card.played()
    assert np.count_nonzero(np.isclose(heard, 0.75)) > RATE // 4  # a + b, before c came
    assert np.max(heard) <= CEILING + 1e-6
    assert np.count_nonzero(np.isclose(heard, CEILING, atol=1e-3)) > RATE // 5  # a + b + c = 1.5, held at the ceiling


def test_a_player_whose_parent_is_gone_ends(raw_player):
    write_frame(raw_player.sock, {"op": "play", "id": "a", "sample_rate": RATE})
    write_frame(raw_player.sock, {"op": "pcm", "id": "a"}, LONG.samples.data)
    raw_player.until("started")
    began = time.monotonic()
    raw_player.close()
    assert time.monotonic() - began < 1.0


def test_every_reason_a_message_can_end_with_is_explained_in_both_languages():
    reasons = ("no_device", "too_old", "stopped", "interrupted", "player_lost", "player_stuck", "sound_device_lost")
    for language in ("en", "zh"):
        for reason in (*reasons, "announcement_render_failed", "announcement_play_failed"):
            assert {f"{reason}.message", f"{reason}.remedy"} <= catalogue(language).keys()
