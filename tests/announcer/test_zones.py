"""Zones: who is heard where, what interrupts what, and what a lost device changes. Sample by sample."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from announcer_stage import PATIENCE, RATE, LevelSpeech, until, until_over

from appliance.announcer.announcer import Announcer, Surroundings
from appliance.announcer.hours import Clock
from appliance.announcer.loudspeaker import Loudspeaker
from appliance.announcer.records import NewAnnouncement
from appliance.contracts import Audio
from appliance.database import open_database
from appliance.errors import InvalidInput, NotFound
from appliance.settings import LoudspeakerSettings, ZoneSettings
from appliance.voices.blobs import BlobStore

MIXED = int(os.environ.get("MIXED_MESSAGES", "60"))  # 1000 in the long form
PREEMPTED_S = float(os.environ.get("PREEMPTED_S", "2"))  # 0.2 where nothing else runs
LONG = Audio(np.full(RATE * 20, 0.25, np.float32), RATE)


class StoppedClock(Clock):
    """Shows what it is told."""

    def __init__(self, moment: str) -> None:
        self.moment = datetime.fromisoformat(moment)

    def now(self) -> datetime:
        return self.moment.astimezone(UTC)


@asynccontextmanager
async def zones(folder: Path, clock: Clock | None = None, **settings: object):
    """An announcer with the zones hall, yard and shop."""
    given = {name: ZoneSettings(devices=(f"{name}_card",), volume=1.0) for name in ("hall", "yard", "shop")}
    given |= settings.pop("zones", {})
    config = LoudspeakerSettings(
        zones=given,
        chime=False,
        sample_rate=RATE,
        target_lufs=None,
        time_zone="Europe/Berlin",
        max_queue=2000,
        **settings,
    )
    async with open_database(folder / "voiced.db") as db:
        surroundings = Surroundings(PATIENCE, clock or Clock())
        announcer = Announcer(LevelSpeech(RATE), db, BlobStore(folder / "blobs"), config, surroundings)
        async with announcer:
            await until(lambda: all(zone.outlet.is_open for zone in announcer.zones.values()))
            yield announcer


async def say(announcer: Announcer, text: str, *where: str, **fields: object) -> str:
    new = NewAnnouncement(text=text, voice="anna", zones=where, **fields)
    return (await announcer.submit("main", new)).id


async def test_a_message_is_heard_once_in_each_of_its_zones_and_nowhere_else(tmp_path, sound_cards):
    async with zones(tmp_path) as announcer:
        ids = [await say(announcer, "1 0.2", "hall", "yard"), await say(announcer, "2 0.2", "yard", "yard")]
        ids.append(await say(announcer, "3 0.2"))
        rows = await until_over(announcer, *ids)
    assert [[(each.zone, str(each.state)) for each in row.zones] for row in rows] == [
        [("hall", "done"), ("yard", "done")],
        [("yard", "done")],
        [("hall", "done")],  # the first zone, where none was named
    ]
    heard = {name: sound_cards.levels(f"{name}_card") for name in ("hall", "yard", "shop")}
    assert heard == {"hall": [1, 3], "yard": [1, 2], "shop": []}


async def test_an_emergency_is_heard_at_once_and_the_interrupted_message_starts_again(tmp_path, sound_cards):
    async with zones(tmp_path) as announcer:
        lesser = await say(announcer, "1 1.5", "hall")
        await until(lambda: 1 in sound_cards.levels("hall_card"))
        await announcer.prepare("main", NewAnnouncement(text="2 0.3", voice="anna", priority="emergency"))
        asked_at = len(sound_cards.played("hall_card"))
        urgent = await say(announcer, "2 0.3", "hall", priority="emergency")
        rows = await until_over(announcer, urgent, lesser)
    played = sound_cards.played("hall_card")[:, 0]
    began = int(np.flatnonzero(played >= 2 / 64)[0])
    print(f"heard {(began - asked_at) / RATE * 1000:.0f} ms after it was asked for")
    assert began - asked_at < PREEMPTED_S * RATE
    assert sound_cards.levels("hall_card") == [1, 2, 1]
    assert np.count_nonzero(played[began + round(0.3 * RATE) :] == np.float32(1 / 64)) == round(1.5 * RATE)
    assert np.max(np.abs(np.diff(played))) < 2.1 / 64  # one step of a message's own edge, no click
    assert [(str(row.state), row.zones[0].preempted) for row in rows] == [("done", 0), ("done", 1)]


@pytest.mark.parametrize(("rule", "state", "rest_s"), [("resume", "done", None), ("drop", "cancelled", 0.0)])
async def test_an_interrupted_message_follows_its_rule(tmp_path, sound_cards, rule, state, rest_s):
    async with zones(tmp_path) as announcer:
        lesser = await say(announcer, "1 2", "hall", interrupted=rule)
        await until(lambda: len(sound_cards.played("hall_card")[:, 0].nonzero()[0]) > RATE // 2)
        rows = await until_over(announcer, await say(announcer, "2 0.2", "hall", priority="urgent"), lesser)
    assert (str(rows[1].state), rows[1].zones[0].preempted) == (state, 1 if rule == "resume" else 0)
    played = sound_cards.played("hall_card")[:, 0]
    whole = np.count_nonzero(played == np.float32(1 / 64))
    if rest_s is None:
        assert abs(whole - 2 * RATE) <= 2  # what was faded is said again, nothing else
        assert sound_cards.levels("hall_card") == [1, 2, 1]
    else:
        assert whole < 1.5 * RATE
        assert sound_cards.levels("hall_card") == [1, 2]


async def test_what_is_not_more_urgent_waits(tmp_path, sound_cards):
    async with zones(tmp_path) as announcer:
        first = await say(announcer, "1 0.5", "hall", priority="background")
        await until(lambda: 1 in sound_cards.levels("hall_card"))
        rows = await until_over(announcer, first, await say(announcer, "2 0.1", "hall", priority="normal"))
    assert sound_cards.levels("hall_card") == [1, 2]
    assert [row.zones[0].preempted for row in rows] == [0, 0]


async def test_mixed_messages_in_three_zones_are_each_heard_exactly_once_in_order(tmp_path, sound_cards):
    """Levels 1 to 15 by turns; the zones are filled while a long emergency holds each of them."""
    chance = random.Random(11)
    priorities = ("background", "normal", "urgent", "emergency")
    expected: dict[str, list[tuple[int, int]]] = {"hall": [], "yard": [], "shop": []}
    async with zones(tmp_path) as announcer:
        holder = await say(announcer, "20 3", *expected, priority="emergency", max_age_s=9_000)
        await until(lambda: all(20 in sound_cards.levels(f"{name}_card") for name in expected))
        ids = [holder]
        for number in range(MIXED):
            where = chance.sample(sorted(expected), chance.randint(1, 3))
            rank, level = chance.randrange(4), number % 15 + 1
            text, priority = f"{level} 0.06", priorities[rank]
            ids.append(await say(announcer, text, *where, priority=priority, max_age_s=9_000, interrupted="resume"))
            for name in where:
                expected[name].append((rank, level))
        await until(lambda: not any(zone.waiting or zone.current for zone in announcer.zones.values()), 60 + MIXED)
        rows = await until_over(announcer, *ids)
        assert {str(each.state) for row in rows for each in row.zones} == {"done"}
        assert {each.repeated + each.preempted for row in rows for each in row.zones} == {0}
    for name, messages in expected.items():
        heard = sound_cards.played(f"{name}_card")[:, 0]
        in_order = [level for _, level in sorted(messages, key=lambda message: -message[0])]
        assert runs_of(heard)[1:] == in_order, name


def runs_of(samples: np.ndarray) -> list[int]:
    """Levels of what was heard, one for each 60 ms (equal levels may follow each other without a gap)."""
    steps = np.rint(samples * 64).astype(int)
    edges = np.flatnonzero(np.diff(steps, prepend=-1, append=-1))
    runs = [(int(steps[a]), b - a) for a, b in pairwise(edges) if steps[a] > 0]
    whole = round(0.06 * RATE)
    assert all(length % whole == 0 for _, length in runs)
    return [level for level, length in runs for _ in range(1 if level == 20 else length // whole)]


async def test_quiet_hours_let_only_emergencies_through_and_say_why(tmp_path, sound_cards):
    clock = StoppedClock("2026-11-26T23:10:00+01:00")
    quiet = {"hall": ZoneSettings(devices=("hall_card",), volume=1.0, quiet_hours=("22:00-06:30",))}
    async with zones(tmp_path, clock, zones=quiet) as announcer:
        late = await say(announcer, "1 0.1", "hall", max_age_s=0.5)
        waits = await say(announcer, "2 0.1", "hall", max_age_s=3000)
        (fire,) = await until_over(announcer, await say(announcer, "3 0.1", "hall", priority="emergency"))
        (expired,) = await until_over(announcer, late)
        assert (str(fire.state), str(expired.state), expired.reason) == ("done", "expired", "quiet_hours")
        assert announcer.zone_as_json("main", "hall")["is_quiet"] is True
        clock.moment = datetime.fromisoformat("2026-11-27T06:30:00+01:00")
        await until_over(announcer, await say(announcer, "4 0.1", "yard"), waits)
    assert sound_cards.levels("hall_card") == [3, 2]


async def test_the_volume_follows_the_time_of_day(tmp_path, sound_cards):
    clock = StoppedClock("2026-11-26T12:00:00+01:00")
    hall = ZoneSettings(devices=("hall_card",), volume=1.0, volume_by_time={"20:00-08:00": 0.5})
    async with zones(tmp_path, clock, zones={"hall": hall}) as announcer:
        await until_over(announcer, await say(announcer, "16 0.2", "hall"))
        clock.moment = datetime.fromisoformat("2026-11-26T20:00:00+01:00")
        await until_over(announcer, await say(announcer, "1 0.1", "yard"))
        await until_over(announcer, await say(announcer, "20 0.2", "hall"))
    assert sound_cards.levels("hall_card") == [16, 10]


async def test_a_key_keeps_a_message_from_being_said_twice_until_it_is_over(tmp_path, sound_cards):
    async with zones(tmp_path) as announcer:
        ids = {await say(announcer, "1 0.4", "hall", key="red van") for _ in range(3)}
        assert len(ids) == 1
        await until_over(announcer, *ids)
        again = await say(announcer, "1 0.2", "hall", key="red van")
        assert again not in ids
        await until_over(announcer, again)
    assert sound_cards.levels("hall_card") == [1, 1]


async def test_repeats_have_pauses_and_a_given_sound_file_is_played_as_it_is(tmp_path, sound_cards):
    async with zones(tmp_path) as announcer:
        first = await say(announcer, "1 0.2", "hall", repeats=3, pause_s=0.1)
        (row,) = await until_over(announcer, first)
        given = NewAnnouncement(text="closing bell", audio=row.audio, zones=("yard",))
        await until_over(announcer, (await announcer.submit("main", given)).id)
    heard = sound_cards.played("hall_card")[:, 0]
    assert sound_cards.levels("hall_card") == [1, 1, 1]
    assert np.count_nonzero(heard[np.flatnonzero(heard)[0] : np.flatnonzero(heard)[-1]] == 0) == round(0.2 * RATE)
    assert np.count_nonzero(sound_cards.played("yard_card")[:, 0]) == round(0.2 * RATE)


async def test_unknown_zones_and_rules_are_refused_with_what_there_is(tmp_path, sound_cards):
    async with zones(tmp_path) as announcer:
        with pytest.raises(NotFound) as refused:
            await say(announcer, "1 1", "hall", "garage")
        assert refused.value.measured == {"zone": "garage", "known": "hall, yard, shop"}
        for wrong in ({"repeats": 6}, {"pause_s": -1.0}, {"interrupted": "sing"}):
            with pytest.raises(InvalidInput):
                await say(announcer, "1 1", **wrong)
        with pytest.raises(NotFound):
            await announcer.submit("main", NewAnnouncement(text="x", audio="0" * 64))


async def test_a_zone_has_its_channels_and_its_delay(tmp_path, sound_cards):
    zone = ZoneSettings(devices=("hall_card",), volume=1.0, channels=(2,), delay_ms=100)
    ramp = Audio(np.linspace(0.1, 0.5, RATE // 2, dtype=np.float32), RATE)
    async with Loudspeaker(LoudspeakerSettings(zones={"hall": zone}), supervision=PATIENCE, zone=zone) as loudspeaker:
        await until(lambda: loudspeaker.is_open)
        assert (await loudspeaker.play("a", ramp)).outcome == "played"
    played = sound_cards.played("hall_card")
    assert not played[:, 0].any()
    heard = np.flatnonzero(played[:, 1])
    assert np.array_equal(played[heard[0] : heard[-1] + 1, 1], ramp.samples)
    assert heard[0] >= 0.1 * RATE


async def test_a_device_that_goes_away_while_speaking_is_replaced_and_taken_up_again(tmp_path, sound_cards):
    pipe = tmp_path / "hall.pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sound_cards.plug("spare_card", hall_card=str(pipe))
    drain = asyncio.create_task(drain_pipe(reading))
    zone = ZoneSettings(devices=("hall_card", "spare_card"), volume=1.0)
    async with Loudspeaker(LoudspeakerSettings(zones={"hall": zone}), supervision=PATIENCE, zone=zone) as loudspeaker:
        await until(lambda: loudspeaker.is_open)
        assert (loudspeaker.state.device, loudspeaker.state.alarm) == ("hall_card", None)
        playing = asyncio.create_task(loudspeaker.play("a", LONG))
        await asyncio.sleep(0.5)
        pid = loudspeaker.player_pid
        drain.cancel()
        sound_cards.plug("spare_card")
        os.close(reading)  # from now on the device takes nothing
        asked_at = asyncio.get_running_loop().time()
        await until(lambda: sound_cards.levels("spare_card") == [16])
        took_s = asyncio.get_running_loop().time() - asked_at
        print(f"heard on the other device after {took_s * 1000:.0f} ms")
        assert took_s < 2.0
        await until(lambda: loudspeaker.state.alarm)
        assert loudspeaker.state.alarms_as_json("en")[0]["code"] == "sound_device_fallback"
        assert (loudspeaker.player_pid, playing.done()) == (pid, False)  # the same sound goes on
        sound_cards.plug("spare_card", "hall_card")  # it is back
        await until(lambda: loudspeaker.state.device == "hall_card")
        assert loudspeaker.state.alarm is None
        await loudspeaker.stop()
        assert (await loudspeaker.play("b", Audio(np.full(RATE // 2, 0.5, np.float32), RATE))).outcome == "played"
        assert sound_cards.levels("hall_card") == [32]
        playing.cancel()


async def drain_pipe(reading: int) -> None:
    while True:
        with suppress(BlockingIOError):
            os.read(reading, 1 << 20)
        await asyncio.sleep(0.01)


async def test_a_device_that_takes_sound_and_plays_none_is_left_for_the_next(tmp_path, sound_cards):
    pipe = tmp_path / "hall.pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # nobody ever reads: its buffer fills and a write blocks
    sound_cards.plug("spare_card", hall_card=str(pipe))
    zone = ZoneSettings(devices=("hall_card", "spare_card"), volume=1.0)
    async with Loudspeaker(LoudspeakerSettings(zones={"hall": zone}), supervision=PATIENCE, zone=zone) as loudspeaker:
        await until(lambda: loudspeaker.is_open and loudspeaker.state.device == "spare_card")
        assert loudspeaker.state.alarms_as_json("zh")[0]["code"] == "sound_device_fallback"
        assert (await loudspeaker.play("a", Audio(LONG.samples[:4800], RATE))).outcome == "played"
    os.close(reading)
