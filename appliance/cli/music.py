"""`voiced music`: playlists in zones."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from appliance.cli import add_action
from appliance.contracts import JsonDict

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal


def configure(_name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    add_action(actions, "list", "what plays, and the playlists there are", list_music)
    play = add_action(actions, "play", "play a playlist until it is stopped", play_music)
    play.add_argument("playlist", help="a folder of the music folder")
    play.add_argument("--zone", help="where (default: the first zone)")
    play.add_argument("--volume", type=float, help="0 to 1")
    play.add_argument("--shuffle", action="store_true", help="in another order each time")
    stop = add_action(actions, "stop", "stop the music", stop_music)
    stop.add_argument("--zone", help="where (default: everywhere)")


def list_music(terminal: Terminal) -> int:
    answer: JsonDict = terminal.client.get("/v1/music")
    if terminal.as_json:
        terminal.document(answer)
        return 0
    names = ("id", "state", "playlist", "filename", "volume")
    keys = ("id", "state", "playlist", "file", "volume")
    terminal.table(names, [[row[key] for key in keys] for row in answer["items"]])
    there = ", ".join(f"{name} ({count})" for name, count in answer["playlists"].items())
    terminal.tell("cli.playlists", playlists=there or "–")
    return 0


def play_music(terminal: Terminal) -> int:
    given = terminal.arguments
    order: JsonDict = {"playlist": given.playlist, "zone": given.zone, "volume": given.volume}
    order = {key: value for key, value in order.items() if value is not None}
    row = terminal.client.post("/v1/music", {**order, "shuffle": given.shuffle})
    if terminal.as_json:
        terminal.document(row)
        return 0
    terminal.tell("cli.music_plays", zone=row["id"], playlist=row["playlist"])
    return 0


def stop_music(terminal: Terminal) -> int:
    zone = terminal.arguments.zone
    answer = terminal.client.delete("/v1/music" + (f"?{urlencode({'zone': zone})}" if zone else ""))
    if terminal.as_json:
        terminal.document(answer)
        return 0
    terminal.tell("cli.music_stopped", count=answer["stopped"])
    return 0
