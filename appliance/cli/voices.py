"""`voiced voices`: what the box can speak with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from appliance.cli import add_action, exporting, versions
from appliance.cli.client import Refused
from appliance.cli.models import import_paths

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

PURPOSES = ("clone", "speak", "announce", "publish")


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    add_action(actions, "list", "all voices", list_voices)
    add_action(actions, "show", "one voice with its versions", show_voice).add_argument("id")
    add = add_action(actions, "add", "make a voice from imported weights and a reference clip", add_voice)
    add.add_argument("id", help="id of the voice, e.g. anna; an existing voice gets a new version")
    add.add_argument("--engine", default="gpt_sovits")
    add.add_argument(
        "--weights", nargs=2, required=True, metavar=("S1", "S2"), help="imported models by name or id, or their files"
    )
    add.add_argument("--reference", required=True, type=Path, metavar="CLIP", help="3 to 10 s of the voice")
    add.add_argument("--transcript", default="", metavar="TEXT", help="what the clip says (default: the box listens)")
    add.add_argument("--language", default="auto", choices=("auto", "zh", "en", "ja", "ko", "yue"), help="of the clip")
    add.add_argument("--title", default="", help="name shown to people")
    add.add_argument("--speaker", default="", help="whose voice it is")
    add.add_argument("--consent", default="", metavar="WORDS", help="record that the speaker agreed, in these words")
    promote = add_action(actions, "promote", "make a version the one that the name means", promote_voice)
    promote.add_argument("id")
    promote.add_argument("version", type=int)
    consent = add_action(actions, "consent", "write down what the speaker agreed to", consent_voice)
    consent.add_argument("id")
    consent.add_argument("--speaker", required=True, help="who agreed")
    consent.add_argument("--statement", required=True, help="the words that were agreed to")
    consent.add_argument("--purpose", action="append", choices=PURPOSES, help="default: clone, speak and announce")
    consent.add_argument("--expires", metavar="DATE", help="ISO 8601, e.g. 2027-12-31")
    exporting.configure(
        add_action(actions, "export", "the files of a voice for other programs", exporting.export_voice)
    )
    add_action(actions, "delete", "withdraw a voice", delete_voice).add_argument("id")
    versions.add_actions(actions)


def list_voices(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/voices"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    terminal.table(
        ("id", "title", "gender", "languages", "version"),
        [[row["id"], row["title"], row["gender"], " ".join(row["languages"]), row["current"]] for row in rows],
    )
    return 0


def show_voice(terminal: Terminal) -> int:
    path = f"/v1/voices/{quote(terminal.arguments.id)}"
    voice = terminal.client.get(path)
    versions = list(terminal.client.items(f"{path}/versions"))
    if terminal.as_json:
        terminal.document({**voice, "versions": versions})
        return 0
    terminal.table(("field", "value"), [(key, _shown(value)) for key, value in voice.items()])
    terminal.out.print()
    terminal.table(
        ("version", "engine", "created_at", "metrics"),
        [[row["number"], row["engine"], row["created_at"], _figures(row["metrics"])] for row in versions],
    )
    return 0


def add_voice(terminal: Terminal) -> int:
    """Exit 0 when the voice speaks from now on."""
    given = terminal.arguments
    weights = _imported(terminal, given.weights)
    if given.consent:
        order = {"speaker": given.speaker or given.id, "voice": given.id, "purposes": list(PURPOSES[:3])}
        terminal.client.post("/v1/consents", {**order, "statement": given.consent})
    fields = {
        "id": given.id,
        "engine": given.engine,
        "weights": ",".join(weights),
        "transcript": given.transcript,
        "language": given.language,
        "title": given.title,
        "speaker": given.speaker,
    }
    with terminal.err.status(terminal.sentence("cli.checking", file=given.reference.name)):
        version = terminal.client.upload("/v1/voices", given.reference, fields)
    if terminal.as_json:
        terminal.document(version)
    terminal.tell("cli.voice_added", voice=given.id, version=version["id"])
    return 0


def _imported(terminal: Terminal, weights: list[str]) -> list[str]:
    """Ids or names of models; files among `weights` are imported first. Raises what their import ended with."""
    if not all(Path(one).is_file() for one in weights):
        return weights
    job = import_paths(terminal, [Path(one) for one in weights], "")
    if job["state"] != "done":
        raise Refused(422, {**job["error"], "detail": job["error"]["message"]})
    return [model["id"] for model in job["result"]["models"] if model["kind"] in {"s1", "s2"}]


def promote_voice(terminal: Terminal) -> int:
    given = terminal.arguments
    voice = terminal.client.post(f"/v1/voices/{quote(given.id)}/promote", {"version": given.version})
    if terminal.as_json:
        terminal.document(voice)
    terminal.tell("cli.promoted", voice=given.id, version=given.version)
    return 0


def consent_voice(terminal: Terminal) -> int:
    given = terminal.arguments
    order = {
        "speaker": given.speaker,
        "voice": given.id,
        "purposes": given.purpose or list(PURPOSES[:3]),
        "statement": given.statement,
        "expires_at": given.expires,
    }
    consent = terminal.client.post("/v1/consents", order)
    if terminal.as_json:
        terminal.document(consent)
    terminal.tell("cli.consent_recorded", id=consent["id"], voice=given.id, speaker=given.speaker)
    return 0


def delete_voice(terminal: Terminal) -> int:
    which = terminal.arguments.id
    terminal.client.delete(f"/v1/voices/{quote(which)}")
    if terminal.as_json:
        terminal.document({"deleted": which})
    terminal.tell("cli.deleted", id=which)
    return 0


def _shown(value: object) -> object:
    return " ".join(str(part) for part in value) if isinstance(value, list) else value


def _figures(metrics: dict[str, object]) -> str:
    plain = {key: value for key, value in metrics.items() if isinstance(value, int | float | str)}
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in plain.items()
    )
