"""`voiced plugins`: what was loaded, what was not, and why. Asks the daemon, or with --state-dir loads them here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from appliance.cli import add_common
from appliance.contracts import JsonDict
from appliance.errors import Unavailable

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal


def configure(name: str, command: argparse.ArgumentParser) -> None:
    add_common(command)
    command.add_argument("--alone", action="store_true", help="load the plugins here instead of asking the daemon")
    command.set_defaults(command=plugins)


def plugins(terminal: Terminal) -> int:
    """Exit 1 when a plugin is quarantined."""
    rows = plugin_rows(terminal)
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
    else:
        terminal.table(
            ("plugin", "state", "provides", "source", "reason"),
            [
                [
                    row["id"],
                    row["state"],
                    " ".join(row["provides"]),
                    f"{row['source']} {row['version']}".strip(),
                    _why(row),
                ]
                for row in rows
            ],
        )
    return 1 if any(row["state"] == "quarantined" for row in rows) else 0


def plugin_rows(terminal: Terminal) -> list[JsonDict]:
    """From the daemon; from this process with --alone, or when no daemon runs on the named state directory."""
    given = terminal.arguments
    if not getattr(given, "alone", False):
        try:
            return list(terminal.client.items("/v1/plugins"))
        except Unavailable as error:
            if error.code != "daemon_unreachable" or given.url:
                raise
            terminal.tell("cli.alone", url=terminal.client.url)
    from appliance.plugin_manager import load_plugins

    found = load_plugins(terminal.settings.plugins, terminal.settings.state_dir / "plugins")
    return [info.as_json(terminal.language) for info in found.report()]


def _why(row: JsonDict) -> str:
    return f"{row.get('reason') or ''} {row.get('remedy') or ''}".strip()
