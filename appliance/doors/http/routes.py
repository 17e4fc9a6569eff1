"""The one table of HTTP routes. The application, the access rules and `/openapi.json` are all read from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from aiohttp import web
from pydantic import BaseModel

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ErrorShape = Literal["problem", "openai"]  # RFC 9457, or what OpenAI clients parse

JSON = "application/json"
ANY_AUDIO = "audio/*"


@dataclass(frozen=True)
class Answer:
    """One successful answer of a route."""

    status: int
    description: str
    model: type[BaseModel] | None = None  # of a JSON body
    content_type: str = JSON


@dataclass(frozen=True)
class Body:
    """What a route reads: a JSON (or form) record, or bytes described by their content types."""

    model: type[BaseModel] | None = None
    content_types: tuple[str, ...] = (JSON,)
    is_required: bool = True


@dataclass(frozen=True)
class Route:
    """One method on one path."""

    method: str
    path: str  # aiohttp syntax, `{name}` for a variable part
    handler: Handler
    summary: str
    tag: str
    answers: tuple[Answer, ...]
    query: type[BaseModel] | None = None
    body: Body | None = None
    is_public: bool = False  # answers without a credential
    takes_query_token: bool = False  # `?token=` counts, from loopback only
    errors: ErrorShape = "problem"
    is_documented: bool = True


class RouteTable:
    """All routes, found again by what aiohttp matched."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._routes = {(route.method, route.path): route for route in routes}
        if len(self._routes) != len(routes):
            raise ValueError("two routes claim one method and path")

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def find(self, request: web.Request) -> Route | None:
        """The route that serves `request`; None when nothing matched (404, 405)."""
        resource = request.match_info.route.resource
        if resource is None:
            return None
        method = "GET" if request.method == "HEAD" else request.method
        return self._routes.get((method, resource.canonical))
