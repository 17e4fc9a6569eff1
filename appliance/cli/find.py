"""`voiced find`: the boxes that announce themselves on this network. Works alone."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from appliance.cli import add_common
from appliance.contracts import JsonDict

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal


def configure(name: str, command: argparse.ArgumentParser) -> None:
    add_common(command)
    command.add_argument("--seconds", type=float, default=3.0, help="how long to listen (default 3)")
    command.set_defaults(command=find)


def find(terminal: Terminal) -> int:
    """Exit 0 when a box was found, 1 when none was."""
    seconds = terminal.arguments.seconds
    with terminal.err.status(terminal.sentence("cli.listening", seconds=seconds)):
        boxes = browse(seconds)
    columns = ("name", "url", "version", "uuid")
    if terminal.as_json:
        terminal.document({"items": boxes, "next": None})
    elif boxes:
        terminal.table(columns, [[box[column] for column in columns] for box in boxes])
    else:
        terminal.tell("cli.no_box_found", seconds=seconds)
    return 0 if boxes else 1


def browse(seconds: float) -> list[JsonDict]:
    """What answers within `seconds`: `{"id", "uuid", "name", "version", "url", "addresses", "port"}` by name."""
    from appliance.doors.discovery import browse as browse_network

    return [{"id": box.uuid, **box.as_json()} for box in asyncio.run(browse_network(seconds))]
