"""`voiced run`, `voiced check-config`: the daemon in the foreground, and what it would run with."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from appliance.cli import add_common
from appliance.settings_files import PROFILE_DIRS

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal


def configure(name: str, command: argparse.ArgumentParser) -> None:
    add_common(command)
    known = sorted({path.stem for folder in PROFILE_DIRS for path in folder.glob("*.toml")})
    command.add_argument("--profile", metavar="NAME", help=f"hardware profile: {', '.join(known)}")
    command.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    command.add_argument("--port", type=int, help="port to listen on (default 8790, 0 takes a free one)")
    command.set_defaults(command=run if name == "run" else check_config)


def run(terminal: Terminal) -> int:
    """Run the daemon until SIGTERM or SIGINT; prints `voiced ready on URL` once it can speak."""
    from appliance import daemon

    return int(daemon.run(terminal.settings) or 0)


def check_config(terminal: Terminal) -> int:
    """All settings as they would be in force, secrets hidden; exit 1 with every problem named."""
    settings = terminal.settings
    if settings.profile:
        from appliance.settings_files import profile_path

        profile_path(settings.profile)
    document = json.loads(settings.model_dump_json())
    if terminal.as_json:
        terminal.document(document)
        return 0
    rows = [(name, _shown(value)) for name, value in _leaves(document, "")]
    terminal.table(("setting", "value"), rows)
    terminal.tell("cli.config_valid", profile=settings.profile or "–")
    return 0


def _leaves(table: dict[str, object], prefix: str) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in table.items():
        rows += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(f"{prefix}{key}", value)]
    return rows


def _shown(value: object) -> str:
    return (
        ""
        if value is None or value == {}
        else json.dumps(value, ensure_ascii=False)
        if isinstance(value, list)
        else str(value)
    )
