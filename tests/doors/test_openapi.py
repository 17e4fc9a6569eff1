"""The OpenAPI document says what the doors do: checked against the application and against real answers."""

from __future__ import annotations

import re

import pytest
from open_box import TEXT
from pydantic import BaseModel

from appliance.doors.http import schemas
from appliance.doors.http.app import BUILT_IN
from appliance.security.permissions import operation_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def document_of(box):
    async with box.client.get("/openapi.json") as answer:
        return await answer.json()


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


async def test_every_route_is_described_with_its_answers_and_every_reference_leads_somewhere(box):
    document = await document_of(box)
    assert document["openapi"].startswith("3.1")
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described >= {(route.method, route.path) for route in BUILT_IN if route.is_documented}
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for path, item in document["paths"].items():
        for operation in item.values():
            declared = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path))
            assert "default" in operation["responses"] and operation["summary"]


async def test_every_operation_has_a_rule_that_says_which_roles_may_use_it(box):
    document = await document_of(box)
    operations = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    asking = {row for row in operations if "security" not in document["paths"][row[1]][row[0].lower()]}
    assert len(asking) > 30
    unruled = {row for row in asking if operation_of(*row) is None}
    assert not unruled, "give these a rule in appliance/security/permissions.py"


async def test_parameters_of_tts_are_those_that_are_read(box):
    names = {one["name"] for one in (await document_of(box))["paths"]["/tts"]["get"]["parameters"]}
    read = {"speaker", "text", "lang", "format", "speed", "version", "stream", "seed", "priority", "provenance"}
    assert names == read
    for name in names - {"speaker", "text"}:
        async with box.client.get("/tts", params={"speaker": "sine-440", "text": TEXT, name: "\x01"}) as answer:
            assert answer.status == 422  # each is looked at
            assert (await answer.json(content_type=None))["measured"]["field"] == name


async def test_answers_have_the_fields_that_the_document_promises(box):
    for route in BUILT_IN:
        model = next((answer.model for answer in route.answers if answer.model), None)
        if route.method != "GET" or model is None or "{" in route.path:
            continue
        async with box.client.get(route.path) as answer:
            body = await answer.json()
            assert answer.status == 200, (route.path, body)
        model.model_validate(body)
        if route.path.startswith("/v1/"):
            assert issubclass(model, BaseModel)
            if "items" in body:
                assert set(body) >= {"items", "next"}


async def test_every_collection_has_the_same_shape(box):
    for name in (
        "voices",
        "recordings",
        "consents",
        "jobs",
        "announcements",
        "weights",
        "plugins",
        "models",
        "audio/voices",
    ):
        async with box.client.get(f"/v1/{name}") as answer:
            body = await answer.json()
        assert isinstance(body["items"], list) and "next" in body, name
        assert all("id" in item for item in body["items"])


async def test_what_clients_send_is_checked_strictly_wherever_it_is_ours():
    asked, waiting = set(), [schemas.Asked]
    while waiting:
        kinds = waiting.pop().__subclasses__()
        asked.update(kinds)
        waiting.extend(kinds)
    assert {"SpeechAsked", "JobAsked", "ScriptAsked", "ZoneQuery"} <= {model.__name__ for model in asked}
    for model in asked:
        assert model.model_config["extra"] == "forbid", model.__name__
