"""How the doors write JSON and lists."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")


def encode_json(value: Any) -> bytes:
    """UTF-8 JSON. NaN and infinities become null; lone surrogates stay escaped, so any text that came in goes out."""
    return json.dumps(_clean(value), ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def _clean(value: Any) -> Any:  # noqa: PLR0911 - one return per kind of JSON value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _clean(part) for name, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return _clean(as_json(value))
    if isinstance(value, Iterable):
        return [_clean(part) for part in value]
    if isinstance(value, Path):
        return value.name  # where files lie on the box is nobody's business
    return _clean(value.item()) if hasattr(value, "item") else str(value)  # numpy scalars


def as_json(record: Any) -> dict[str, Any]:
    """A record as JSON values: by its own `as_json`, or field by field."""
    return dict(record.as_json()) if hasattr(record, "as_json") else asdict(record)


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(status=status, body=encode_json(value), content_type="application/json", headers=headers)


def answer_page(
    items: Iterable[T], next_cursor: str | None, show: Callable[[T], dict[str, Any]] = as_json
) -> web.Response:
    """One page of a collection: `{"items": [...], "next": cursor or null}`."""
    return answer_json({"items": [show(item) for item in items], "next": next_cursor})
