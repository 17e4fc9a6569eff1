"""The announcer with its real queue, its real player and, where one is needed, a sound card made of a file."""

from __future__ import annotations

import asyncio
import os
import signal

import numpy as np
import pytest
from announcer_stage import PATIENCE, RATE, SoundCard, until, until_over

from appliance.announcer.announcer import Announcer, Surroundings
from appliance.announcer.chime import LENGTH_S, PAUSE_S, active_rms
from appliance.announcer.records import NewAnnouncement
from appliance.errors import Busy, Forbidden, InvalidInput, NotFound, StorageFull, Unavailable
from appliance.settings import LoudspeakerSettings
from appliance.voices.blobs import BlobStore


def message(text: str, **fields: object) -> NewAnnouncement:
    return NewAnnouncement(text=text, voice="anna", **fields)


async def say(announcer: Announcer, *texts: str, **fields: object) -> list[str]:
    return [(await announcer.submit("main", message(text, **fields))).id for text in texts]


async def until_playing(announcer: Announcer, announcement_id: str) -> None:
    await until(lambda: announcer.state()["playing"] == announcement_id)
    while (await announcer.get("main", announcement_id)).state != "playing":
        await asyncio.sleep(0.01)


async def test_messages_are_heard_once_each_in_the_order_they_came(announcer, sound_card: SoundCard):
    texts = [f"{n} 0.15" for n in range(1, 9)]
    async with announcer:
        rows = await until_over(announcer, *await say(announcer, *texts))
        assert announcer.state()["waiting"] == 0
    assert [(row.state, row.reason, row.repeated) for row in rows] == [("done", "", 0)] * 8
    assert all(row.started_at <= row.finished_at for row in rows)
    assert sound_card.levels() == list(range(1, 9))


async def test_higher_priorities_go_first_and_equal_ones_in_order(announcer, sound_card):
    async with announcer:
        ids = await say(announcer, "1 0.6", priority="emergency")
        await until_playing(announcer, ids[0])
        for text, priority in (
            ("2 0.1", "background"),
            ("3 0.1", "normal"),
            ("4 0.1", "urgent"),
            ("5 0.1", "normal"),
            ("6 0.1", "emergency"),
            ("7 0.1", "urgent"),
        ):
            ids += await say(announcer, text, priority=priority)
        await until_over(announcer, *ids)
    assert sound_card.levels() == [1, 6, 4, 7, 3, 5, 2]


async def test_an_emergency_does_not_wait_for_the_rendering_of_lesser_messages(announcer, speech, sound_card):
    speech.delay_s = 0.5
    async with announcer:
        ids = await say(announcer, "1 0.1")
        await asyncio.sleep(0.1)
        ids += await say(announcer, "2 0.1", priority="emergency")
        await until_over(announcer, *ids)
    assert sound_card.levels() == [2, 1]


async def test_the_next_messages_are_rendered_while_one_plays(announcer, speech, sound_card):
    async with announcer:
        ids = await say(announcer, "1 2", "2 0.1", "3 0.1", "4 0.1")
        await until_playing(announcer, ids[0])
        await until(lambda: len(speech.rendered) == 4)
        assert (await announcer.get("main", ids[0])).state == "playing"
        row = await announcer.get("main", ids[1])
        assert (row.state, row.rendition, row.duration_s) == ("queued", "rendition of 2 0.1", 0.1)
        await announcer.stop("main")


async def test_a_message_that_was_tidied_away_before_its_age_ended_does_not_hold_up_the_others(announcer, sound_card):
    """A clock that jumps by months makes rows old that are minutes old."""
    async with announcer:
        (first,) = await say(announcer, "1 0.1", max_age_s=1.0)
        await until_over(announcer, first)
        for table, column in (("deliveries", "announcement"), ("announcements", "id")):
            query = f"DELETE FROM {table} WHERE {column} = ?"
            await announcer._queue._db.write(lambda db, query=query: db.execute(query, (first,)) and None)
        await asyncio.sleep(1.2)
        await until_over(announcer, *await say(announcer, "2 0.1"))
    assert sound_card.levels() == [1, 2]


async def test_stopping_one_message_cuts_it_and_the_next_follows(announcer, sound_card):
    async with announcer:
        ids = await say(announcer, "1 20", "2 0.1")
        await until_playing(announcer, ids[0])
        await asyncio.sleep(0.4)
        asked = asyncio.get_running_loop().time()
        (row,) = await announcer.stop("main", ids[0])
        assert asyncio.get_running_loop().time() - asked < 0.3
        assert (row.state, row.reason) == ("cancelled", "stopped")
        await until_over(announcer, ids[1])
    assert sound_card.levels() == [1, 2]
    assert np.count_nonzero(sound_card.played() == 1 / 64) < 1.5 * RATE


async def test_stopping_all_silences_one_tenant_and_leaves_the_other(announcer, sound_card):
    async with announcer:
        mine = await say(announcer, "1 20", "2 0.1")
        theirs = await announcer.submit("branch", message("3 0.1"))
        await until(lambda: 1 in sound_card.levels())
        with pytest.raises(NotFound):
            await announcer.stop("branch", mine[0])
        with pytest.raises(NotFound):
            await announcer.get("branch", mine[0])
        assert [row.state for row in await announcer.stop("main")] == ["cancelled"] * 2
        while not (await announcer.get("branch", theirs.id)).is_over:
            await asyncio.sleep(0.02)
        assert [row.id for row in (await announcer.page("branch")).items] == [theirs.id]
    assert sound_card.levels() == [1, 3]


async def test_stopping_a_message_that_is_over_changes_nothing(announcer, sound_card):
    async with announcer:
        (announcement_id,) = await say(announcer, "1 0.1")
        await until_over(announcer, announcement_id)
        assert [row.state for row in await announcer.stop("main", announcement_id)] == ["done"]


async def test_a_player_killed_in_the_middle_repeats_the_message_once_and_marks_it(announcer, sound_card):
    async with announcer:
        ids = await say(announcer, "1 1.0", "2 0.1")
        await until_playing(announcer, ids[0])
        await asyncio.sleep(0.4)
        os.kill(announcer.loudspeaker.player_pid, signal.SIGKILL)
        rows = await until_over(announcer, *ids)
    assert [(row.state, row.repeated) for row in rows] == [("done", 1), ("done", 0)]
    assert sound_card.levels() == [1, 2]  # of the second player, from the start
    assert np.count_nonzero(sound_card.played() == 1 / 64) == RATE


async def test_a_message_interrupted_twice_is_reported_and_not_said_a_third_time(announcer, sound_card):
    async with announcer:
        ids = await say(announcer, "1 1.0", "2 0.1")
        for _ in range(2):
            await until_playing(announcer, ids[0])
            await until(lambda: 1 in sound_card.levels())
            os.kill(announcer.loudspeaker.player_pid, signal.SIGKILL)
            await until(lambda: announcer.state()["playing"] is None)
        rows = await until_over(announcer, *ids)
    assert [(row.state, row.reason, row.repeated) for row in rows] == [("failed", "player_lost", 1), ("done", "", 0)]
    assert sound_card.levels() == [2]


async def test_without_its_device_a_message_waits_and_is_heard_when_the_device_comes(announcer, sound_card):
    sound_card.unplug()
    async with announcer:
        ids = await say(announcer, "1 0.1", "2 0.1")
        await until(lambda: announcer.state()["state"] == "absent")
        await asyncio.sleep(0.5)
        row = await announcer.get("main", ids[0])
        assert (row.state, row.duration_s) == ("queued", 0.1)
        assert announcer.state("zh")["remedy"]
        sound_card.plug()
        assert [row.state for row in await until_over(announcer, *ids)] == ["done", "done"]
    assert sound_card.levels() == [1, 2]


async def test_without_portaudio_a_message_expires_with_the_reason_and_nobody_waits_for_it(announcer, no_portaudio):
    async with announcer:
        await until(lambda: announcer.state()["state"] == "absent")
        ids = await say(announcer, "1 0.1", max_age_s=0.7)
        (row,) = await until_over(announcer, *ids)
    assert (row.state, row.reason, row.started_at) == ("expired", "no_device", None)


async def test_a_message_that_waited_too_long_behind_others_is_not_said(announcer, sound_card):
    async with announcer:
        ids = await say(announcer, "1 1")
        await until_playing(announcer, ids[0])
        ids += await say(announcer, "2 0.1", max_age_s=0.3)
        rows = await until_over(announcer, *ids)
    assert [(row.state, row.reason) for row in rows] == [("done", ""), ("expired", "too_old")]
    assert sound_card.levels() == [1]


async def test_what_waited_is_said_after_a_restart_in_order(tmp_path, announcer, speech, settings, sound_card):
    sound_card.unplug()
    async with announcer:
        ids = await say(announcer, "1 0.1", "2 0.1")
        ids += await say(announcer, "3 0.1", priority="urgent")
    sound_card.plug()
    async with again(announcer, tmp_path, speech, settings) as second:
        rows = await until_over(second, *ids)
    assert [(row.state, row.repeated) for row in rows] == [("done", 0)] * 3
    assert sound_card.levels() == [3, 1, 2]


async def test_a_message_cut_by_a_restart_is_repeated_once_and_then_reported(
    tmp_path, announcer, speech, settings, sound_card
):
    async with announcer:
        ids = await say(announcer, "1 3")
        await until_playing(announcer, ids[0])
        await announcer.close(drain_s=0.1)
        assert (await announcer.get("main", ids[0])).state == "playing"
    async with again(announcer, tmp_path, speech, settings) as second:
        await until_playing(second, ids[0])
        assert (await second.get("main", ids[0])).repeated == 1
        await second.close(drain_s=0.1)
    async with again(announcer, tmp_path, speech, settings) as third:
        (row,) = await until_over(third, *ids)
    assert (row.state, row.reason, row.repeated) == ("failed", "interrupted", 1)


async def test_a_daemon_that_stops_lets_the_sentence_end(announcer, sound_card):
    async with announcer:
        ids = await say(announcer, "1 1", "2 0.1")
        await until_playing(announcer, ids[0])
        await announcer.close()
        assert (await announcer.get("main", ids[0])).state == "done"
        assert (await announcer.get("main", ids[1])).state == "queued"
    assert np.count_nonzero(sound_card.played() == 1 / 64) == RATE


def again(announcer: Announcer, tmp_path, speech, settings) -> Announcer:
    """The announcer of the next process on the same database."""
    return Announcer(speech, announcer._queue._db, BlobStore(tmp_path / "blobs"), settings, Surroundings(PATIENCE))


async def test_volume_is_the_product_of_message_and_box(tmp_path, announcer, speech, settings, sound_card):
    half = settings.model_copy(update={"volume": 0.5})
    async with again(announcer, tmp_path, speech, half) as quiet:
        await until_over(quiet, *await say(quiet, "32 0.2", volume=0.5))
        await quiet.set_volume(1.0)
        await asyncio.sleep(0.1)
        await until_over(quiet, *await say(quiet, "32 0.2", volume=0.75))
        with pytest.raises(InvalidInput):
            await quiet.set_volume(1.01)
    assert sound_card.levels() == [8, 24]


async def test_the_chime_comes_first_is_as_loud_as_the_speech_and_only_where_wanted(announcer, sound_card):
    async with announcer:
        await until_over(announcer, *await say(announcer, "8 0.5", chime=True), *await say(announcer, "9 0.1"))
    played = sound_card.played()
    begin = np.flatnonzero(played)[0]
    speech_at = np.flatnonzero(played == 8 / 64)[-1] + 1 - RATE // 2
    assert np.array_equal(np.unique(played[speech_at : speech_at + RATE // 2]), np.float32([8 / 64]))
    assert abs((speech_at - begin) / RATE - LENGTH_S - PAUSE_S) < 0.01
    chime = played[begin:speech_at]
    assert -6 < 20 * np.log10(active_rms(chime, RATE) / (8 / 64)) < 0
    assert np.max(np.abs(chime)) < 0.81
    spectrum = np.abs(np.fft.rfft(chime[: RATE // 4]))
    assert abs(np.argmax(spectrum) * 4 - 659) < 6  # E5 first
    after = np.flatnonzero(np.isclose(played, 9 / 64))
    assert not played[speech_at + RATE // 2 : after[0]].any()  # no second chime


async def test_a_broken_message_fails_with_its_reason_and_the_others_are_heard(announcer, speech, sound_card):
    async with announcer:
        ids = await say(announcer, "1 0.1", "crash 0.1", "2 0.1")
        rows = await until_over(announcer, *ids)
        page = await announcer.page("main")
    assert [(row.state, row.reason) for row in rows] == [
        ("done", ""),
        ("failed", "announcement_render_failed"),
        ("done", ""),
    ]
    assert sound_card.levels() == [1, 2]
    assert {row.id for row in page.items if row.state == "done"} == {ids[0], ids[2]}


async def test_a_busy_box_makes_a_message_later_not_lost(announcer, speech, sound_card):
    speech.busy_times = 2
    async with announcer:
        (row,) = await until_over(announcer, *await say(announcer, "1 0.1"))
    assert (row.state, speech.busy_times) == ("done", 0)


async def test_a_consent_revoked_while_a_message_waits_silences_it(announcer, speech, sound_card):
    async with announcer:
        ids = await say(announcer, "1 0.5", "2 0.1")
        await until_playing(announcer, ids[0])
        await until(lambda: "2 0.1" in speech.rendered)
        speech.refusal = Forbidden("consent_revoked", voice="anna")
        rows = await until_over(announcer, *ids)
    assert (rows[1].state, rows[1].reason) == ("failed", "consent_revoked")
    assert sound_card.levels() == [1]


async def test_a_rotten_sound_file_is_not_played(tmp_path, announcer, sound_card):
    sound_card.unplug()
    async with announcer:
        ids = await say(announcer, "1 0.1")
        await until(lambda: list((tmp_path / "blobs/sha256").glob("*/*")))
        (blob,) = (tmp_path / "blobs/sha256").glob("*/*")
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
        while (await announcer.get("main", ids[0])).audio is None:
            await asyncio.sleep(0.01)
        sound_card.plug()
        (row,) = await until_over(announcer, *ids)
    assert (row.state, row.reason) == ("failed", "blob_corrupt")
    assert sound_card.levels() == []


@pytest.mark.parametrize(
    ("new", "error", "code"),
    [
        (message("1 1", priority="shouting"), InvalidInput, "priority_unknown"),
        (message("1 1", volume=1.5), InvalidInput, "volume_out_of_range"),
        (message("1 1", volume=float("nan")), InvalidInput, "volume_out_of_range"),
        (message("1 1", max_age_s=0), InvalidInput, "max_age_out_of_range"),
        (message("1 1", max_age_s=float("inf")), InvalidInput, "max_age_out_of_range"),
        (message("   "), InvalidInput, "text_empty"),
        (NewAnnouncement(text="1 1", voice="nobody"), NotFound, "voice_not_found"),
    ],
)
async def test_what_makes_no_sense_is_refused_at_once(announcer, new, error, code):
    with pytest.raises(error) as refused:
        await announcer.submit("main", new)
    assert refused.value.code == code
    assert (await announcer.page("main")).items == ()


async def test_a_lone_surrogate_in_text_or_id_is_harmless(announcer):
    row = await announcer.submit("main", message("1 \ud8000.1"))
    assert (await announcer.get("main", row.id)).text == "1 0.1"
    with pytest.raises(NotFound):
        await announcer.get("main", "\ud800")


async def test_the_queue_has_a_bound(tmp_path, announcer, speech, settings):
    short = again(announcer, tmp_path, speech, settings.model_copy(update={"max_queue": 3}))
    await say(short, "1 1", "2 1", "3 1")
    with pytest.raises(Busy) as refused:
        await say(short, "4 1")
    assert refused.value.measured["retry_after_s"] > 0


async def test_a_switched_off_loudspeaker_takes_nothing(tmp_path, announcer, speech):
    async with again(announcer, tmp_path, speech, LoudspeakerSettings(enabled=False)) as off:
        assert off.state()["state"] == "disabled"
        with pytest.raises(Unavailable):
            await say(off, "1 1")


async def test_pages_hold_every_message_once_newest_first(announcer):
    ids = await say(announcer, *(f"{n} 1" for n in range(7)))
    seen, cursor = [], None
    while True:
        page = await announcer.page("main", cursor, 3)
        seen += [row.id for row in page.items]
        if (cursor := page.next) is None:
            break
    assert seen == ids[::-1]
    for bad in ("x", "-1", "9" * 30):
        with pytest.raises(InvalidInput):
            await announcer.page("main", bad, 3)


async def test_events_tell_every_step_of_a_message(announcer, sound_card):
    states: list[str] = []

    async def follow() -> None:
        async for row in announcer.events("main"):
            if row is None:  # the zone
                continue
            states.append(str(row.state))
            if row.is_over:
                return

    async with announcer:
        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        await announcer.submit("branch", message("2 0.1"))
        await say(announcer, "1 0.1")
        await asyncio.wait_for(following, 10)
    assert states == ["queued", "rendering", "queued", "playing", "done"]


async def test_a_disk_that_takes_nothing_delays_a_message_and_never_doubles_it(announcer, sound_card):
    db = announcer._queue._db
    async with announcer:
        ids = await say(announcer, "1 0.6", "2 0.1")
        await until_playing(announcer, ids[0])
        writer = await db.write(lambda connection: connection)
        writer.execute("PRAGMA query_only = ON")  # SQLite then answers as for a disk that became read-only
        await asyncio.sleep(1.5)
        assert announcer.state()["playing"] == ids[0]  # heard, but its end could not be written yet
        with pytest.raises(StorageFull):
            await say(announcer, "3 1")
        writer.execute("PRAGMA query_only = OFF")
        rows = await until_over(announcer, *ids)
    assert [(row.state, row.repeated) for row in rows] == [("done", 0)] * 2
    assert sound_card.levels() == [1, 2]
