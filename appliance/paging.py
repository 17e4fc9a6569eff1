"""Lists in pages: a bounded number of items and an opaque cursor to the next ones."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from appliance.contracts import JsonDict
from appliance.errors import InvalidInput

T = TypeVar("T")

DEFAULT_LIMIT = 50
MAX_LIMIT = 500


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items of a list, in order."""

    items: tuple[T, ...]
    next: str | None = None  # hand it back as `cursor`; None: this was the last page

    def as_json(self) -> JsonDict:
        """The shape of every collection under `/v1/`."""
        return {"items": [item.as_json() for item in self.items], "next": self.next}  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Listing:
    """Which rows, in which order. All parts are constants of the code; only `values` come from outside."""

    select: str  # "SELECT … FROM …"
    where: str  # with one `?` per value
    values: tuple[Any, ...]
    key: tuple[str, ...]  # columns that order the list and are unique together
    is_descending: bool = False


def read_page(
    connection: sqlite3.Connection,
    listing: Listing,
    cursor: str | None,
    limit: int,
    build: Callable[[sqlite3.Row], T],
) -> Page[T]:
    """One page. `limit` above MAX_LIMIT gives that many; below 1 raises InvalidInput("limit_invalid")."""
    if limit < 1:
        raise InvalidInput("limit_invalid", limit=limit, most=MAX_LIMIT)
    limit = min(limit, MAX_LIMIT)
    where, values = listing.where, listing.values
    if cursor:
        where += f" AND ({', '.join(listing.key)}) {'<' if listing.is_descending else '>'} ({_marks(listing.key)})"
        values += _decode(cursor, len(listing.key))
    direction = "DESC" if listing.is_descending else "ASC"
    order = ", ".join(f"{column} {direction}" for column in listing.key)
    rows = connection.execute(f"{listing.select} WHERE {where} ORDER BY {order} LIMIT {limit + 1}", values).fetchall()
    names = [column.rpartition(".")[2] for column in listing.key]
    following = _encode([rows[limit - 1][name] for name in names]) if len(rows) > limit else None
    return Page(tuple(build(row) for row in rows[:limit]), following)


def _marks(key: tuple[str, ...]) -> str:
    return ", ".join("?" * len(key))


def _encode(values: list[str | int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def _decode(cursor: str, length: int) -> tuple[str | int, ...]:
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError) as error:
        raise InvalidInput("cursor_invalid") from error
    if not isinstance(values, list) or len(values) != length or not all(map(_is_place, values)):
        raise InvalidInput("cursor_invalid")
    return tuple(values)


def _is_place(value: object) -> bool:
    """Text or a number that SQLite can hold: text without half a surrogate pair."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    return type(value) is int and abs(value) < 1 << 63
