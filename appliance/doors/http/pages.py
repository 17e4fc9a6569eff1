"""The console at `/` and the browsable documentation at `/docs`: static files over the same API."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from aiohttp import web

from appliance.doors.http.routes import Answer, Handler, Route

CONTENT_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "json": "application/json",
}


@cache
def _asset(name: str) -> tuple[bytes, str]:
    """A file of the console and its tag; read once, the package does not change while it runs."""
    content = resources.files("appliance.doors.http").joinpath("console", name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:24]}"'


def _serve(name: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        content, tag = _asset(name)
        headers = {"ETag": tag, "Cache-Control": "no-cache"}  # asked again each time, sent again only when changed
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        kind = CONTENT_TYPES[name.rpartition(".")[2]]
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)

    handler.__doc__ = f"`{name}` of the console."
    return handler


def _page(path: str, name: str, summary: str, content_type: str, is_documented: bool = False) -> Route:
    answers = (Answer(200, summary, content_type=content_type),)
    return Route("GET", path, _serve(name), summary, "pages", answers, is_public=True, is_documented=is_documented)


ROUTES = (
    _page("/", "index.html", "The console", "text/html", is_documented=True),
    _page("/detect", "detect.html", "The detector: was this sound made here?", "text/html", is_documented=True),
    _page("/docs", "docs.html", "This API, to be browsed", "text/html", is_documented=True),
    *(
        _page(f"/console/{name}", name, name, CONTENT_TYPES[name.rpartition(".")[2]])
        for name in (
            "console.css",
            "console.js",
            "api.js",
            "player.js",
            "recorder.js",
            "capture.js",
            "words.js",
            "detect.js",
            "docs.css",
            "docs.js",
            "icon.svg",
            "reading.js",
            "scripts.html",
            "scripts.css",
            "scripts.js",
            "examination.html",
            "examination.css",
            "examination.js",
            "builders.js",
            "rights.html",
            "rights.js",
            "rights-words.js",
            "consents.js",
            "guards.js",
            "access.js",
        )
    ),
)
