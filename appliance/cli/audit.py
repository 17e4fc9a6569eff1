"""`voiced audit`: who did what, and whether the record of it is whole."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli import add_action
from appliance.cli.files import save
from appliance.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal
    from appliance.security.signing import PublicKey

COLUMNS = ("id", "at", "actor", "action", "voice", "subject", "outcome")


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    listed = add_action(actions, "list", "entries of this tenant, newest first", list_entries)
    listed.add_argument("--voice", help="one voice (anna) or one version of it (anna@3)")
    listed.add_argument("--what", metavar="ACTION", help="one kind of deed, for example consent.revoke")
    listed.add_argument("--limit", type=int, default=50, help="how many at most")
    checked = add_action(actions, "verify", "check the whole log; exit 1 names the first bad index", verify)
    checked.add_argument("--checkpoint", type=Path, metavar="FILE", help="also against one that was kept elsewhere")
    exported = add_action(actions, "export", "write the log to a file that is verifiable without the box", export)
    exported.add_argument("file", type=Path)
    signed = add_action(actions, "checkpoint", "sign for the whole log: text and QR code to keep elsewhere", checkpoint)
    signed.add_argument("--qr", type=Path, metavar="FILE", help="write the QR code as .svg or .png")


def list_entries(terminal: Terminal) -> int:
    given = terminal.arguments
    query = {"voice": given.voice, "action": given.what}
    rows = []
    for row in terminal.client.items("/v1/audit", **query):
        rows.append(row)
        if len(rows) >= given.limit:
            break
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
    else:
        terminal.table(COLUMNS, [[row.get(column) for column in COLUMNS] for row in rows])
    return 0


def verify(terminal: Terminal) -> int:
    """On the files of the state directory, whether the daemon runs or not."""
    from appliance.security.audit_checking import verify_file

    kept = terminal.arguments.checkpoint
    verdict = verify_file(_state_dir(terminal) / "voiced.db", _public_key(terminal), _read(kept) if kept else "")
    if terminal.as_json:
        terminal.document(verdict.as_json())
    if verdict.first_bad is None:
        terminal.tell("audit.intact", first=verdict.first, last=verdict.size - 1, checkpoints=verdict.checkpoints)
        return 0
    problem = terminal.sentence(f"audit.problem.{verdict.problem}")
    terminal.tell("audit.not_intact", index=verdict.first_bad, problem=problem)
    return 1


def export(terminal: Terminal) -> int:
    file: Path = terminal.arguments.file
    body = terminal.client.call("GET", "/v1/audit/export").body
    save(file, body)
    count = body.count(b"\n") - 1
    if terminal.as_json:
        terminal.document({"file": str(file), "entries": count, "key": json.loads(body.partition(b"\n")[0])["key"]})
    terminal.tell("audit.exported", count=count, file=file)
    return 0


def checkpoint(terminal: Terminal) -> int:
    """The note goes to stdout, so that `voiced audit checkpoint > note.txt` keeps exactly it."""
    import segno

    told = terminal.client.get("/v1/audit/checkpoint")
    picture = segno.make(told["note"], micro=False)
    if terminal.arguments.qr:
        picture.save(str(terminal.arguments.qr), scale=4)
    if terminal.as_json:
        terminal.document(told)
        return 0
    print(told["note"], end="")
    if not terminal.arguments.qr and terminal.out.is_terminal:
        picture.terminal(compact=True)
    terminal.tell("audit.key", line=told["key"])
    return 0


def _state_dir(terminal: Terminal) -> Path:
    folder: Path = terminal.settings.state_dir
    return folder


def _public_key(terminal: Terminal) -> PublicKey:
    from appliance.security.signing import PUBLIC_NAME, read_public_key

    path = _state_dir(terminal) / "keys" / PUBLIC_NAME
    if not path.is_file():
        raise NotFound("audit_absent", path=str(_state_dir(terminal)))
    return read_public_key(_read(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("file_unreadable", path=str(path), problem=str(error)) from error
