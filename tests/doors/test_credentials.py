"""Tokens, people, tenants and quotas at the doors of a real box."""

from __future__ import annotations

import aiohttp
import pytest
import pytest_asyncio
from open_box import TEXT, TOKEN, open_box

from appliance.security import people

pytestmark = pytest.mark.asyncio(loop_scope="session")
SAY = {"speaker": "sine-440", "text": TEXT}
PASSWORD = "correct horse battery"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(tmp_path_factory):
    """A box that two tenants share."""
    async with open_box(tmp_path_factory.mktemp("shop"), http={"trust_loopback": False}) as opened:
        await ask(opened, "/v1/tenants", "POST", TOKEN, {"id": "bakery", "title": "Bakery"})
        yield opened


async def ask(box, path, method="GET", token=None, body=None, headers=None, **params):
    headers = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    async with box.client.request(method, path, headers=headers, json=body, params=params) as answer:
        document = await answer.json(content_type=None) if "json" in answer.content_type else {}
        return answer.status, document, answer.headers


async def issue(box, role="developer", by=TOKEN, **more):
    status, document, _ = await ask(box, "/v1/tokens", "POST", by, {"role": role, **more})
    assert status == 201, document
    return document


async def code(box, path, method="GET", token=None, body=None, **params):
    status, document, _ = await ask(box, path, method, token, body, **params)
    return status, document.get("code") if isinstance(document, dict) else None


async def test_a_token_is_shown_once_and_opens_what_its_role_covers(shop):
    issued = await issue(shop, "developer", title="till")
    assert (await ask(shop, "/tts", token=issued["token"], **SAY))[0] == 200
    assert await code(shop, "/v1/tokens", token=issued["token"]) == (403, "role_not_allowed")
    status, told, _ = await ask(shop, f"/v1/tokens/{issued['id']}", token=TOKEN)
    assert status == 200 and told["last_used_at"] and "token" not in told
    everything = str((await ask(shop, "/v1/tokens", token=TOKEN))[1])
    assert issued["token"].partition(".")[2] not in everything and "digest" not in everything
    rows = await shop.services.db.read(lambda db: str([tuple(row) for row in db.execute("SELECT * FROM tokens")]))
    assert issued["token"].partition(".")[2] not in rows


async def test_a_replayed_token_opens_nothing_once_it_was_rotated_or_revoked(shop):
    issued = await issue(shop)
    path = f"/v1/tokens/{issued['id']}"
    _, fresh, _ = await ask(shop, f"{path}/rotate", "POST", TOKEN, {"overlap_s": 600})
    for token in (issued["token"], fresh["token"]):  # both, for a while
        assert (await ask(shop, "/v1/voices", token=token))[0] == 200
    _, third, _ = await ask(shop, f"{path}/rotate", "POST", TOKEN, {"overlap_s": 0})
    assert await code(shop, "/v1/voices", token=issued["token"]) == (401, "token_wrong")
    assert await code(shop, "/v1/voices", token=fresh["token"]) == (401, "token_expired")
    assert (await ask(shop, "/v1/voices", token=third["token"]))[0] == 200
    assert (await ask(shop, path, "DELETE", TOKEN))[1]["revoked_at"]
    assert await code(shop, "/v1/voices", token=third["token"]) == (401, "token_revoked")


async def test_an_expired_token_opens_nothing_even_when_the_clock_goes_back(shop, monkeypatch):
    issued = await issue(shop, expires_in_s=3600)
    assert (await ask(shop, "/v1/voices", token=issued["token"]))[0] == 200
    monkeypatch.setattr("appliance.security.tokens.utc_now", lambda: "2099-01-01T00:00:00.000Z")
    assert await code(shop, "/v1/voices", token=issued["token"]) == (401, "token_expired")
    monkeypatch.setattr("appliance.security.tokens.utc_now", lambda: "2020-01-01T00:00:00.000Z")
    assert await code(shop, "/v1/voices", token=issued["token"]) == (401, "token_expired")
    shop.services.security.tokens._latest = ""  # for the other tests of this box


async def test_scopes_limit_voices_and_doors(shop):
    limited = (await issue(shop, "operator", voices=["sine-440"], doors=["tts", "announce"]))["token"]
    assert (await ask(shop, "/tts", token=limited, **SAY))[0] == 200
    assert await code(shop, "/tts", token=limited, speaker="sine-220", text=TEXT) == (404, "voice_not_found")
    assert await code(shop, "/v1/system", token=limited) == (403, "door_not_allowed")
    assert await code(shop, "/v1/announcements", "POST", limited, {"text": TEXT, "voice": "sine-220"}) == (
        404,
        "voice_not_found",
    )
    viewer = (await issue(shop, voices=["sine-440"]))["token"]
    assert [row["id"] for row in (await ask(shop, "/v1/voices", token=viewer))[1]["items"]] == ["sine-440"]
    assert await code(shop, "/v1/voices/sine-220", token=viewer) == (404, "voice_not_found")
    assert (await ask(shop, "/v1/voices/sine-440", token=viewer))[0] == 200
    assert await code(shop, "/v1/tokens", "POST", TOKEN, {"doors": ["window"]}) == (422, "field_invalid")


async def test_nobody_hands_out_more_than_they_have(shop):
    admin = (await issue(shop, "tenant-admin", tenant="bakery", voices=["sine-440"]))["token"]
    assert await code(shop, "/v1/tokens", "POST", admin, {"role": "owner"}) == (403, "role_too_high")
    assert await code(shop, "/v1/tokens", "POST", admin, {"tenant": "main"}) == (403, "role_not_allowed")
    assert await code(shop, "/v1/tokens", "POST", admin, {"voices": ["sine-220"]}) == (403, "scope_too_wide")
    assert (await issue(shop, "device", by=admin))["voices"] == ["sine-440"]
    assert await code(shop, "/v1/tenants", "POST", admin, {"id": "mine"}) == (403, "role_not_allowed")
    assert [row["id"] for row in (await ask(shop, "/v1/tenants", token=admin))[1]["items"]] == ["bakery"]
    assert await code(shop, "/v1/tenants/main", token=admin) == (404, "tenant_not_found")


async def test_who_is_limited_to_voices_or_doors_does_not_get_more_by_a_detour(shop):
    """Another's secret, or a login: people have every voice and every door."""
    wide = await issue(shop, "device", tenant="bakery")
    for scope in ({"voices": ["sine-440"]}, {"doors": ["api"]}):
        admin = (await issue(shop, "tenant-admin", tenant="bakery", **scope))["token"]
        mine = await issue(shop, "device", by=admin)
        for way in ("POST", f"/v1/tokens/{wide['id']}/rotate"), ("DELETE", f"/v1/tokens/{wide['id']}"):
            assert await code(shop, way[1], way[0], admin) == (403, "scope_too_wide")
        assert (await ask(shop, f"/v1/tokens/{mine['id']}/rotate", "POST", admin))[0] == 200
        new = {"login": "detour", "role": "device", "password": PASSWORD}
        assert await code(shop, "/v1/people", "POST", admin, new) == (403, "scope_too_wide")
    owner = (await issue(shop, "tenant-admin", tenant="bakery"))["token"]
    _, person, _ = await ask(
        shop, "/v1/people", "POST", owner, {"login": "lin", "role": "device", "password": PASSWORD}
    )
    path = f"/v1/people/{person['id']}"
    assert await code(shop, path, "PATCH", admin, {"password": PASSWORD[::-1]}) == (403, "scope_too_wide")
    assert (await ask(shop, path, "PATCH", owner, {"password": PASSWORD[::-1]}))[0] == 200


async def test_the_volume_of_a_zone_is_the_boxs_and_a_change_is_in_the_log(shop):
    """A zone sounds for all tenants: another tenant's operator has the volume of a message."""
    theirs, ours = await issue(shop, "operator", tenant="bakery"), await issue(shop, "operator")
    change = ("/v1/zones/main", "PATCH")
    assert await code(shop, *change, theirs["token"], {"volume": 0.1}) == (403, "zone_volume_is_shared")
    assert (await ask(shop, "/v1/zones/main", token=theirs["token"]))[1]["volume"] == 0.8
    assert (await ask(shop, *change, ours["token"], {"volume": 0.4}))[1]["volume"] == 0.4
    entry = (await ask(shop, "/v1/audit", token=TOKEN, action="zone.volume"))[1]["items"][0]
    assert (entry["subject"], entry["actor"], entry["details"]) == ("main", f"token:{ours['id']}", {"volume": "0.4"})
    assert await code(shop, "/v1/zones/garage", "PATCH", ours["token"], {"volume": 1}) == (404, "zone_not_found")


async def test_a_new_tenant_has_the_starter_voices_and_can_be_shut_out(shop):
    await ask(shop, "/v1/tenants", "POST", TOKEN, {"id": "kiosk"})
    token = (await issue(shop, "device", tenant="kiosk"))["token"]
    assert (await ask(shop, "/tts", token=token, **SAY))[0] == 200
    await ask(shop, "/v1/tenants/kiosk", "PATCH", TOKEN, {"is_disabled": True})
    assert await code(shop, "/tts", token=token, **SAY) == (401, "tenant_disabled")
    await ask(shop, "/v1/tenants/kiosk", "PATCH", TOKEN, {"is_disabled": False})
    assert (await ask(shop, "/tts", token=token, **SAY))[0] == 200
    assert await code(shop, "/v1/tenants", "POST", TOKEN, {"id": "kiosk"}) == (409, "tenant_exists")


async def test_the_owner_rules_which_consents_a_tenant_takes(shop):
    await ask(shop, "/v1/tenants", "POST", TOKEN, {"id": "strict", "policy": {"spoken_for": ["clone"]}})
    steward = (await issue(shop, "voice-steward", tenant="strict"))["token"]
    agreed = {"speaker": "anna", "voice": "anna", "purposes": ["clone"]}
    assert await code(shop, "/v1/consents", "POST", steward, agreed) == (403, "consent_must_be_spoken")
    assert (await ask(shop, "/v1/consents", "POST", steward, {**agreed, "purposes": ["speak"]}))[0] == 201
    rule = {"policy": {"excluded": ["speak"], "by_person": True}}
    assert await code(shop, "/v1/tenants/strict", "PATCH", steward, rule) == (403, "role_not_allowed")
    status, tenant, _ = await ask(shop, "/v1/tenants/strict", "PATCH", TOKEN, rule)
    assert status == 200 and tenant["policy"]["excluded"] == ["speak"] and tenant["policy"]["spoken_for"] == []
    assert tenant["in_force"] == tenant["policy"]  # this box demands nothing more
    assert await code(shop, "/v1/tenants/strict", "PATCH", TOKEN, {"policy": {"excluded": ["dance"]}}) == (
        422,
        "field_invalid",
    )
    entries = (await ask(shop, "/v1/audit", token=TOKEN, action="tenant.change"))[1]["items"]
    assert entries[0]["details"]["excluded"] == "speak"


async def test_guessing_tokens_gets_slower_and_keeps_nobody_out_who_has_one(shop):
    issued = await issue(shop)
    wrong = f"{issued['id']}.{'A' * 43}"
    shop.services.security.people.throttle._failures.clear()  # other tests guessed, too
    answers = [await ask(shop, "/v1/voices", token=wrong) for _ in range(12)]
    statuses = [status for status, _, _ in answers]
    assert statuses[:5] == [401] * 5 and statuses[-1] == 429
    assert int(answers[-1][2]["Retry-After"]) >= 1
    assert (await ask(shop, "/v1/voices", token=issued["token"]))[0] == 200
    shop.services.security.people.throttle._failures.clear()


async def test_people_sign_in_with_a_cookie_that_other_sites_cannot_use(shop):
    body = {"login": "mei", "name": "Mei", "role": "operator", "password": PASSWORD}
    status, person, _ = await ask(shop, "/v1/people", "POST", TOKEN, body)
    assert status == 201 and "password" not in person
    assert await code(shop, "/v1/people", "POST", TOKEN, body) == (409, "login_taken")
    assert await code(shop, "/v1/people", "POST", TOKEN, {**body, "login": "x", "password": "short"}) == (
        422,
        "password_unfit",
    )
    stored = await shop.services.db.read(lambda db: db.execute("SELECT password FROM people").fetchone()[0])
    assert stored.startswith("$argon2id$")
    async with aiohttp.ClientSession(shop.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.post("/v1/session", json={"login": "mei", "password": PASSWORD}) as answer:
            assert answer.status == 201
            flags = answer.headers["Set-Cookie"]
            cookie = answer.cookies["voiced_session"].value
        assert "HttpOnly" in flags and "SameSite=Strict" in flags and "Secure" not in flags
        async with browser.get("/v1/session") as answer:
            assert (await answer.json())["role"] == "operator"
        async with browser.get("/v1/tokens") as answer:
            assert answer.status == 403
        async with browser.delete("/v1/announcements", headers={"Origin": "https://evil.example"}) as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (403, "origin_not_allowed")
        async with browser.delete("/v1/session") as answer:
            assert answer.status == 204
    replayed = {"Cookie": f"voiced_session={cookie}"}
    assert (await ask(shop, "/v1/session", headers=replayed))[0] == 401


async def test_a_new_password_or_the_end_of_a_login_signs_out(shop):
    body = {"login": "bo", "role": "auditor", "password": PASSWORD}
    _, person, _ = await ask(shop, "/v1/people", "POST", TOKEN, body)
    room = shop.services.security.people
    _, cookie = await room.sign_in("bo", PASSWORD, "1.2.3.4")
    assert room.signed_in(cookie).id == person["id"]
    await ask(shop, f"/v1/people/{person['id']}", "PATCH", TOKEN, {"password": f"{PASSWORD} staple"})
    assert room.signed_in(cookie) is None
    _, cookie = await room.sign_in("bo", f"{PASSWORD} staple", "1.2.3.4")
    await ask(shop, f"/v1/people/{person['id']}", "DELETE", TOKEN)
    assert room.signed_in(cookie) is None
    with pytest.raises(people.NotAuthenticated):
        await room.sign_in("bo", f"{PASSWORD} staple", "1.2.3.5")


async def test_brute_force_at_the_login_meets_a_growing_delay(shop):
    answers = [
        await ask(shop, "/v1/session", "POST", body={"login": "mei", "password": f"guess {n}"}) for n in range(8)
    ]
    assert [status for status, _, _ in answers[:5]] == [401] * 5
    refused = [answer for answer in answers if answer[0] == 429]
    assert refused and refused[-1][1]["code"] == "sign_in_throttled" and int(refused[-1][2]["Retry-After"]) >= 1
    assert await code(shop, "/v1/session", "POST", body={"login": "mei", "password": PASSWORD}) == (
        429,
        "sign_in_throttled",
    )  # the right password is not looked at either, else the wait would tell
    await shop.services.audit.flush()
    query = "SELECT count(*) FROM audit WHERE action = 'session.refused'"
    assert (await shop.services.db.read(lambda db: db.execute(query).fetchone()[0])) == 3  # 1st, 2nd, 4th: no flood
    shop.services.security.people.throttle._failures.clear()


async def test_quotas_answer_429_and_say_when_to_come_back(shop):
    quota = {"characters_per_day": len(TEXT) + 5, "jobs": 0, "storage_mb": 0}
    await ask(shop, "/v1/tenants", "POST", TOKEN, {"id": "small", "quota": quota})
    token = (await issue(shop, "tenant-admin", tenant="small"))["token"]
    assert (await ask(shop, "/tts", token=token, **SAY))[0] == 200
    status, problem, headers = await ask(shop, "/tts", token=token, **SAY)
    assert (status, problem["code"]) == (429, "quota_characters")
    assert 1 <= int(headers["Retry-After"]) <= 86_400
    for path in ("/v1/recordings", "/v1/dubbings", "/v1/scripts/closing/publish"):
        assert await code(shop, path, "POST", token) == (429, "quota_storage")
    with pytest.raises(Exception, match="quota_jobs"):
        await shop.services.jobs._queue.add("small", "clone", {})
    quotas = shop.services.security.quotas
    await ask(shop, "/v1/tenants/small", "PATCH", TOKEN, {"quota": {"concurrent": 1}})
    with quotas.one_request("small"):
        assert await code(shop, "/v1/voices", token=token) == (429, "quota_concurrent")
    assert (await ask(shop, "/v1/voices", token=token))[0] == 200


async def test_what_was_used_today_survives_a_restart(shop):
    quotas = shop.services.security.quotas
    quotas.spend_characters("bakery", 123)
    await quotas.save()
    quotas._characters.clear()
    await quotas.load()
    assert quotas._characters["bakery"] == 123


async def test_deeds_and_refusals_are_in_the_log_without_secrets(shop):
    issued = await issue(shop, "auditor", title="external audit")
    await code(shop, "/tts", token=issued["token"], **SAY)
    await shop.services.audit.flush()
    rows = await shop.services.db.read(lambda db: [row[0] for row in db.execute("SELECT entry FROM audit")])
    text = "\n".join(rows)
    told = (await ask(shop, "/v1/audit", token=TOKEN, action="tenant.add"))[1]["items"]
    assert "bakery" in {row["subject"] for row in told}  # the owner of the box sees what belongs to no tenant
    admin = (await issue(shop, "tenant-admin", tenant="bakery"))["token"]
    assert not (await ask(shop, "/v1/audit", token=admin, action="tenant.add"))[1]["items"]
    assert '"action":"token.issue"' in text and f'"subject":"{issued["id"]}"' in text
    assert '"action":"access.refused"' in text and '"operation":"speak"' in text
    assert '"action":"speech"' in text and '"action":"session.open"' in text
    for secret in (PASSWORD, issued["token"].partition(".")[2], TOKEN, TEXT):
        assert secret not in text


async def test_a_fresh_box_stops_trusting_the_loopback_once_a_token_exists(tmp_path):
    async with open_box(tmp_path) as fresh:
        assert (await ask(fresh, "/v1/voices"))[0] == 200
        issued = await issue(fresh, by=None)
        assert await code(fresh, "/v1/voices") == (401, "token_missing")
        assert (await ask(fresh, "/v1/voices", token=issued["token"]))[0] == 200
        assert (await ask(fresh, "/v1/voices", token=TOKEN))[0] == 200  # the owner's own, as before
