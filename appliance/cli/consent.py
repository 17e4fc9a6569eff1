"""`voiced consent`: a statement with a fresh number for the speaker to say, and the clip in which it is said."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli import add_action
from appliance.errors import InvalidInput

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

PURPOSES = ("clone", "speak", "announce", "publish", "share")


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    asking = add_action(actions, "ask", "the words that a speaker has to say; they count for ten minutes", ask)
    asking.add_argument("speaker")
    asking.add_argument("--voice", default="", help="the voice it is for (default: every voice of the speaker)")
    asking.add_argument("--purpose", action="append", choices=PURPOSES, help="default: clone, speak and announce")
    asking.add_argument("--language", default="en", choices=("en", "zh"), help="of the statement")
    asking.add_argument("--expires", metavar="DATE", help="end of the consent, ISO 8601")
    saying = add_action(actions, "say", "hand in the clip in which the statement is said", say)
    saying.add_argument("id")
    saying.add_argument("file")


def ask(terminal: Terminal) -> int:
    given = terminal.arguments
    order = {"speaker": given.speaker, "voice": given.voice, "purposes": given.purpose or list(PURPOSES[:3])}
    order |= {"language": given.language, "expires_at": given.expires}
    row = terminal.client.post("/v1/consent-statements", order)
    if terminal.as_json:
        terminal.document(row)
    else:
        terminal.out.print(row["statement"], highlight=False)
        terminal.tell("cli.statement_asked", id=row["id"], valid_until=row["valid_until"])
    return 0


def say(terminal: Terminal) -> int:
    given = terminal.arguments
    if not Path(given.file).is_file():
        raise InvalidInput("file_unreadable", path=given.file, problem=terminal.sentence("cli.no_such_file"))
    row = terminal.client.upload(f"/v1/consent-statements/{given.id}", Path(given.file), {})
    if terminal.as_json:
        terminal.document(row)
    terminal.tell("cli.statement_said", id=row["id"], purposes=", ".join(row["purposes"]))
    return 0
