"""`voiced recordings session` and `slice`: read a sheet line by line, or let the box cut a long recording."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rich.markup import escape

from appliance.cli import add_action
from appliance.cli.client import Refused
from appliance.cli.jobs import follow
from appliance.contracts import JsonDict

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

LONGEST_LINE_S = 30.0


def add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Called by the family `recordings`."""
    session = add_action(actions, "session", "read a sheet line by line; may be interrupted and taken up", read_sheet)
    session.add_argument("id", nargs="?", help="a session to go on with")
    session.add_argument("--speaker", help="whose voice it is")
    session.add_argument("--language", default="zh", choices=("zh", "en", "mixed"), help="of the sheet")
    session.add_argument(
        "--files", nargs="+", type=Path, default=[], metavar="CLIP", help="clips instead of a microphone"
    )
    session.add_argument("--device", default="", help="microphone, name or index (default: the system's)")
    words = add_action(actions, "correct", "write down what a recording really says", correct)
    words.add_argument("id")
    words.add_argument("transcript")
    words.add_argument("--language", default="auto", help="zh, en, ja or auto")
    cut = add_action(actions, "slice", "cut a long recording into clips, check and label them", slice_file)
    cut.add_argument("file", type=Path)
    cut.add_argument("--speaker", default="", help="whose voice it is")
    cut.add_argument("--language", default="auto", help="zh, en, ja or auto")
    cut.add_argument("--no-wait", action="store_true", help="return as soon as the job is queued")


def read_sheet(terminal: Terminal) -> int:
    """Exit 0 when the whole sheet is read, 1 when lines are left."""
    session = _begin(terminal)
    path = f"/v1/recording-sessions/{session['id']}"
    terminal.tell("cli.session", id=session["id"], done=len(session["recordings"]), all=len(session["prompts"]))
    files = list(terminal.arguments.files)
    while session["next"] and (files or not terminal.arguments.files):
        terminal.err.print(f"\n[bold]{escape(session['next']['text'])}[/]\n")
        try:
            session = _send(terminal, path, files.pop(0) if files else None)
        except KeyboardInterrupt:
            break
    if terminal.as_json:
        terminal.document(session)
    elif session["next"] is None:
        terminal.tell("cli.session_complete", id=session["id"])
    return 0 if session["next"] is None else 1


def _begin(terminal: Terminal) -> JsonDict:
    given = terminal.arguments
    if given.id:
        return dict(terminal.client.get(f"/v1/recording-sessions/{quote(given.id)}"))
    order = {"speaker": given.speaker or "", "language": given.language}
    return dict(terminal.client.post("/v1/recording-sessions", order))


def _send(terminal: Terminal, path: str, file: Path | None) -> JsonDict:
    """One clip, from the microphone when no file is given; the session afterwards, changed or not."""
    from appliance.cli.recordings import print_verdict, record_to

    with tempfile.TemporaryDirectory() as folder:
        clip = file or Path(folder) / "clip.wav"
        if file is None:
            terminal.tell("cli.press_enter")
            input()
            terminal.tell("cli.recording_now")
            record_to(terminal, clip, LONGEST_LINE_S)
        try:
            answer = terminal.client.upload(f"{path}/clips", clip, {})
        except Refused as error:
            if not error.problem.get("reasons"):
                raise
            print_verdict(terminal, clip.name, {**error.problem, "accepted": False})
            return dict(terminal.client.get(path))
    if not terminal.as_json:
        print_verdict(terminal, clip.name, {**answer["recording"]["report"], "accepted": True})
    return dict(answer["session"])


def correct(terminal: Terminal) -> int:
    given = terminal.arguments
    order = {"transcript": given.transcript, "language": given.language}
    row = terminal.client.patch(f"/v1/recordings/{quote(given.id)}", order)
    if terminal.as_json:
        terminal.document(row)
    terminal.tell("cli.corrected", id=row["id"], transcript=row["transcript"])
    return 0


def slice_file(terminal: Terminal) -> int:
    """Exit 0 when clips were made of it."""
    given = terminal.arguments
    fields = {"speaker": given.speaker, "language": given.language, "filename": given.file.name}
    job = terminal.client.upload_files("/v1/recordings/long", [(given.file.name, given.file)], fields)
    terminal.tell("cli.job_queued", id=job["id"])
    if not given.no_wait:
        job = follow(terminal, job["id"])
    if terminal.as_json:
        terminal.document(job)
    elif job["state"] == "done":
        result = job["result"]
        dropped = ", ".join(f"{code} {count}" for code, count in result["dropped"].items()) or "–"
        terminal.tell("cli.sliced", clips=len(result["recordings"]), minutes=result["duration_s"] / 60, dropped=dropped)
    elif error := job.get("error"):
        terminal.remark("[bold red]✗[/]", error)
    return 0 if job["state"] == "done" or given.no_wait else 1
