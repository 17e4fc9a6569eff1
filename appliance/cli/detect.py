"""`voiced detect`: what a sound file says about where it came from. Exit 0 marked, 1 nothing found."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli import add_common
from appliance.contracts import JsonDict
from appliance.errors import InvalidInput

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal


def configure(name: str, command: argparse.ArgumentParser) -> None:
    command.add_argument("file")
    add_common(command)
    command.set_defaults(command=detect)


def detect(terminal: Terminal) -> int:
    """Asks the daemon, who knows the audit entry; with --state-dir of a stopped box, reads the file here."""
    path = Path(terminal.arguments.file)
    if not path.is_file():
        raise InvalidInput("file_unreadable", path=str(path), problem=terminal.sentence("cli.no_such_file"))
    found = _detect_here(terminal, path) if terminal.works_alone else _ask(terminal, path)
    if terminal.as_json:
        terminal.document(found)
    else:
        _print(terminal, found)
    return 0 if found["is_marked"] else 1


def _ask(terminal: Terminal, path: Path) -> JsonDict:
    answer: JsonDict = terminal.client.upload("/v1/detect", path, {})
    return answer


def _detect_here(terminal: Terminal, path: Path) -> JsonDict:
    from appliance.audio.detection import detect_file
    from appliance.security.content_credential import read_authority
    from appliance.security.signing import open_device_key
    from appliance.state_dir import StateDir

    keys = StateDir(terminal.settings.state_dir).keys
    found = detect_file(path, open_device_key(keys).derive("watermark"), read_authority(keys))
    is_trusted = (found["provenance"] or {}).get("state") == "trusted"
    is_marked = any(found[name] for name in ("watermark", "aigc", "provenance"))
    return {"is_marked": is_marked, "is_from_this_box": is_trusted or bool(found["watermark"]), **found}


def _print(terminal: Terminal, found: JsonDict) -> None:
    terminal.tell("cli.detect_ours" if found["is_from_this_box"] else "cli.detect_not_ours")
    if watermark := found["watermark"]:
        terminal.tell("cli.detect_watermark", **watermark)
        for entry in watermark.get("entries", ())[:3]:
            terminal.tell("cli.detect_entry", index=entry["index"], at=entry["at"], voice=entry.get("voice", "–"))
    else:
        terminal.tell("cli.detect_no_watermark", searched_s=found["searched_s"])
    if label := found["aigc"]:
        producer, produced = label.get("ContentProducer", "–"), label.get("ProduceID", "–")
        terminal.tell("cli.detect_aigc", label=label.get("Label", "–"), producer=producer, produced=produced)
    if provenance := found["provenance"]:
        signer = f"{provenance.get('issuer') or '–'}, {provenance.get('signer') or '–'}"
        terminal.tell("cli.detect_provenance", state=provenance["state"], signer=signer)
