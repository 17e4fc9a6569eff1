"""`voiced speakers`: destroy everything that is made of a person's voice."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from urllib.parse import quote

from appliance.cli import add_action

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    erasing = add_action(actions, "erase", "destroy all data of a speaker; prints a signed receipt", erase)
    erasing.add_argument("id")
    erasing.add_argument("--yes", action="store_true", help="it cannot be undone")


def erase(terminal: Terminal) -> int:
    given = terminal.arguments
    row = terminal.client.post(f"/v1/speakers/{quote(given.id)}/erase", {"confirm": given.id if given.yes else ""})
    if terminal.as_json:
        terminal.document(row)
        return 0
    terminal.tell("cli.speaker_erased", speaker=given.id, **row["counts"])
    terminal.out.print(row["receipt"], highlight=False, markup=False, end="")
    return 0
