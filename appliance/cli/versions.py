"""Actions of `voiced voices` over versions: rollback, changelog, compare, lineage, examination."""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rich.markup import escape
from rich.tree import Tree

from appliance.cli import add_action
from appliance.cli.files import save
from appliance.contracts import JsonDict

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

MOVE_COLUMNS = ("moved_at", "from_number", "to_number", "kind", "reason", "actor")
COMPARED = ("llr", "speaker_cosine", "mfcc_distance", "dnsmos", "f0_drift_semitones")
DEEPEST = 6  # steps from a rendition to a session


def add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Called by the family `voices`."""
    back = add_action(actions, "rollback", "the version that spoke before speaks again", roll_back)
    back.add_argument("id")
    back.add_argument("--reason", default="", help="for the changelog")
    add_action(actions, "changelog", "which version spoke when, and who decided", show_changelog).add_argument("id")
    compare = add_action(actions, "compare", "let two versions say the same, into two files", compare_versions)
    compare.add_argument("first", help="anna@2")
    compare.add_argument("second", help="anna@3")
    compare.add_argument("--text", required=True)
    compare.add_argument("--language", default="auto")
    compare.add_argument("--seed", type=int, default=0)
    compare.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the files go (default: here)")
    lineage = add_action(actions, "lineage", "where a version comes from and what it made", show_lineage)
    lineage.add_argument("id", help="anna@3, or with --kind the id of a recording, dataset, job, rendition or session")
    lineage.add_argument("--kind", default="version")
    exam = add_action(actions, "examination", "what the examination of a version measured", show_examination)
    exam.add_argument("id", help="anna@3")


def roll_back(terminal: Terminal) -> int:
    given = terminal.arguments
    voice = terminal.client.post(f"/v1/voices/{quote(given.id)}/rollback", {"reason": given.reason})
    if terminal.as_json:
        terminal.document(voice)
    terminal.tell("cli.promoted", voice=given.id, version=voice["current"])
    return 0


def show_changelog(terminal: Terminal) -> int:
    rows = list(terminal.client.items(f"/v1/voices/{quote(terminal.arguments.id)}/changelog"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    terminal.table(MOVE_COLUMNS, [[row[column] for column in MOVE_COLUMNS] for row in rows])
    return 0


def compare_versions(terminal: Terminal) -> int:
    """Writes `anna@2.wav` and `anna@3.wav`, and prints what is known of both."""
    given = terminal.arguments
    order = {name: getattr(given, name) for name in ("first", "second", "text", "seed")}
    answer = terminal.client.post("/v1/compare", {**order, "lang": given.language})
    sides = [answer["first"], answer["second"]]
    for side in sides:
        file = given.out / f"{side['voice']}.wav"
        save(file, base64.b64decode(side.pop("audio_wav_base64")))
        side["file"] = str(file)
    if terminal.as_json:
        terminal.document(answer)
        return 0
    rows = [(terminal.sentence(f"measure.{name}"), *(side[name] for side in sides)) for name in ("file", "duration_s")]
    rows += [(terminal.sentence(f"measure.{name}"), *(_measured(side, name) for side in sides)) for name in COMPARED]
    terminal.table(("measure", "first", "second"), rows)
    return 0


def _measured(side: JsonDict, name: str) -> object:
    return ((side.get("exam") or {}).get("clone") or {}).get(name)


def show_lineage(terminal: Terminal) -> int:
    """What it was made from and what it made, each as a tree; --json gives the nearest nodes."""
    given = terminal.arguments
    if terminal.as_json:
        terminal.document(_node(terminal, given.kind, given.id))
        return 0
    for direction in ("made_from", "made_into"):
        tree = Tree(escape(f"{terminal.sentence(f'cli.{direction}')}: {given.kind} {given.id}"))
        _grow(terminal, tree, _node(terminal, given.kind, given.id), direction, DEEPEST)
        terminal.out.print(tree)
    return 0


def _node(terminal: Terminal, kind: str, name: str) -> JsonDict:
    node: JsonDict = terminal.client.get(f"/v1/lineage/{quote(kind)}/{quote(name)}")
    return node


def _grow(terminal: Terminal, tree: Tree, node: JsonDict, direction: str, depth: int) -> None:
    for link in node[direction] if depth else ():
        branch = tree.add(escape(f"{link['kind']} {link['id']}  {link['title']}"))
        _grow(terminal, branch, _node(terminal, link["kind"], link["id"]), direction, depth - 1)


def show_examination(terminal: Terminal) -> int:
    """Exit 0 when it passed."""
    voice, _, number = terminal.arguments.id.partition("@")
    report = terminal.client.get(f"/v1/voices/{quote(voice)}/versions/{quote(number or '0')}/examination")
    if terminal.as_json:
        terminal.document(report)
    else:
        from appliance.cli.clone import print_examination

        print_examination(terminal, report)
        terminal.err.print(f"{terminal.client.url}{report['page']}")
    return 0 if report["verdict"] == "passed" else 1
