"""`voiced datasets`: what voices were made from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from appliance.cli import add_action
from appliance.cli.files import save

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

COLUMNS = ("id", "clips", "minutes", "languages", "created_at")


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    add_action(actions, "list", "all datasets, newest first", list_datasets)
    shown = add_action(actions, "show", "one dataset: minutes, noise, sounds, pace", show_dataset)
    shown.add_argument("id")
    shown.add_argument("--picture", type=Path, metavar="FILE", help="write its picture (SVG) here")


def list_datasets(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/datasets"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    table = []
    for row in rows:
        stats = row["stats"]
        minutes, languages = f"{stats['seconds'] / 60:.1f}", " ".join(stats["languages"])
        table.append((row["id"], stats["clips"], minutes, languages, row["created_at"]))
    terminal.table(COLUMNS, table)
    return 0


def show_dataset(terminal: Terminal) -> int:
    given = terminal.arguments
    path = f"/v1/datasets/{quote(given.id)}"
    dataset = terminal.client.get(path)
    if given.picture:
        save(given.picture, terminal.client.call("GET", f"{path}/picture").body)
    if terminal.as_json:
        terminal.document(dataset)
        return 0
    survey = dataset["survey"]
    rows: list[tuple[str, object]] = [("id", dataset["id"]), ("digest", dataset["digest"])]
    rows += [(name, survey[name]) for name in ("clips", "minutes", "speech_minutes")]
    for name in ("clip_s", "snr_db", "speaking_rate"):
        rows += [(f"{name}.{part}", value) for part, value in (survey[name] or {}).items()]
    for language, coverage in survey["coverage"].items():
        missing = " ".join(coverage["missing"]) or "–"
        rows.append(
            (f"coverage.{language}", f"{coverage['share']:.0%} ({terminal.sentence('cli.missing')}: {missing})")
        )
    terminal.table(("field", "value"), rows)
    return 0
