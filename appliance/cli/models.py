"""`voiced models`: weights that the operator brings. A daemon is sent them; without one, --state-dir works alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from rich.markup import escape

from appliance.cli import add_action
from appliance.cli.jobs import follow
from appliance.cli.optimize import optimize
from appliance.contracts import JsonDict
from appliance.errors import InvalidInput, VoicedError

if TYPE_CHECKING:
    from appliance.cli.alone import Alone
    from appliance.cli.terminal import Terminal

T = TypeVar("T")

COLUMNS = ("id", "name", "kind", "version", "licence", "created_at")
FOLDER_WEIGHTS = ("pytorch_model.bin", "model.safetensors")
SENT = frozenset({".ckpt", ".pth", ".safetensors", ".bin", ".json", ".txt"})
NEVER_SENT_OVER = 8 << 30  # bytes; no file of weights is larger


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    bring = add_action(actions, "import", "bring weights: official folders, or .ckpt and .pth files", bring_in)
    bring.add_argument("paths", nargs="+", type=Path, metavar="DIR|FILE")
    bring.add_argument("--licence", default="", help="of these weights, e.g. MIT")
    bring.add_argument("--no-wait", action="store_true", help="return as soon as the job is queued")
    add_action(actions, "list", "what has been imported", list_models)
    add_action(actions, "show", "one model: digests, source, report", show_model).add_argument("model")
    verify = add_action(actions, "verify", "read every byte again", verify_models)
    verify.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    better = add_action(actions, "optimize", "export weights for the backends of this box, now", optimize)
    better.add_argument("model", metavar="MODEL|VOICE")
    better.add_argument("--backend", action="append", help="for these backends (default: the box's)")
    add_action(actions, "remove", "remove a model that no voice needs", remove_model).add_argument("model")


# ---------------------------------------------------------------- actions


def bring_in(terminal: Terminal) -> int:
    """Exit 0 when everything that was named has been imported."""
    given = terminal.arguments
    job = import_paths(terminal, given.paths, given.licence, waits=not given.no_wait)
    if terminal.as_json:
        terminal.document(job)
    elif job["state"] == "done":
        _print_result(terminal, job["result"])
    elif error := job.get("error"):
        terminal.err.print(f"[bold red]{escape(error['message'])}[/] [dim]\\[{escape(error['code'])}][/]")
        terminal.err.print(f"  → {escape(error['remedy'])}")
    return 0 if job["state"] == "done" or given.no_wait else 1


def import_paths(terminal: Terminal, paths: list[Path], licence: str, *, waits: bool = True) -> JsonDict:
    """The import job's row, ended unless `waits` is false. Raises InvalidInput("model_file_not_found"), Refused."""
    for path in paths:
        if not path.exists():
            raise InvalidInput("model_file_not_found", path=str(path))
    if terminal.works_alone:
        return _alone(terminal, lambda box: box.import_models(paths, licence))
    files = files_to_send(paths)
    with terminal.err.status(terminal.sentence("cli.sending", count=len(files))):
        job: JsonDict = terminal.client.upload_files("/v1/weights", files, {"licence": licence})
    terminal.tell("cli.job_queued", id=job["id"])
    return follow(terminal, job["id"]) if waits else job


def list_models(terminal: Terminal) -> int:
    rows = _all(terminal)
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    terminal.table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    return 0


def show_model(terminal: Terminal) -> int:
    which = terminal.arguments.model
    if terminal.works_alone:
        row = _alone(terminal, lambda box: box.get_model(which))
    else:
        row = terminal.client.get(f"/v1/weights/{quote(which, safe='')}")
    if terminal.as_json:
        terminal.document(row)
        return 0
    report = row["report"]
    facts = {key: value for key, value in row.items() if not isinstance(value, dict)}
    facts |= {f"files.{role}": digest for role, digest in row["files"].items()}
    facts |= {name: len(report[name]) for name in ("missing", "unexpected", "left_out")}
    facts |= {name: report[name] for name in ("parameters", "header", "official")}
    terminal.table(("field", "value"), list(facts.items()))
    _print_warnings(terminal, row["name"], report)
    return 0


def verify_models(terminal: Terminal) -> int:
    """Exit 1 when a model is not what was imported."""
    named = terminal.arguments.models or [row["id"] for row in _all(terminal)]
    rows: list[JsonDict] = []
    for which in named:
        try:
            if terminal.works_alone:
                model = _alone(terminal, lambda box, which=which: box.verify_model(which))  # type: ignore[misc]
            else:
                model = terminal.client.call("POST", f"/v1/weights/{quote(which, safe='')}/verify").json()
            rows.append({"id": model["id"], "name": model["name"], "intact": True})
            terminal.tell("cli.model_intact", model=model["name"])
        except VoicedError as error:
            rows.append({"id": which, "intact": False, "code": error.code})
            terminal.fail(error, is_document=False)
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
    return 0 if all(row["intact"] for row in rows) else 1


def remove_model(terminal: Terminal) -> int:
    which = terminal.arguments.model
    if terminal.works_alone:
        _alone(terminal, lambda box: box.remove_model(which))
    else:
        terminal.client.delete(f"/v1/weights/{quote(which, safe='')}")
    if terminal.as_json:
        terminal.document({"deleted": which})
    terminal.tell("cli.deleted", id=which)
    return 0


# ---------------------------------------------------------------- where the work is done


def _all(terminal: Terminal) -> list[JsonDict]:
    if terminal.works_alone:
        return _alone(terminal, lambda box: box.list_models())
    return list(terminal.client.items("/v1/weights"))


def _alone(terminal: Terminal, work: Callable[[Alone], T]) -> T:
    from appliance.cli.alone import Alone

    return work(Alone(terminal.settings, terminal.language))


def files_to_send(paths: list[Path]) -> list[tuple[str, Path]]:
    """Names to be sent and the files behind them: what weights need, nothing else of the folders.

    Weights of a Hugging Face folder that are named alone bring what lies beside them.
    """
    files: dict[str, Path] = {}
    for path in (one.absolute() for one in paths):
        is_whole = path.is_dir() or path.name in FOLDER_WEIGHTS
        folder = path if path.is_dir() else path.parent
        found = sorted(folder.rglob("*")) if path.is_dir() else sorted(folder.iterdir()) if is_whole else [path]
        for file in found:
            if path.is_dir() and _is_sent(file):
                files[f"{folder.name}/{file.relative_to(folder).as_posix()}"] = file
            elif not path.is_dir() and (file == path or (file.suffix in {".json", ".txt"} and _is_sent(file))):
                files[f"{folder.name}/{file.name}" if is_whole else file.name] = file
    return list(files.items())


def _is_sent(file: Path) -> bool:
    if file.name.startswith(".") or file.suffix.lower() not in SENT or not file.is_file():
        return False
    is_text = file.suffix in {".json", ".txt"}
    limit = 64 << 20 if is_text else NEVER_SENT_OVER
    return file.stat().st_size <= limit and (file.suffix != ".bin" or file.name == "pytorch_model.bin")


def _print_result(terminal: Terminal, result: JsonDict) -> None:
    columns = ("id", "name", "kind", "version")
    terminal.table(columns, [[model[column] for column in columns] for model in result["models"]])
    for model in result["models"]:
        _print_warnings(terminal, model["name"], model["report"])
    for one in result["skipped"]:
        terminal.tell("cli.passed_over", message=one["message"])


def _print_warnings(terminal: Terminal, name: str, report: JsonDict) -> None:
    for one in report["warnings"]:
        sentence = terminal.sentence(f"{one['code']}.message", **one["measured"])
        terminal.err.print(f"[bold yellow]! {escape(name)}: {escape(sentence)}[/]")
