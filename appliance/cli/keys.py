"""`voiced keys`: whether what speakers left can be read, and going on when it never will be."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from appliance.cli import add_action

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal


def configure(_name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    add_action(actions, "status", "whether the master key is there and the right one", status)
    abandoning = add_action(actions, "abandon", "go on without a master key that is lost for good", abandon)
    abandoning.add_argument("--yes", action="store_true", help="what it protected is given up; it cannot be undone")


def status(terminal: Terminal) -> int:
    """Exit 0 when everything can be read."""
    row = terminal.client.get("/v1/system")["keys"]
    if terminal.as_json:
        terminal.document(row)
    elif row["state"] == "open":
        terminal.tell("cli.keys_open")
    else:
        terminal.tell("cli.keys_closed", **row)
    return 0 if row["state"] == "open" else 1


def abandon(terminal: Terminal) -> int:
    row = terminal.client.post("/v1/keys/abandon", {"confirm": terminal.arguments.yes})
    if terminal.as_json:
        terminal.document(row)
    else:
        terminal.tell("cli.keys_abandoned", **row)
    return 0
