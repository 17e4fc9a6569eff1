"""Errors of the rooms below, told in the words of HTTP. The only place that knows both."""

from __future__ import annotations

import math
from typing import Any

from aiohttp import web

from appliance import errors
from appliance.doors.http.answers import encode_json
from appliance.doors.http.routes import ErrorShape
from appliance.messages import text

STATUS: tuple[tuple[type[errors.VoicedError], int], ...] = (
    (errors.NotAuthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.UnsupportedMedia, 415),
    (errors.InvalidInput, 422),
    (errors.Corrupt, 500),
    (errors.Busy, 503),
    (errors.Unavailable, 503),
    (errors.DeadlineExceeded, 504),
    (errors.StorageFull, 507),
    (errors.Cancelled, 499),
)
STATUS_OF_CODE = {
    "body_not_json": 400,
    "method_not_allowed": 405,
    "body_too_slow": 408,
    "request_malformed": 400,
    "codec_missing": 422,  # the box is fine; this format is not to be had on it
}
DEFAULT_RETRY_S = 5


def status_of(error: errors.VoicedError) -> int:
    """The HTTP status for an error: by its code where that says more than its class."""
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    if isinstance(error, errors.Busy) and error.measured.get("scope") == "client":
        return 429  # this client alone is over its share; 503 says that the whole box is
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def problem(error: errors.VoicedError, shape: ErrorShape, request_id: str, language: str) -> web.Response:
    """The answer for `error`, in the shape that the clients of this door parse."""
    status = status_of(error)
    headers = _headers(error, status)
    if shape == "openai":
        body, content_type = openai_body(error, language), "application/json"
        status = 400 if status == 422 else status  # what these clients know as "bad request"
    else:
        body, content_type = problem_body(error, request_id, language), "application/problem+json"
    return web.Response(status=status, body=encode_json(body), content_type=content_type, headers=headers)


def _headers(error: errors.VoicedError, status: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    if status in {429, 503}:
        wait_s = float(error.measured.get("retry_after_s") or DEFAULT_RETRY_S)
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="voiced"'
    if status == 405 and error.measured.get("allowed"):
        headers["Allow"] = ", ".join(error.measured["allowed"])
    if status in {408, 413}:
        headers["Connection"] = "close"  # the rest of the body is not wanted
    return headers


def problem_body(error: errors.VoicedError, request_id: str, language: str) -> dict[str, Any]:
    """An error by RFC 9457; `code`, `measured`, `remedy` and the reasons of a refused recording are our extensions."""
    status = status_of(error)
    body: dict[str, Any] = {
        "type": f"urn:voiced:error:{error.code}",
        "title": text(f"status.{status}", language),
        "status": status,
        "code": error.code,
        "detail": error.message(language),
        "measured": {name: value for name, value in error.measured.items() if name not in {"reasons", "warnings"}},
        "remedy": error.remedy(language),
        "instance": f"urn:voiced:request:{request_id}",
    }
    for name in ("reasons", "warnings"):
        if name in error.measured:
            body[name] = [describe_reason(reason, language) for reason in error.measured[name]]
    return body


def describe_reason(reason: Any, language: str) -> dict[str, Any]:
    """One reason of a quality report, as JSON with its sentences. Takes a `Reason` or its stored `{code, measured}`."""
    code = reason["code"] if isinstance(reason, dict) else reason.code
    measured = reason.get("measured", {}) if isinstance(reason, dict) else reason.measured
    return {
        "code": code,
        "message": text(f"{code}.message", language, **measured),
        "measured": dict(measured),
        "remedy": text(f"{code}.remedy", language, **measured),
    }


def openai_body(error: errors.VoicedError, language: str) -> dict[str, Any]:
    """An error as OpenAI's clients parse it."""
    status = status_of(error)
    if status in {401, 403}:
        kind = "authentication_error" if status == 401 else "permission_error"
    elif status == 429:
        kind = "rate_limit_error"
    else:
        kind = "invalid_request_error" if status < 500 else "server_error"
    message = f"{error.message(language)} {error.remedy(language)}"
    return {"error": {"message": message, "type": kind, "param": error.measured.get("field"), "code": error.code}}
