"""`voiced script`: lines that are said again and again, and publishing them."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from appliance.cli import add_action
from appliance.cli.files import save
from appliance.contracts import JsonDict
from appliance.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

FORMATS = ("csv", "json", "srt", "vtt")
ENDED = ("published", "failed")


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    add_action(actions, "list", "scripts of the box", list_scripts)
    _with_script(add_action(actions, "show", "the lines of a script", show_script), "--revision")
    edit = _with_script(add_action(actions, "edit", "edit the lines in $EDITOR, or set one with --line", edit_script))
    edit.add_argument("--line", metavar="NAME", help="the line to set (made when there is none)")
    edit.add_argument("--text", help="its new text; with {variables}")
    edit.add_argument("--voice", help="voice of that line, or of the script without --line")
    edit.add_argument("--set", metavar="NAME=VALUE[,VALUE…]", action="append", default=[], help="values of a variable")
    edit.add_argument("--remove", metavar="NAME", action="append", default=[], help="lines to take out")
    edit.add_argument("--comment", default="", help="what changed and why")
    taken = _with_script(add_action(actions, "import", "the next revision from a file", import_script))
    taken.add_argument("file", type=Path, help=", ".join(f".{one}" for one in FORMATS))
    given = _with_script(add_action(actions, "export", "the lines as a file", export_script), "--revision")
    given.add_argument("--file", type=Path, required=True, help=", ".join(f".{one}" for one in FORMATS))
    diff = _with_script(add_action(actions, "diff", "what changed between two revisions", compare))
    diff.add_argument("old", type=int)
    diff.add_argument("new", type=int, nargs="?")
    _with_script(add_action(actions, "history", "revisions and publications", history))
    _with_script(add_action(actions, "plan", "what publishing would render and refuse", show_plan), "--revision")
    publish = _with_script(add_action(actions, "publish", "render what changed, move all channels", publish_script))
    publish.add_argument("--revision", type=int, help="default: the newest")
    publish.add_argument("--no-wait", action="store_true", help="return once it has begun")
    back = _with_script(add_action(actions, "rollback", "let the channels carry an older publication", roll_back))
    back.add_argument("--to", type=int, help="publication (default: the one before)")
    archive = _with_script(add_action(actions, "archive", "a publication as a ZIP file", save_archive))
    archive.add_argument("--publication", type=int, help="default: the one that is carried now")
    archive.add_argument("--format", default="wav", help="wav, flac, mp3, opus, wav8, ulaw, alaw, g722, …")
    archive.add_argument("--file", type=Path, required=True)
    _with_script(add_action(actions, "delete", "take a script from the list", delete_script))


def _with_script(action: argparse.ArgumentParser, *more: str) -> argparse.ArgumentParser:
    action.add_argument("script")
    for name in more:
        action.add_argument(name, type=int, help="default: the newest")
    return action


def list_scripts(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/scripts"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    columns = ("id", "title", "revision", "published", "created_at")
    terminal.table(columns, [[row[column] for column in columns] for row in rows])
    return 0


def show_script(terminal: Terminal) -> int:
    revision = _revision(terminal, terminal.arguments.revision)
    if terminal.as_json:
        terminal.document(revision)
        return 0
    columns = ("name", "text", "voice", "language", "comment")
    terminal.table(columns, [[line[column] for column in columns] for line in revision["lines"]])
    for name, values in revision["variables"].items():
        terminal.tell("cli.script_variable", name=name, values=", ".join(values))
    return 0


def edit_script(terminal: Terminal) -> int:
    """One line by options, or the whole script in the editor."""
    given = terminal.arguments
    try:
        present = _revision(terminal, None)
    except Exception as error:
        if getattr(error, "code", "") != "script_not_found":
            raise
        present = {"number": 0, "lines": [], "variables": {}, "voice": "", "language": "auto", "comment": ""}
    is_small = any((given.line, given.remove, given.set, given.voice))
    changed = _changed(present, given) if is_small else _edited(present)
    order = {key: changed[key] for key in ("lines", "variables", "voice", "language")}
    order |= {"comment": given.comment, "expected": present["number"]}
    revision = terminal.client.put(_path(given.script), order)
    return _saved(terminal, revision)


def _changed(present: JsonDict, given: Any) -> JsonDict:
    lines = {line["name"]: dict(line) for line in present["lines"]}
    for name in given.remove:
        if name not in lines:
            raise NotFound("line_not_found", script=given.script, line=name)
        del lines[name]
    if given.line:
        blank = {"name": given.line, "text": "", "voice": "", "language": "", "speed": 1.0, "comment": "", "cue": None}
        line = lines.setdefault(given.line, blank)
        line |= {key: value for key, value in (("text", given.text), ("voice", given.voice)) if value is not None}
    variables = dict(present["variables"])
    for setting in given.set:
        name, _, values = setting.partition("=")
        variables[name] = [value.strip() for value in values.split(",")]
    voice = given.voice if given.voice is not None and not given.line else present["voice"]
    return {**present, "lines": list(lines.values()), "variables": variables, "voice": voice}


def _edited(present: JsonDict) -> JsonDict:
    """The revision as JSON in the person's editor. Raises InvalidInput("script_unreadable")."""
    kept = {key: present[key] for key in ("voice", "language", "variables", "lines")}
    editor = shlex.split(_editor())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.json"
        path.write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")
        try:
            subprocess.run([*editor, str(path)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise InvalidInput("editor_failed", editor=shlex.join(editor), problem=str(error)) from error
        try:
            edited = json.loads(path.read_text(encoding="utf-8"))
            return {**present, **{key: edited[key] for key in kept}}
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput("script_unreadable", format="json", problem=str(error)) from error


def _editor() -> str:
    from appliance.environment import terminal_editor

    return terminal_editor()


def import_script(terminal: Terminal) -> int:
    given = terminal.arguments
    try:
        content = given.file.read_bytes()
    except OSError as error:
        raise InvalidInput("file_unreadable", path=str(given.file), problem=error.strerror or str(error)) from error
    query = {"format": _format(given.file), "comment": given.file.name}
    headers = {"Content-Type": "application/octet-stream"}
    answer = terminal.client.call("POST", f"{_path(given.script)}/import", content, headers, query)
    return _saved(terminal, answer.json())


def export_script(terminal: Terminal) -> int:
    given = terminal.arguments
    query = {"format": _format(given.file), "revision": given.revision}
    save(given.file, terminal.client.call("GET", f"{_path(given.script)}/export", query=query).body)
    return _written(terminal, given.file)


def compare(terminal: Terminal) -> int:
    given = terminal.arguments
    found = terminal.client.get(f"{_path(given.script)}/difference", old=given.old, new=given.new)
    if terminal.as_json:
        terminal.document(found)
        return 0
    rows = [["+", line["name"], "", line["text"]] for line in found["added"]]
    rows += [["-", line["name"], line["text"], ""] for line in found["removed"]]
    for change in found["changed"]:
        fields = change["fields"].items()
        rows += [["~", f"{change['line']} {field}", str(one["from"]), str(one["to"])] for field, one in fields]
    rows += [["~", field, str(one["from"]), str(one["to"])] for field, one in found["settings"].items()]
    terminal.table(("change", "line", "from", "to"), rows)
    return 0


def history(terminal: Terminal) -> int:
    given = terminal.arguments
    revisions = list(terminal.client.items(f"{_path(given.script)}/revisions"))
    publications = list(terminal.client.items(f"{_path(given.script)}/publications"))
    if terminal.as_json:
        terminal.document({"revisions": revisions, "publications": publications})
        return 0
    columns = ("number", "created_at", "author", "comment")
    terminal.table(("revision", *columns[1:]), [[row[column] for column in columns] for row in revisions])
    fields = ("number", "kind", "revision", "state", "rendered", "created_at", "author")
    terminal.table(("publication", *fields[1:]), [[row[field] for field in fields] for row in publications])
    return 0


def show_plan(terminal: Terminal) -> int:
    """Exit status 1 when publishing would be refused."""
    given = terminal.arguments
    found = terminal.client.get(f"{_path(given.script)}/plan", revision=given.revision)
    if terminal.as_json:
        terminal.document(found)
        return 1 if found["refused"] else 0
    _tell_plan(terminal, found)
    return 1 if found["refused"] else 0


def _tell_plan(terminal: Terminal, found: JsonDict) -> None:
    fields = {key: found[key] for key in ("revision", "to_render", "characters")}
    channels = ", ".join(found["channels"]) or "–"
    terminal.tell("cli.script_plan", lines=len(found["lines"]), channels=channels, **fields)
    for row in found["refused"]:
        terminal.tell("cli.script_refused", line=row["line"], reason=row["message"])


def publish_script(terminal: Terminal) -> int:
    given = terminal.arguments
    if not terminal.as_json:
        _tell_plan(terminal, terminal.client.get(f"{_path(given.script)}/plan", revision=given.revision))
    order = {"revision": given.revision} if given.revision else {}
    return _follow(terminal, terminal.client.post(f"{_path(given.script)}/publish", order), given.no_wait)


def roll_back(terminal: Terminal) -> int:
    given = terminal.arguments
    order = {"to": given.to} if given.to else {}
    return _follow(terminal, terminal.client.post(f"{_path(given.script)}/rollback", order), False)


def _follow(terminal: Terminal, publication: JsonDict, no_wait: bool) -> int:
    """Until the publication has ended; exit status 1 when it failed."""
    path = f"{_path(publication['script'])}/publications/{publication['number']}"
    with terminal.progress() as show:
        for row in () if no_wait else terminal.client.watch(path, ENDED):
            publication = row
            if row["state"] not in ENDED:
                done = row["rendered"] / max(1, row["to_render"])
                show(terminal.sentence(f"cli.publication_{row['state']}"), done)
    if not no_wait:
        publication = terminal.client.get(path)
    if terminal.as_json:
        terminal.document(publication)
    elif publication["state"] == "failed":
        terminal.tell("cli.publication_failed", number=publication["number"], reason=publication["error"]["message"])
    else:
        terminal.tell("cli.publication_told", number=publication["number"], rendered=publication["rendered"])
    return 1 if publication["state"] == "failed" else 0


def save_archive(terminal: Terminal) -> int:
    given = terminal.arguments
    number = given.publication or terminal.client.get(_path(given.script))["published"]
    if number is None:
        raise NotFound("publication_not_found", script=given.script, publication=0)
    path = f"{_path(given.script)}/publications/{number}/archive"
    save(given.file, terminal.client.call("GET", path, query={"format": given.format}).body)
    return _written(terminal, given.file)


def delete_script(terminal: Terminal) -> int:
    terminal.client.delete(_path(terminal.arguments.script))
    if terminal.as_json:
        terminal.document({"deleted": terminal.arguments.script})
    return 0


def _path(script: str) -> str:
    return f"/v1/scripts/{quote(script, safe='')}"


def _revision(terminal: Terminal, number: int | None) -> JsonDict:
    path = _path(terminal.arguments.script)
    number = number or terminal.client.get(path)["revision"]
    revision: JsonDict = terminal.client.get(f"{path}/revisions/{number}")
    return revision


def _saved(terminal: Terminal, revision: JsonDict) -> int:
    if terminal.as_json:
        terminal.document(revision)
    terminal.tell(
        "cli.script_saved", script=revision["script"], number=revision["number"], lines=len(revision["lines"])
    )
    return 0


def _written(terminal: Terminal, file: Path) -> int:
    if terminal.as_json:
        terminal.document({"file": str(file)})
    terminal.tell("cli.file_written", path=str(file))
    return 0


def _format(file: Path) -> str:
    """Raises InvalidInput("script_format_unknown")."""
    format = file.suffix.lstrip(".").lower()
    if format not in FORMATS:
        raise InvalidInput("script_format_unknown", format=format, known=", ".join(FORMATS))
    return format
