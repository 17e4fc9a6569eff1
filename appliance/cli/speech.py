"""`voiced say` and `voiced announce`: on the loudspeaker of the box, or into a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from appliance.announcer.records import PRIORITIES
from appliance.cli import add_action, add_common
from appliance.cli.files import save as save_file
from appliance.contracts import JsonDict
from appliance.errors import Unavailable

if TYPE_CHECKING:
    from appliance.cli.client import Client
    from appliance.cli.terminal import Terminal

COLUMNS = ("id", "state", "zones", "voice", "text", "created_at")
FORMATS = ("wav", "flac", "mp3", "opus", "pcm")


def configure(name: str, command: argparse.ArgumentParser) -> None:
    if name == "say":
        add_common(command)
        add_speech_options(command)
        command.add_argument("--file", metavar="OUT", help="save instead of playing; the suffix chooses the format")
        command.add_argument("--format", choices=FORMATS, help="format of --file (default: by its suffix, else wav)")
        command.add_argument("--speed", type=float, help="0.5 to 2.0")
        command.add_argument("--seed", type=int, help="the same seed speaks the same way")
        command.set_defaults(command=say)
        return
    actions = command.add_subparsers(metavar="ACTION", required=True)
    add_speech_options(add_action(actions, "say", "queue an announcement", announce))
    line = add_action(actions, "line", "say a published line of a script: it is rendered already", announce_line)
    line.add_argument("script")
    line.add_argument("line")
    line.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="value of a variable")
    _add_options(line)
    add_action(actions, "list", "queued and past announcements", list_announcements)
    stop = add_action(actions, "stop", "stop one announcement, or all", stop_announcements)
    stop.add_argument("id", nargs="?", help="which one (default: all)")


def add_speech_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("text", help="what to say")
    command.add_argument(
        "--voice", help="voice, e.g. anna or anna@3 (default: the one promoted last, else the first of the engine)"
    )
    command.add_argument("--language", default="auto", help="zh, en, ja or auto")
    _add_options(command)


def _add_options(command: argparse.ArgumentParser) -> None:
    """How something is said on the loudspeaker, whatever it is."""
    command.add_argument("--priority", choices=PRIORITIES, help="what is more urgent goes first")
    command.add_argument("--volume", type=float, help="0 to 1")
    command.add_argument("--no-chime", action="store_true", help="without the chime before")
    command.add_argument("--zone", action="append", metavar="NAME", help="where; again for more (default: the first)")
    command.add_argument("--repeats", type=int, help="how often in a row, 1 to 5")
    command.add_argument("--key", help="the same message while one with this key waits or plays")
    command.add_argument("--max-age", type=float, metavar="S", help="not said any more when older (default: 300)")
    command.add_argument("--interrupted", choices=("restart", "resume", "drop"), help="when more urgent speech comes")


def say(terminal: Terminal) -> int:
    """Announce, or save with --file."""
    return save(terminal) if terminal.arguments.file else announce(terminal)


def save(terminal: Terminal) -> int:
    """Speak into a file."""
    given = terminal.arguments
    target = Path(given.file)
    wanted = given.format or (target.suffix[1:].lower() if target.suffix[1:].lower() in FORMATS else "wav")
    answer = terminal.client.speak(
        given.text,
        given.voice or default_voice(terminal.client),
        lang=given.language,
        format=wanted,
        speed=given.speed,
        seed=given.seed,
        stream=False,
    )
    save_file(target, answer.body)
    version = answer.headers.get("x-voice-version", "")
    if terminal.as_json:
        terminal.document({"file": str(target), "bytes": len(answer.body), "format": wanted, "voice_version": version})
    terminal.tell("cli.saved", file=target, size=len(answer.body), voice=version)
    return 0


def message_of(terminal: Terminal) -> JsonDict:
    """The message that the options describe, as the doors take it."""
    given = terminal.arguments
    what = {"text": given.text, "voice": given.voice or default_voice(terminal.client), "language": given.language}
    return {**what, **_options(given)}


def _options(given: argparse.Namespace) -> JsonDict:
    order: JsonDict = {
        "priority": given.priority,
        "volume": given.volume,
        "chime": False if given.no_chime else None,
        "zones": given.zone,
        "repeats": given.repeats,
        "key": given.key,
        "max_age_s": given.max_age,
        "interrupted": given.interrupted,
    }
    return {key: value for key, value in order.items() if value is not None}


def announce_line(terminal: Terminal) -> int:
    """Queue a line that a script's channels carry."""
    given = terminal.arguments
    values = dict(setting.partition("=")[::2] for setting in given.set)
    return _queue(terminal, {"script": given.script, "line": given.line, "values": values, **_options(given)})


def announce(terminal: Terminal) -> int:
    """Queue an announcement and say what became of it."""
    return _queue(terminal, message_of(terminal))


def _queue(terminal: Terminal, message: JsonDict) -> int:
    row = terminal.client.post("/v1/announcements", message)
    if terminal.as_json:
        terminal.document(row)
        return 0
    terminal.tell("cli.announced", id=row["id"], state=terminal.sentence(f"announcement.{row['state']}"))
    places = {delivery["zone"] for delivery in row["zones"]}
    for zone in terminal.client.items("/v1/zones"):
        if zone["id"] in places and zone.get("message"):  # it is not there or does not play: the message waits for it
            terminal.tell("cli.loudspeaker_out", problem=zone["message"], seconds=row["max_age_s"])
    return 0


def list_announcements(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/announcements"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    terminal.table(
        COLUMNS,
        [[_cell(terminal, row, key) for key in COLUMNS] for row in rows],
    )
    return 0


def _cell(terminal: Terminal, row: JsonDict, key: str) -> object:
    if key == "zones":
        return " ".join(delivery["zone"] for delivery in row[key])
    return terminal.sentence(f"announcement.{row[key]}") if key == "state" else row.get(key)


def stop_announcements(terminal: Terminal) -> int:
    which = terminal.arguments.id
    path = f"/v1/announcements/{quote(which)}" if which else "/v1/announcements"
    answer: Any = terminal.client.delete(path)
    if terminal.as_json:
        terminal.document(answer)
    terminal.tell("cli.stopped", count=answer.get("stopped", 0))
    return 0


def default_voice(client: Client) -> str:
    """The voice that the box speaks with where nobody names one. Raises Unavailable("no_voice") when it has none."""
    voice = client.get("/v1/system")["speech"]["default_voice"]
    if not voice:
        raise Unavailable("no_voice")
    return str(voice)
