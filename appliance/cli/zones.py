"""`voiced zones`: the named outputs of the box."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from urllib.parse import quote

from appliance.cli import add_action
from appliance.contracts import JsonDict

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal


def configure(_name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    add_action(actions, "list", "the zones, their state and what is said there", list_zones)
    volume = add_action(actions, "volume", "set the volume of a zone until the next start", set_volume)
    volume.add_argument("zone")
    volume.add_argument("volume", type=float, help="0 to 1")


def list_zones(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/zones"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    names = ("id", "state", "device", "volume", "playing", "waiting")
    terminal.table(names, [[_playing(row) if name == "playing" else row[name] for name in names] for row in rows])
    for row in rows:
        for alarm in row["alarms"]:
            terminal.tell("cli.zone_alarm", zone=row["id"], problem=alarm["message"], remedy=alarm["remedy"])
    return 0


def _playing(row: JsonDict) -> str:
    playing = row["playing"]
    return f"{playing['text'][:40]} ({playing['position_s'] or 0:.0f} s)" if playing else ""


def set_volume(terminal: Terminal) -> int:
    given = terminal.arguments
    row = terminal.client.patch(f"/v1/zones/{quote(given.zone, safe='')}", {"volume": given.volume})
    if terminal.as_json:
        terminal.document(row)
        return 0
    terminal.tell("cli.zone_volume", zone=row["id"], volume=row["volume"])
    return 0
