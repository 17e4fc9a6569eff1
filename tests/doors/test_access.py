"""Who comes in: tokens, the trust in the box itself, and pages of other sites."""

from __future__ import annotations

import pytest
import pytest_asyncio
from open_box import TEXT, TOKEN, open_box

pytestmark = pytest.mark.asyncio(loop_scope="session")
SAY = {"speaker": "sine-440", "text": TEXT}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(tmp_path_factory):
    """A box whose site configured a token: the loopback is not trusted any more."""
    async with open_box(tmp_path_factory.mktemp("guarded"), admin_token="open sesame") as opened:
        yield opened


async def ask(box, path="/v1/voices", method="GET", headers=None, **params):
    async with box.client.request(method, path, headers=headers or {}, params=params) as answer:
        document = await answer.json(content_type=None) if "json" in answer.content_type else {}
        return answer.status, document.get("code"), answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer open sesame"},
        {"Authorization": "bearer open sesame"},
        {"X-API-Key": "open sesame"},
        {"xi-api-key": "open sesame"},
    ],
)
async def test_the_token_is_taken_in_every_customary_header(guarded, headers):
    assert (await ask(guarded, headers=headers))[0] == 200


async def test_without_the_right_token_nothing_is_told(guarded):
    status, code, headers = await ask(guarded)
    assert (status, code) == (401, "token_missing")
    assert headers["WWW-Authenticate"].startswith("Bearer")
    assert (await ask(guarded, headers={"Authorization": "Bearer open sesam"}))[:2] == (401, "token_wrong")
    assert (await ask(guarded, headers={"Authorization": "Bearer "}))[:2] == (401, "token_missing")
    for path in ("/metrics", "/v1/system", "/v1/recordings", "/x/weather", "/tts"):
        assert (await ask(guarded, path, **(SAY if path == "/tts" else {})))[0] == 401


async def test_the_query_token_counts_for_tts_only(guarded):
    assert (await ask(guarded, "/tts", token="open sesame", **SAY))[0] == 200
    assert (await ask(guarded, "/tts", token="wrong", **SAY))[:2] == (401, "token_wrong")
    assert (await ask(guarded, "/v1/voices", token="open sesame"))[0] == 401


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/readyz", "/console/console.js"])
async def test_pages_and_health_are_open_to_all(guarded, path):
    assert (await ask(guarded, path))[0] == 200


async def test_a_fresh_box_trusts_the_machine_it_runs_on(box):
    assert (await ask(box))[0] == 200
    assert (await ask(box, headers={"Authorization": "Bearer whatever"}))[0] == 200
    assert (await ask(box, headers={"Authorization": f"Bearer {TOKEN}"}))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a DNS name rebound to 127.0.0.1
        {"Host": "127.0.0.1.evil.example"},
        {"X-Forwarded-For": "127.0.0.1"},  # a reverse proxy: the caller is somebody else
        {"Forwarded": "for=127.0.0.1"},
    ],
)
async def test_trust_ends_where_the_caller_may_be_somebody_else(box, headers):
    assert (await ask(box, headers=headers))[:2] == (401, "token_missing")
    assert (await ask(box, headers={**headers, "Authorization": f"Bearer {TOKEN}"}))[0] == 200


async def test_pages_of_other_sites_cannot_use_the_trust_in_the_browser(box):
    foreign = {"Origin": "https://evil.example"}
    path = "/v1/announcements"
    assert (await ask(box, path, "DELETE", foreign))[:2] == (403, "origin_not_allowed")
    assert (await ask(box, path, "DELETE", {"Origin": "null"}))[:2] == (403, "origin_not_allowed")
    assert (await ask(box, path, "DELETE", {"Origin": box.url}))[0] == 200
    cross = {"Sec-Fetch-Site": "cross-site"}  # an <audio> or <img> of a foreign page sends no Origin
    assert (await ask(box, "/tts", headers=cross, **SAY))[:2] == (403, "origin_not_allowed")
    assert (await ask(box, path, "DELETE", {**foreign, "Authorization": f"Bearer {TOKEN}"}))[0] == 200


async def test_trust_can_be_switched_on_beside_a_token_and_off_without_one(tmp_path):
    async with open_box(tmp_path / "on", admin_token="x", http={"trust_loopback": True}) as trusting:
        assert (await ask(trusting))[0] == 200
    async with open_box(tmp_path / "off", http={"trust_loopback": False}) as strict:
        assert (await ask(strict))[0] == 401
        assert (await ask(strict, headers={"X-API-Key": TOKEN}))[0] == 200
