"""What a migration is made of."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

Step = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True)
class Migration:
    """One step from `number - 1` to `number`; runs inside a transaction of its own."""

    number: int
    name: str
    apply: Step


def run(*statements: str) -> Step:
    """A step made of single statements (`executescript` would commit behind the migration's back)."""

    def apply(connection: sqlite3.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    return apply


def immutable(table: str) -> tuple[str, str]:
    """Triggers that refuse to rewrite history, whoever asks: `TABLE_no_update`, `TABLE_no_delete`."""
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} rows are immutable'); END",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} rows are immutable'); END",
    )
