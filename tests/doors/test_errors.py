"""Errors: one shape, a stable code, both languages, and nothing that a client sends hurts anybody else."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from urllib.parse import urlsplit

import pytest
from open_box import TEXT, open_box

from appliance.doors.http.app import BUILT_IN, make_app
from appliance.doors.http.problems import STATUS, status_of
from appliance.errors import Busy, VoicedError

pytestmark = pytest.mark.asyncio(loop_scope="session")
SAY = {"speaker": "sine-440", "text": TEXT}


async def post(box, data, kind="application/json", path="/tts", **headers):
    async with box.client.post(path, data=data, headers={"Content-Type": kind, **headers}) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers


async def test_a_problem_says_what_why_and_what_to_do_in_the_readers_language(box):
    for language, title in (("en", "Not found"), ("zh-CN,zh;q=0.9", "没有找到")):
        async with box.client.get("/v1/voices/nobody", headers={"Accept-Language": language}) as answer:
            problem = await answer.json(content_type="application/problem+json")
            request_id = answer.headers["X-Request-Id"]
        assert problem["title"] == title
        assert problem["type"] == "urn:voiced:error:voice_not_found"
        assert (problem["status"], problem["code"], problem["measured"]) == (
            404,
            "voice_not_found",
            {"voice": "nobody"},
        )
        assert problem["instance"] == f"urn:voiced:request:{request_id}"
        assert problem["detail"] and problem["remedy"]


async def test_a_sane_request_id_is_kept_and_any_other_replaced(box):
    for sent, is_kept in (("till-7.42", True), ("x" * 65, False), ("a b", False)):
        async with box.client.get("/healthz", headers={"X-Request-Id": sent}) as answer:
            assert (answer.headers["X-Request-Id"] == sent) is is_kept


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "body_not_json"),
        (b"[]", "application/json", 400, "body_not_json"),
        (b"[" * 200_000, "application/json", 400, "body_not_json"),
        (b'{"speaker":"a","text":"b","seed":' + b"9" * 9_000 + b"}", "application/json", 400, "body_not_json"),
        (b"\xff\xfe{}", "application/json", 422, "body_not_text"),
        (b"{}", "application/json; charset=undefined", 422, "body_not_text"),
        (b"{}", "application/json; charset=unicode_escape", 422, "body_not_text"),
        (b"a" * 100_000 + b"-" + b"b9" * 50_000, "application/json; charset=punycode", 422, "body_not_text"),
        (
            '{"speaker":"sine-440","text":"你","tone":1}'.encode("gbk"),
            "application/json; charset=GBK",
            422,
            "field_unknown",
        ),
        (b'{"speaker":"sine-440"}', "application/json", 422, "field_missing"),
        (b'{"speaker":"sine-440","text":"a","tone":1}', "application/json", 422, "field_unknown"),
        (b'{"speaker":"sine-440","text":"\\ud800"}', "application/json", 422, "field_invalid"),
        (b'{"speaker":"sine-440","text":"a","seed":-7}', "application/json", 422, "field_invalid"),
        (b"<speak/>", "application/ssml+xml", 415, "content_type_unsupported"),
        (b"x" * (1 << 21), "application/json", 413, "body_too_large"),
    ],
)
async def test_bodies_that_cannot_be_read_have_their_code(box, body, kind, status, code):
    got, problem, _ = await post(box, body, kind)
    assert (got, problem["code"]) == (status, code)


async def test_compressed_bodies_are_refused_unread(box):
    bomb = gzip.compress(b'{"text": "' + b"0" * (1 << 24) + b'"}')
    assert (await post(box, bomb, **{"Content-Encoding": "gzip"}))[1]["code"] == "body_compressed"
    assert (await post(box, bomb, path="/v1/audio/speech", **{"Content-Encoding": "gzip"}))[0] == 415


async def test_unknown_addresses_and_methods_are_problems_too(box):
    async with box.client.get("/nowhere") as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (404, "route_not_found")
    async with box.client.put("/tts") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")
        assert (await answer.json(content_type=None))["code"] == "method_not_allowed"
    async with box.client.get("/v1/audio/nowhere") as answer:
        assert (await answer.json())["error"]["code"] == "route_not_found"


async def test_the_unforeseen_is_logged_whole_and_told_only_by_its_request_id(box, caplog, monkeypatch):
    async def explode(*_: object) -> None:
        raise RuntimeError("secret: the path of the vault")

    monkeypatch.setattr(box.services.registry, "get_voice", explode)
    with caplog.at_level(logging.ERROR, "voiced.http"):
        async with box.client.get("/v1/voices/anna", headers={"X-Request-Id": "find-me"}) as answer:
            text = await answer.text()
    assert answer.status == 500
    assert "find-me" in text and "secret" not in text
    assert "secret" in caplog.text and "find-me" in caplog.text


async def test_a_body_that_never_ends_is_given_up_in_time(tmp_path):
    async with open_box(tmp_path, http={"body_timeout_s": 0.4, "keepalive_s": 0.5}) as slow:
        target = urlsplit(slow.url)
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        writer.write(b"POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        async with asyncio.timeout(5):
            assert b" 408 " in await reader.readline()
        writer.close()
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: loc")  # a header that never ends
        async with asyncio.timeout(5):
            assert b"200" not in await reader.read()  # closed by the box
        writer.close()


async def test_overload_says_when_to_come_back(tmp_path):
    async with open_box(tmp_path, speech={"max_waiting": 1, "max_waiting_per_client": 1}) as small:

        async def speak():
            async with small.client.get("/tts", params={"speaker": "sine-440", "text": "slow one"}) as answer:
                return answer.status, answer.headers.get("Retry-After")

        answers = await asyncio.gather(*(speak() for _ in range(4)))
    assert sorted(status for status, _ in answers)[0] == 200
    refused = [row for row in answers if row[0] != 200]
    assert refused and all(status in (429, 503) and int(wait) >= 1 for status, wait in refused)


async def test_every_kind_of_error_has_a_status():
    kinds = {kind for kind in VoicedError.__subclasses__() if kind.__module__ == "appliance.errors"}
    assert kinds == {kind for kind, _ in STATUS}
    assert status_of(Busy("client_busy", scope="client")) == 429
    assert status_of(Busy("box_busy", scope="box")) == 503


async def test_every_route_of_the_table_is_in_the_application_and_no_other(box):
    known = {(route.method, route.path) for route in BUILT_IN}
    served = {(route.method, route.resource.canonical) for route in make_app(box.services).router.routes()}
    assert {pair for pair in served if pair[0] != "HEAD" and not pair[1].startswith("/x/")} == known


async def test_json_answers_are_plain_utf8(box):
    async with box.client.get("/v1/plugins", headers={"Accept-Language": "zh"}) as answer:
        assert json.loads((await answer.read()).decode("utf-8"))


@pytest.mark.parametrize("field", ["seed", "stream", "format", "speaker", "lang", "speed", "text_lang"])
async def test_values_of_another_kind_are_refused_by_name(box, field):
    for value in ([], {}, [[1]]):
        status, problem, _ = await post(box, json.dumps(SAY | {field: value}))
        assert (status, problem["code"]) == (422, "field_invalid"), (field, value, problem)


async def test_a_refusal_can_quote_half_a_character(box):
    asked = {"name": "desk", "role": "speaker", "doors": ["\ud800"], "voices": ["\ud800"]}
    status, problem, _ = await post(box, json.dumps(asked), path="/v1/tokens")
    assert (status, problem["code"]) == (422, "field_invalid"), problem
