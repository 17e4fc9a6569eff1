"""`voiced recordings`: check a file (alone), add it, list, and record from the microphone with a level meter."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rich.live import Live
from rich.markup import escape
from rich.text import Text

from appliance.cli import add_action, reading
from appliance.contracts import JsonDict
from appliance.errors import InvalidInput

if TYPE_CHECKING:
    from appliance.audio.capture import Capture, Level
    from appliance.cli.terminal import Terminal

SHOWN_MEASURES = ("duration_s", "sample_rate", "channels", "snr_db", "speech_share", "clipped_share", "dnsmos")
METER_WIDTH = 40
METER_FLOOR_DB = -60.0
LOUD_DBFS = -1.0  # peaks above it will clip on the next word
QUIET_DBFS = -45.0  # of a speaking voice; pauses are quieter, and then the hint is wrong for a moment


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    add_action(
        actions, "check", "judge a recording here, without a daemon; exit 0 accepted, 1 not", check
    ).add_argument("file")
    add_action(actions, "list", "recordings on the box", list_recordings)
    reading.add_actions(actions)
    for action, summary, run in (("add", "upload a recording", add), ("record", "record from the microphone", record)):
        command = add_action(actions, action, summary, run)
        command.add_argument("file")
        command.add_argument("--transcript", help="what it says (default: the box listens)")
        command.add_argument("--language", default="auto", help="zh, en, ja or auto")
        command.add_argument("--speaker", default="", help="whose voice it is")
        if action == "record":
            command.add_argument(
                "--seconds", type=float, default=60.0, help="longest recording (default 60); Ctrl-C ends it earlier"
            )
            command.add_argument("--device", default="", help="microphone, name or index (default: the system's)")
            command.add_argument("--upload", action="store_true", help="send it to the box when it is good enough")


def check(terminal: Terminal) -> int:
    """The verdict on a file, from the same code that the box uses."""
    verdict = check_here(terminal, Path(terminal.arguments.file))
    if terminal.as_json:
        terminal.document(verdict)
    else:
        print_verdict(terminal, terminal.arguments.file, verdict)
    return 0 if verdict["accepted"] else 1


def check_here(terminal: Terminal, path: Path) -> JsonDict:
    """`{"accepted", "reasons", "warnings", "measures"}`; what cannot be read as sound is refused, not an error."""
    from appliance.audio.quality import check_file
    from appliance.doors.http.problems import describe_reason

    if not path.is_file():
        raise InvalidInput("file_unreadable", path=str(path), problem=terminal.sentence("cli.no_such_file"))
    report = check_file(path, terminal.settings.intake)
    return {
        "accepted": report.accepted,
        "reasons": [describe_reason(reason, terminal.language) for reason in report.reasons],
        "warnings": [describe_reason(reason, terminal.language) for reason in report.warnings],
        "measures": report.measures,
    }


def print_verdict(terminal: Terminal, file: str, verdict: JsonDict) -> None:
    """Accepted or not, what was measured, and why."""
    colour, key = ("green", "cli.accepted") if verdict["accepted"] else ("red", "cli.refused")
    terminal.err.print(f"[bold {colour}]{escape(terminal.sentence(key, file=file))}[/]")
    measures = verdict.get("measures") or {}
    figures = [f"{name} {_figure(measures[name])}" for name in SHOWN_MEASURES if measures.get(name) is not None]
    if figures:
        terminal.err.print("  " + escape(" · ".join(figures)), style="dim")
    for mark, rows in (("[red]✗[/]", verdict.get("reasons")), ("[yellow]![/]", verdict.get("warnings"))):
        for row in rows or []:
            terminal.remark(mark, row)


def _figure(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_figure(part)}" for key, part in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def add(terminal: Terminal) -> int:
    """Upload; the box answers with its verdict."""
    from appliance.cli.clone import upload

    given = terminal.arguments
    row = upload(terminal.client, Path(given.file), given.transcript, given.language, given.speaker)
    if terminal.as_json:
        terminal.document(row)
    else:
        print_verdict(terminal, given.file, row["report"] | {"accepted": row["accepted"]})
        terminal.tell("cli.recording_added", id=row["id"], transcript=row.get("transcript") or "–")
    return 0


def list_recordings(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/recordings"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    columns = ("id", "filename", "duration_s", "language", "speaker", "transcript", "created_at")
    terminal.table(
        columns,
        [[_figure(row.get(column)) if row.get(column) is not None else None for column in columns] for row in rows],
    )
    return 0


def record(terminal: Terminal) -> int:
    """Record with a level meter, then judge; with --upload send it to the box."""
    given = terminal.arguments
    terminal.tell("cli.recording_now")
    capture = record_to(terminal, Path(given.file), given.seconds)
    terminal.tell("cli.recorded", seconds=capture.duration_s, file=capture.path)
    if capture.lost_samples:
        terminal.tell("cli.recording_has_holes", seconds=capture.lost_samples / capture.sample_rate)
    verdict = check_here(terminal, capture.path)
    if given.upload and verdict["accepted"]:
        return add(terminal)
    if terminal.as_json:
        recorded = {"file": str(capture.path), "duration_s": capture.duration_s, "device": capture.device}
        terminal.document({**recorded, **verdict})
    else:
        print_verdict(terminal, given.file, verdict)
    return 0 if verdict["accepted"] else 1


def record_to(terminal: Terminal, path: Path, seconds: float) -> Capture:
    """Record with a meter; Ctrl-C ends the recording, not the command."""
    from appliance.audio.capture import record as capture

    device, stop = terminal.arguments.device, threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        with Live(console=terminal.err, refresh_per_second=20, transient=True) as live:
            return capture(path, seconds, device, lambda level: live.update(meter(terminal, level)), stop)
    finally:
        signal.signal(signal.SIGINT, before)


def meter(terminal: Terminal, level: Level) -> Text:
    """One line: time, a bar of the loudness over METER_FLOOR_DB, and what is wrong with it."""
    share = min(1.0, max(0.0, 1 - level.rms_dbfs / METER_FLOOR_DB))
    filled = round(share * METER_WIDTH)
    is_loud, is_quiet = level.is_clipping or level.peak_dbfs > LOUD_DBFS, level.rms_dbfs < QUIET_DBFS
    colour = "red" if is_loud else "yellow" if is_quiet else "green"
    note = terminal.sentence("cli.too_loud") if is_loud else terminal.sentence("cli.too_quiet") if is_quiet else ""
    bar = Text(f"{level.elapsed_s:6.1f} s  ")
    bar.append("█" * filled, style=colour)
    bar.append("·" * (METER_WIDTH - filled), style="dim")
    bar.append(f"  {level.peak_dbfs:6.1f} dB  ")
    bar.append(note, style=colour)
    return bar
