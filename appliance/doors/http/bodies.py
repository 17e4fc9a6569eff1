"""Reading what clients send: bounded in size and time, checked against the record that the route declares."""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from aiohttp import ClientPayloadError, web
from pydantic import BaseModel, ValidationError

from appliance.doors.http.routes import Route
from appliance.doors.http.services import TABLE, services_of
from appliance.errors import DeadlineExceeded, InvalidInput, TooLarge, UnsupportedMedia

Record = TypeVar("Record", bound=BaseModel)
MAX_RECORD_BYTES = 1 << 20  # JSON and forms: the longest text allowed (100 000 characters) fits four times over
CHUNK_BYTES = 1 << 16
NO_FIELD = re.compile(r"function-|(bool|str)$|literal\[")  # what pydantic adds to the place of a wrong value
CHARSETS = {  # what programs write; some that Python knows take minutes for a megabyte (punycode)
    *("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "ascii", "iso8859-1", "iso8859-15", "cp1252"),
    *("gb2312", "gbk", "gb18030", "big5", "cp950", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949"),
}
MAX_ECHO = 80  # characters of a wrong value that an error repeats


def read_query(request: web.Request, model: type[Record]) -> Record:
    """The query string as the record that the route declares. Raises InvalidInput("field_…")."""
    route = _route_of(request)
    if route.query is not model:
        raise TypeError(f"{route.method} {route.path} does not declare {model.__name__}")
    values = dict(request.query)
    if route.takes_query_token:
        values.pop("token", None)
    return check_record(model, values)


async def read_record(request: web.Request, model: type[Record]) -> Record:
    """The JSON or form body as the record that the route declares.

    Raises UnsupportedMedia for another content type, InvalidInput, TooLarge, DeadlineExceeded.
    """
    route = _route_of(request)
    if route.body is None or route.body.model is not model:
        raise TypeError(f"{route.method} {route.path} does not declare {model.__name__}")
    payload = await read_bytes(request, MAX_RECORD_BYTES)
    if not payload and not route.body.is_required:
        return check_record(model, {})
    kind = request.content_type if request.headers.get("Content-Type") else "application/json"
    if kind not in route.body.content_types:
        raise UnsupportedMedia("content_type_unsupported", received=kind, accepted=list(route.body.content_types))
    document = _decode(payload, request.charset or "utf-8")
    return check_record(model, parse_form(document) if kind != "application/json" else parse_json_object(document))


async def read_bytes(request: web.Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes, within the body deadline."""
    parts: list[bytes] = []
    async with body_deadline(request):
        async for part in stream_body(request, limit):
            parts.append(part)
    return b"".join(parts)


async def stream_body(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    """The body in pieces. Raises TooLarge as soon as more than `limit` bytes are announced or arrive."""
    if (request.content_length or 0) > limit:
        raise TooLarge("body_too_large", limit_bytes=limit, received_bytes=request.content_length)
    received = 0
    async for part in request.content.iter_chunked(CHUNK_BYTES):
        received += len(part)
        if received > limit:
            raise TooLarge("body_too_large", limit_bytes=limit, received_bytes=received)
        yield part


@asynccontextmanager
async def body_deadline(request: web.Request, limit_s: float | None = None) -> AsyncIterator[None]:
    """All must be read in `limit_s` (`http.body_timeout_s`): a slow sender must not hold a connection for ever."""
    limit_s = services_of(request).settings.http.body_timeout_s if limit_s is None else limit_s
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded("body_too_slow", limit_s=limit_s) from error
    except (ClientPayloadError, web.RequestPayloadError) as error:
        raise InvalidInput("request_malformed", reason=str(error)[:MAX_ECHO]) from error


def _decode(payload: bytes, charset: str) -> str:
    try:
        if codecs.lookup(charset).name not in CHARSETS:
            raise LookupError(charset)
        return payload.decode(charset)
    except (ValueError, LookupError) as error:  # ValueError: not of that charset, or its name is no text
        raise InvalidInput("body_not_text", charset=ascii(charset)[1:-1][:MAX_ECHO]) from error


def parse_json_object(document: str) -> dict[str, Any]:
    """A JSON object. Raises InvalidInput("body_not_json"), also for nesting or numbers beyond any sense."""
    try:
        value = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("body_not_json", reason=str(error)[:MAX_ECHO]) from error
    if not isinstance(value, dict):
        raise InvalidInput("body_not_json", reason=f"expected an object, found {type(value).__name__}")
    return value


def parse_form(document: str) -> dict[str, Any]:
    """An HTML form (application/x-www-form-urlencoded); of repeated fields the last counts."""
    try:
        return dict(parse_qsl(document, keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise InvalidInput("request_malformed", reason=str(error)[:MAX_ECHO]) from error


def check_record(model: type[Record], values: dict[str, Any]) -> Record:
    """`values` as a record. Raises InvalidInput naming the first wrong field, what it held and what it may hold."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        _refuse(error)


def _refuse(error: ValidationError) -> NoReturn:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"] if not NO_FIELD.match(str(part))) or "body"
    value = first.get("input")
    shown = value if isinstance(value, int | float | bool) or value is None else str(value)[:MAX_ECHO]
    if first["type"] == "missing":
        raise InvalidInput("field_missing", field=field) from error
    if first["type"] == "extra_forbidden":
        raise InvalidInput("field_unknown", field=field) from error
    raise InvalidInput("field_invalid", field=field, value=shown, reason=first["msg"]) from error


def _route_of(request: web.Request) -> Route:
    route = request.app[TABLE].find(request)
    if route is None:
        raise TypeError("no route of the table serves this request")
    return route
