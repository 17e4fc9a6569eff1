"""A zone that is another box: two real daemons, a cable that is cut, and every sample that the other box plays."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

import numpy as np
import pytest
from two_boxes import RATE, lay_cable, make_place, move, pair_up, plug_in, remove_networks, times_heard, until, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "possible here")

SLOW = "rate 1mbit burst 16kb latency 400ms"
FADED = RATE // 10  # while it begins, the interrupted message fades out
SPACES = (f"voiced-shop-{os.getpid()}", f"voiced-branch-{os.getpid()}")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """The shop, whose zone "branch" is the hall of the branch; they are paired, and nothing is allowed yet."""
    folder = tmp_path_factory.mktemp("boxes")
    hall = {"devices": ["hall_card"], "volume": 1.0}
    lay_cable(*SPACES)
    shop_zones = {
        "hall": hall,
        "branch": {"peer": "Branch", "zone": "hall"},
        "circle": {"peer": "Branch", "zone": "shop"},
        "nowhere": {"peer": "Branch", "zone": "cellar"},
        "stranger": {"peer": "Nobody", "zone": "hall"},
    }
    shop = make_place(folder / "shop", SPACES[0], "10.77.0.1", "Shop", shop_zones)
    branch_zones = {"hall": hall, "shop": {"peer": "Shop", "zone": "hall"}}
    branch = make_place(folder / "branch", SPACES[1], "10.77.0.2", "Branch", branch_zones)
    try:
        for place in (shop, branch):
            plug_in(place)
            place.box.start()
        branch.guest = pair_up(shop, branch)
        yield shop, branch
    finally:
        for place in (shop, branch):
            with suppress(Exception):
                place.box.stop(5)
        remove_networks(*SPACES)


def allow(branch, *zones: str, priority: str = "emergency") -> None:
    order = {"announce": {"zones": list(zones), "priority": priority}}
    status, row = branch.ask("PATCH", f"/v1/peers/{branch.guest}", order)
    assert status == 200 and row["announce"]["zones"] == list(zones), row


def audited(place, action: str, outcome: str) -> list[dict]:
    rows = place.ask("GET", "/v1/audit?limit=200")[1]["items"]
    return [row for row in rows if row["action"] == action and row["outcome"] == outcome]


def test_what_is_not_allowed_is_refused_with_its_reason_and_both_boxes_keep_it_on_record(boxes):
    shop, branch = boxes
    refused = shop.over(shop.say("Nobody let us speak here.", "branch"))
    assert (refused["state"], refused["reason"]) == ("failed", "peer_may_not_announce")
    assert "voiced peers allow" in refused["explanation"]["remedy"]
    allow(branch, "hall", priority="normal")
    too_high = shop.over(shop.say("Only up to normal.", "branch", priority="emergency"))
    assert too_high["reason"] == "peer_priority_not_allowed"
    assert shop.over(shop.say("Not that zone.", "circle"))["reason"] == "peer_may_not_announce"
    allow(branch, "*")
    assert shop.over(shop.say("Round and round.", "circle"))["reason"] == "peer_zone_elsewhere"
    assert shop.over(shop.say("Is there a cellar?", "nowhere"))["reason"] == "peer_zone_unknown"
    status, row = shop.ask("POST", "/v1/announcements", {"text": "Hello.", "voice": "sine-440", "zones": ["stranger"]})
    assert (status, row["code"]) == (503, "zone_peer_unknown")
    assert not np.any(branch.played())
    for place, action in ((shop, "announcement.hand"), (branch, "announcement.take")):
        assert len(audited(place, action, "refused")) == 5


def test_a_message_is_heard_there_once_sample_by_sample_and_its_sound_travels_once(boxes):
    shop, branch = boxes
    allow(branch, "hall")
    first = shop.over(shop.say("The shop greets the branch.", "branch"))
    assert first["state"] == "done", first
    sound = shop.sound_of(first["id"])
    assert times_heard(branch.played(), sound) == 1
    assert not np.any(shop.played())
    there = branch.ask("GET", "/v1/announcements")[1]["items"][0]
    assert (there["audio"], there["state"], there["voice"]) == (first["audio"], "done", "")
    assert first["zones"][0]["handed"] == "accepted" and first["zones"][0]["started_at"]
    assert shop.over(shop.say("The shop greets the branch.", "branch"))["state"] == "done"
    assert times_heard(branch.played(), sound) == 2
    events = audited(shop, "announcement.hand", "done")
    assert len(events) == len(audited(branch, "announcement.take", "done")) == 2


def test_an_emergency_interrupts_there_and_a_stop_is_passed_on(boxes):
    shop, branch = boxes
    allow(branch, "hall")
    alarm = {"priority": "emergency", "chime": False}
    shop.over(shop.say("Leave the building now.", "branch", **alarm))  # its sound is there from now on
    long = shop.say("A long message that is interrupted. " * 12, "branch")
    until(lambda: shop.message(long)["state"] == "playing")
    began = len(branch.played())
    urgent = shop.say("Leave the building now.", "branch", **alarm)
    assert shop.over(urgent)["state"] == "done"
    sound = shop.sound_of(urgent)[FADED:]
    after = branch.played()[began:]
    first = np.flatnonzero(after == sound[np.argmax(np.abs(sound))])[0] - np.argmax(np.abs(sound)) - FADED
    print(f"first sample {first / RATE * 1000:.0f} ms after it was asked for")
    assert times_heard(after, sound) == 1
    assert first < 5 * RATE
    until(lambda: shop.message(long)["zones"][0]["preempted"] == 1)
    until(lambda: shop.message(long)["state"] == "playing")
    status, stopped = shop.ask("DELETE", f"/v1/announcements/{long}")
    assert (status, stopped["items"][0]["state"]) == (200, "cancelled")
    until(lambda: branch.ask("GET", "/v1/zones/hall")[1]["playing"] is None)
    assert times_heard(branch.played(), shop.sound_of(long)) == 0


def test_a_cable_that_is_cut_while_the_sound_travels_is_waited_for_and_the_message_is_heard_once(boxes):
    shop, branch = boxes
    allow(branch, "hall")
    subprocess.run(
        f"ip netns exec {shop.space} tc qdisc add dev cable root tbf {SLOW}".split(), check=True, capture_output=True
    )
    try:
        long = shop.say("This sound is on its way when the cable is cut. " * 10, "branch")
        arrived = branch.box.state_dir / "offers"
        until(lambda: any(path.stat().st_size > 65_536 for path in arrived.rglob("*.part")))
        shop.cable("down")
        said_after = until(lambda: shop.message(long)["reason"] == "zone_peer_away")
        print(f"said to be away after {said_after:.1f} s")
        zone = shop.ask("GET", "/v1/zones/branch")[1]
        assert (zone["state"], zone["alarms"][0]["code"]) == ("absent", "zone_peer_away")
        short = shop.say("Too late for this one.", "branch", max_age_s=2)
        assert (shop.over(short)["state"], shop.message(short)["reason"]) == ("expired", "zone_peer_away")
        shop.cable("up")
        assert shop.over(long)["state"] == "done"
    finally:
        subprocess.run(f"ip netns exec {shop.space} tc qdisc del dev cable root".split(), check=True)
    assert times_heard(branch.played(), shop.sound_of(long)) == 1
    assert shop.ask("GET", "/v1/zones/branch")[1]["alarms"] == []


def test_an_emergency_goes_ahead_of_a_sound_that_is_travelling(boxes):
    shop, branch = boxes
    allow(branch, "hall")
    command = f"ip netns exec {shop.space} tc qdisc add dev cable root tbf {SLOW}"
    subprocess.run(command.split(), check=True, capture_output=True)
    try:
        long = shop.say("A long announcement with a long sound, not urgent at all. " * 10, "branch", max_age_s=600)
        until(lambda: any(path.stat().st_size for path in (branch.box.state_dir / "offers").rglob("*.part")))
        urgent = shop.say("Fire alarm, leave now.", "branch", priority="emergency")
        until(lambda: shop.message(urgent)["zones"][0]["handed"] == "accepted")
        assert shop.message(long)["zones"][0]["handed"] == ""
        assert shop.over(urgent)["state"] == "done"
        shop.ask("DELETE", f"/v1/announcements/{long}")
    finally:
        subprocess.run(f"ip netns exec {shop.space} tc qdisc del dev cable root".split(), check=True)


def test_a_box_that_is_killed_while_it_plays_repeats_once_and_one_that_asked_is_told_after_its_own_death(boxes):
    shop, branch = boxes
    allow(branch, "hall")
    first = shop.say("The other box dies while this is heard. " * 4, "branch")
    until(lambda: shop.message(first)["state"] == "playing")
    branch.box.process.kill()
    branch.box.process.wait()
    port = branch.box.url.rsplit(":", 1)[1]
    branch.box.start(port=port)
    ended = shop.over(first)
    assert (ended["state"], ended["zones"][0]["repeated"]) == ("done", 1)
    assert times_heard(branch.played(), shop.sound_of(first)) == 1
    second = shop.say("The box that asked dies while this is heard. " * 4, "branch")
    until(lambda: shop.message(second)["state"] == "playing")
    shop.box.process.kill()
    shop.box.process.wait()
    shop.box.start()
    ended = shop.over(second)
    assert (ended["state"], ended["zones"][0]["repeated"]) == ("done", 0)
    assert times_heard(branch.played(), shop.sound_of(second)) == 1


def test_a_box_that_comes_back_at_another_address_is_found(boxes):
    shop, branch = boxes
    allow(branch, "hall")
    branch.box.stop(10)
    move(branch, "10.77.0.3")
    branch.box.start()
    message = shop.over(shop.say("You have moved, and are greeted all the same.", "branch"), 90)
    assert message["state"] == "done", message
    assert times_heard(branch.played(), shop.sound_of(message["id"])) == 1
    assert shop.ask("GET", "/v1/peers")[1]["items"][0]["url"] == branch.lan_url


def test_a_box_that_was_removed_may_say_nothing_any_more(boxes):
    shop, branch = boxes
    assert branch.ask("DELETE", f"/v1/peers/{branch.guest}")[0] == 204
    refused = shop.over(shop.say("Are you still there?", "branch"))
    assert (refused["state"], refused["reason"]) == ("failed", "peer_refused")
    until(lambda: shop.ask("GET", "/v1/zones/branch")[1]["state"] == "error")
