"""`voiced jobs`: what the box works on; and the live progress of one job, which `clone` and `demo` show too."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from appliance.cli import add_action
from appliance.contracts import JsonDict
from appliance.messages import text

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

BLOCKS = "▁▂▃▄▅▆▇█"
COLUMNS = ("id", "kind", "state", "stage", "fraction", "created_at", "finished_at")


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    add_action(actions, "list", "all jobs, newest first", list_jobs)
    for action, summary, run in (
        ("show", "one job with its result", show_job),
        ("watch", "follow a job until it ends", watch_job),
        ("pause", "let a job rest; its checkpoint stays", pause_job),
        ("resume", "go on with a job that rests", resume_job),
        ("cancel", "stop a job", cancel_job),
    ):
        add_action(actions, action, summary, run).add_argument("id")


def list_jobs(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/jobs"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    terminal.table(COLUMNS, [[_cell(terminal, row, column) for column in COLUMNS] for row in rows])
    return 0


def show_job(terminal: Terminal) -> int:
    path = f"/v1/jobs/{quote(terminal.arguments.id)}"
    job, curves = terminal.client.get(path), terminal.client.get(f"{path}/curves")["items"]
    if terminal.as_json:
        terminal.document({**job, "curves": curves})
        return 0
    _print_job(terminal, job)
    if curves:
        terminal.out.print()
        terminal.table(("curve", "steps", "first", "last", "shape"), [_curve_row(terminal, curve) for curve in curves])
    return 0


def _curve_row(terminal: Terminal, curve: JsonDict) -> list[str]:
    steps, values = zip(*curve["points"], strict=True)
    stage = stage_name(terminal, {"stage": curve["stage"], "state": "running"})
    figures = (f"{steps[-1]:.0f}", f"{values[0]:.4g}", f"{values[-1]:.4g}")
    return [f"{stage}: {curve['name']}", *figures, sparkline(values)]


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The shape of a curve in one line of blocks, lowest to highest."""
    chosen = [values[round(place * (len(values) - 1) / max(1, width - 1))] for place in range(min(width, len(values)))]
    low, high = min(chosen), max(chosen)
    return "".join(BLOCKS[round((value - low) / ((high - low) or 1.0) * (len(BLOCKS) - 1))] for value in chosen)


def watch_job(terminal: Terminal) -> int:
    job = follow(terminal, terminal.arguments.id)
    _print_job(terminal, job)
    return 0 if job["state"] == "done" else 1


def pause_job(terminal: Terminal) -> int:
    _print_job(terminal, terminal.client.post(f"/v1/jobs/{quote(terminal.arguments.id)}/pause", {}))
    return 0


def resume_job(terminal: Terminal) -> int:
    _print_job(terminal, terminal.client.post(f"/v1/jobs/{quote(terminal.arguments.id)}/resume", {}))
    return 0


def cancel_job(terminal: Terminal) -> int:
    _print_job(terminal, terminal.client.delete(f"/v1/jobs/{quote(terminal.arguments.id)}"))
    return 0


def follow(terminal: Terminal, job_id: str) -> JsonDict:
    """Show a progress bar on stderr (none with --json) until the job has ended; returns its last row."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}"),
        console=terminal.err,
        disable=terminal.as_json,
    )
    with bar:
        task = bar.add_task("", total=1.0, eta="")
        job: JsonDict = {}
        for job in terminal.client.watch_job(job_id):
            left = job.get("eta_s")
            eta = terminal.sentence("cli.eta", seconds=round(left)) if left and job["state"] == "running" else ""
            bar.update(task, completed=job.get("fraction") or 0.0, description=stage_name(terminal, job), eta=eta)
    return job


def stage_name(terminal: Terminal, job: JsonDict) -> str:
    """What the job does now, in words."""
    stage = job.get("stage") if job["state"] == "running" else None
    key = f"stage.{stage}" if stage else f"state.{job['state']}"
    words = text(key, terminal.language)
    return str(stage or job["state"]) if words == key else words


def _print_job(terminal: Terminal, job: JsonDict) -> None:
    if terminal.as_json:
        terminal.document(job)
        return
    rows = [(key, _cell(terminal, job, key)) for key in job if key not in {"spec", "result", "error"}]
    rows += [
        (f"result.{key}", value)
        for key, value in (job.get("result") or {}).items()
        if not isinstance(value, dict | list)
    ]
    terminal.table(("field", "value"), rows)
    if error := job.get("error"):
        terminal.remark("[bold red]✗[/]", error)


def _cell(terminal: Terminal, job: JsonDict, key: str) -> object:
    value = job.get(key)
    if key == "fraction" and value is not None:
        return f"{100 * float(value):.0f} %"
    if key == "stage" and value:
        return stage_name(terminal, {**job, "state": "running"})
    if key == "state" and value:
        return stage_name(terminal, {"state": value})
    return value
