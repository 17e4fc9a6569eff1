"""`/openapi.json`: OpenAPI 3.1, made from the route table, so that it says what the doors do and nothing else."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from appliance.doors.http.answers import answer_json
from appliance.doors.http.routes import Answer, Body, Route, RouteTable
from appliance.doors.http.schemas import OpenAiErrorTold, ProblemTold
from appliance.doors.http.services import TABLE, services_of

REFERENCE = "#/components/schemas/{model}"
VARIABLE = re.compile(r"\{(\w+)\}")
TITLE = "voiced"
DESCRIPTION = (
    "The voice appliance: clone, keep and speak a company's voices on its own premises. Errors are RFC 9457 problem "
    "documents with a stable `code`, what was `measured`, and a `remedy`; the OpenAI doors answer in the shape their "
    "clients parse. Every answer carries `X-Request-Id`."
)


async def get_document(request: web.Request) -> web.Response:
    """`GET /openapi.json`."""
    return answer_json(describe(request.app[TABLE], services_of(request).box.version))


def describe(table: RouteTable, version: str) -> dict[str, Any]:
    """The whole document."""
    routes = [route for route in table if route.is_documented]
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version, "description": DESCRIPTION, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "security": [{"bearer": []}, {"apiKey": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
    }


def _schemas(routes: list[Route]) -> dict[str, Any]:
    asked = {route.body.model for route in routes if route.body and route.body.model}
    asked |= {route.query for route in routes if route.query}
    told: set[type[BaseModel]] = {ProblemTold, OpenAiErrorTold}
    told |= {answer.model for route in routes for answer in route.answers if answer.model}
    ordered = sorted(asked | told, key=lambda model: model.__name__)
    _, document = models_json_schema([(model, "validation") for model in ordered], ref_template=REFERENCE)
    schemas: dict[str, Any] = document["$defs"]
    return schemas


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', route.path.lower()).strip('_') or 'root'}",
        "summary": route.summary,
        "tags": [route.tag],
        "responses": {str(answer.status): _answer(answer) for answer in route.answers} | {"default": _error(route)},
    }
    parameters = _path_parameters(route) + _query_parameters(route)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": route.body.is_required, "content": _content(route.body)}
    if route.is_public:
        operation["security"] = []
    return operation


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in VARIABLE.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema(ref_template=REFERENCE)
    required = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": field.get("description", ""),
            "schema": {key: value for key, value in field.items() if key not in {"description", "title"}},
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _content(body: Body) -> dict[str, Any]:
    if body.model is not None:
        schema = {"$ref": REFERENCE.format(model=body.model.__name__)}
        return {kind: {"schema": schema} for kind in body.content_types}
    return {kind: {"schema": _bytes_schema(kind)} for kind in body.content_types}


def _bytes_schema(kind: str) -> dict[str, Any]:
    if kind != "multipart/form-data":
        return {"type": "string", "contentMediaType": kind}
    part = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {"type": "object", "required": ["file"], "properties": {"file": part}}


def _answer(answer: Answer) -> dict[str, Any]:
    document: dict[str, Any] = {"description": answer.description}
    if answer.model is not None:
        document["content"] = {answer.content_type: {"schema": {"$ref": REFERENCE.format(model=answer.model.__name__)}}}
    elif answer.status not in {101, 204}:
        document["content"] = {answer.content_type: {"schema": {"type": "string"}}}
    return document


def _error(route: Route) -> dict[str, Any]:
    model: type[BaseModel] = ProblemTold
    kind = "application/problem+json"
    if route.errors == "openai":
        model, kind = OpenAiErrorTold, "application/json"
    schema = {"$ref": REFERENCE.format(model=model.__name__)}
    return {"description": "an error, with its code", "content": {kind: {"schema": schema}}}


ROUTES = (
    Route(
        "GET",
        "/openapi.json",
        get_document,
        "This document",
        "operators",
        (Answer(200, "OpenAPI 3.1"),),
        is_public=True,
    ),
)
