"""`/v1/zones`, `/v1/schedules`, `/v1/music`, and what announcements say of zones."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")
VOICE = "sine-440"


async def call(box, method: str, path: str, status: int = 200, **request: object):
    async with box.client.request(method, path, **request) as answer:
        assert answer.status == status, await answer.text()
        return None if status == 204 else await answer.json(content_type=None)


def message(**fields: object) -> dict[str, object]:
    return {"text": "We close in ten minutes.", "voice": VOICE, **fields}


async def test_zones_are_listed_with_state_and_alarms(box):
    (zone,) = (await call(box, "GET", "/v1/zones"))["items"]
    assert (zone["id"], zone["playing"], zone["is_quiet"], zone["alarms"]) == ("main", None, False, [])
    assert (await call(box, "GET", "/v1/zones/main"))["id"] == "main"
    assert (await call(box, "PATCH", "/v1/zones/main", json={"volume": 0.5}))["volume"] == 0.5
    await call(box, "PATCH", "/v1/zones/main", 422, json={"volume": 2})
    problem = await call(box, "GET", "/v1/zones/garage", 404)
    assert (problem["code"], problem["measured"]["known"]) == ("zone_not_found", "main")


async def test_an_announcement_names_its_zones_and_a_key_answers_with_the_first(box):
    row = await call(box, "POST", "/v1/announcements", 202, json=message(zones=["main"], repeats=2, key="closing"))
    assert [(each["zone"], each["state"]) for each in row["zones"]] == [("main", "queued")]
    again = await call(box, "POST", "/v1/announcements", 202, json=message(zones=["main"], key="closing"))
    assert (again["id"], again["repeats"]) == (row["id"], 2)
    problem = await call(box, "POST", "/v1/announcements", 404, json=message(zones=["main", "garage"]))
    assert (problem["code"], "main" in problem["remedy"]) == ("zone_not_found", True)
    problem = await call(box, "POST", "/v1/announcements", 422, json={"voice": VOICE})
    assert (problem["code"], problem["measured"]) == ("field_missing", {"field": "text"})
    await call(box, "POST", "/v1/announcements", 404, json={"rendition": "rnd_0"})
    await call(box, "DELETE", "/v1/announcements")


async def test_events_tell_of_messages_as_they_change(box):
    async with box.client.get("/v1/announcements/events") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        row = await call(box, "POST", "/v1/announcements", 202, json=message())
        await call(box, "DELETE", f"/v1/announcements/{row['id']}")
        seen = []
        while len(seen) < 2:
            line = await answer.content.readline()
            if line.startswith(b"data:"):
                seen.append(json.loads(line[5:]))
    assert [(each["id"], each["state"]) for each in seen] == [(row["id"], "queued"), (row["id"], "cancelled")]


async def test_a_schedule_is_made_listed_switched_off_and_removed(box):
    order = {"name": "closing", "message": message(), "times": ["17:45"], "weekdays": ["mon", "fri"]}
    row = await call(box, "POST", "/v1/schedules", 201, json={**order, "time_zone": "Asia/Shanghai"})
    assert [moment[11:] for moment in row["next"]] == ["09:45:00Z"] * 3
    assert row["rule"] == {"times": ["17:45"], "weekdays": ["mon", "fri"]}
    path = f"/v1/schedules/{row['id']}"
    assert row["id"] in {item["id"] for item in (await call(box, "GET", "/v1/schedules"))["items"]}
    off = await call(box, "PATCH", path, json={"is_enabled": False})
    assert (off["is_enabled"], off["next"]) == (False, [])
    assert (await call(box, "GET", f"{path}/runs"))["items"] == []
    await call(box, "DELETE", path, 204)
    assert (await call(box, "GET", path, 404))["code"] == "schedule_not_found"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"times": ["25:00"]}, 422, "schedule_rule_invalid"),
        ({"time_zone": "Mars/Olympus"}, 422, "time_zone_unknown"),
        ({"message": message(zones=["garage"])}, 404, "zone_not_found"),
        ({"message": message(voice="nobody")}, 404, "voice_not_found"),
        ({"message": {"voice": VOICE}}, 422, "field_missing"),
    ],
)
async def test_a_schedule_that_could_never_be_said_is_refused_when_it_is_made(box, change, status, code):
    order = {"name": "closing", "message": message(), "times": ["17:45"], **change}
    assert (await call(box, "POST", "/v1/schedules", status, json=order))["code"] == code


async def test_music_needs_a_playlist_that_is_there(box):
    told = await call(box, "GET", "/v1/music")
    assert told["items"] == []
    problem = await call(box, "POST", "/v1/music", 404, json={"playlist": "../secrets"})
    assert problem["code"] == "playlist_not_found"
    assert await call(box, "DELETE", "/v1/music") == {"stopped": 0}
    await call(box, "DELETE", "/v1/music", 404, params={"zone": "garage"})
