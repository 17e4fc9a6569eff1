"""`voiced voices export NAME`: the files of a voice for GPT-SoVITS itself."""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from appliance.cli.files import save
from appliance.errors import InvalidInput

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

FORMATS = ("gpt-sovits",)


def configure(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", help="the voice, or one version of it: anna@3")
    command.add_argument("--format", required=True, choices=FORMATS)
    command.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="default: the current folder")


def export_voice(terminal: Terminal) -> int:
    """Writes the files into the folder; refuses to overwrite one."""
    given = terminal.arguments
    voice, _, number = given.id.partition("@")
    if number and not number.isdecimal():
        raise InvalidInput("version_contradicts", voice=given.id, version=number)
    order = {"format": given.format, **({"version": int(number)} if number else {})}
    body = json.dumps(order).encode()
    path = f"/v1/voices/{quote(voice)}/export"
    answer = terminal.client.call("POST", path, body, {"Content-Type": "application/json"})
    given.to.mkdir(parents=True, exist_ok=True)
    written: list[str] = []
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        for name in archive.namelist():
            target = given.to / Path(name).name
            if target.exists():
                raise InvalidInput("file_exists", path=str(target))
            save(target, archive.read(name))
            written.append(str(target))
    if terminal.as_json:
        terminal.document({"files": written})
    else:
        for line in written:
            terminal.out.print(line)
    return 0
