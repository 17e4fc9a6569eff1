"""`voiced protected`: voices that nobody may clone on this box, and likenesses that a person has to judge."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli import add_action
from appliance.errors import InvalidInput

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    adding = add_action(actions, "add", "protect a voice, from clips of it; the clips are not kept", add)
    adding.add_argument("name")
    adding.add_argument("clips", nargs="+")
    add_action(actions, "list", "voices that nobody may clone", list_protected)
    add_action(actions, "remove", "stop protecting a voice", remove).add_argument("id")
    add_action(actions, "reviews", "likenesses that a person has to judge", list_reviews)
    add_action(actions, "allow", "allow a clone in spite of a likeness", allow).add_argument("id")
    add_action(actions, "deny", "deny it", deny).add_argument("id")


def add(terminal: Terminal) -> int:
    rows = []
    for clip in terminal.arguments.clips:
        if not Path(clip).is_file():
            raise InvalidInput("file_unreadable", path=clip, problem=terminal.sentence("cli.no_such_file"))
        fields = {"name": terminal.arguments.name}
        rows.append(terminal.client.upload("/v1/protected-voices", Path(clip), fields))
        terminal.tell("cli.protected_added", id=rows[-1]["id"], name=rows[-1]["name"])
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
    return 0


def list_protected(terminal: Terminal) -> int:
    return _list(terminal, "/v1/protected-voices", ("id", "name", "created_at"))


def remove(terminal: Terminal) -> int:
    terminal.client.delete(f"/v1/protected-voices/{terminal.arguments.id}")
    terminal.tell("cli.protected_removed", id=terminal.arguments.id)
    return 0


def list_reviews(terminal: Terminal) -> int:
    return _list(terminal, "/v1/gate-reviews", ("id", "voice", "kind", "other", "score", "state"))


def _list(terminal: Terminal, path: str, columns: tuple[str, ...]) -> int:
    rows = list(terminal.client.items(path))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
    else:
        terminal.table(columns, [[row[column] for column in columns] for row in rows])
    return 0


def allow(terminal: Terminal) -> int:
    return _decide(terminal, "allow")


def deny(terminal: Terminal) -> int:
    return _decide(terminal, "deny")


def _decide(terminal: Terminal, decision: str) -> int:
    row = terminal.client.post(f"/v1/gate-reviews/{terminal.arguments.id}", {"decision": decision})
    if terminal.as_json:
        terminal.document(row)
    terminal.tell("cli.review_decided", id=row["id"], state=row["state"])
    return 0
