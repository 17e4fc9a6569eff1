"""`voiced clone NAME CLIP…`: upload, verdict, job with progress, and what the examination measured."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rich.markup import escape

from appliance.cli import add_common
from appliance.cli.client import Client
from appliance.cli.jobs import follow
from appliance.cli.recordings import print_verdict
from appliance.contracts import JsonDict
from appliance.errors import Forbidden, InvalidInput
from appliance.messages import text
from appliance.voices.records import is_voice_id

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

MEASURES = (  # of the examination's summary, with the direction that is better
    ("llr", "higher"),
    ("llr_equalised", "higher"),
    ("speaker_cosine", "higher"),
    ("mfcc_distance", "lower"),
    ("f0_drift_semitones", "zero"),
    ("error.en", "lower"),
    ("error.zh", "lower"),
    ("error.mixed", "lower"),
    ("dropped_share", "lower"),
    ("repeated", "lower"),
    ("rate_drift", "zero"),
    ("dnsmos", "higher"),
)


SHARES = ("error", "dropped_share", "rate_drift")


def configure(name: str, command: argparse.ArgumentParser) -> None:
    add_common(command)
    command.add_argument("name", help="id of the voice, e.g. anna; an existing voice gets a new version")
    command.add_argument("clips", nargs="*", metavar="CLIP", help="recordings of one speaker, a minute or so in all")
    command.add_argument("--session", default="", metavar="ID", help="use the clips of a recording session")
    command.add_argument(
        "--transcript",
        action="append",
        default=[],
        metavar="TEXT",
        help="what a clip says, once per clip in order (default: the box listens)",
    )
    command.add_argument("--title", default="", help="name shown to people")
    command.add_argument("--speaker", default="", help="whose voice it is")
    command.add_argument(
        "--consent",
        default="",
        metavar="WORDS",
        help="record that the speaker agreed to cloning and speaking, in these words",
    )
    command.add_argument("--language", default="auto", help="zh, en, ja or auto")
    command.add_argument("--engine", default="", help="engine that clones (default: the box's)")
    command.add_argument(
        "--base", nargs=2, metavar=("S1", "S2"), help="imported weights to start from (gpt_sovits; default: the newest)"
    )
    command.add_argument(
        "--lora", type=_positive, metavar="RANK", help="let low-rank additions to s1 learn (gpt_sovits)"
    )
    command.add_argument("--seed", type=_positive, help="of the training (default: 0)")
    command.add_argument("--steps", type=_positive, help="how long to train (default: clone.steps)")
    command.add_argument("--no-wait", action="store_true", help="return as soon as the job is queued")
    command.set_defaults(command=clone)


def _positive(given: str) -> int:
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError("must be a number from 1 up")
    return int(given)


def clone(terminal: Terminal) -> int:
    """Exit 0 when the clone passed its examination, 1 when a clip or the clone was refused."""
    given = terminal.arguments
    if len(given.transcript) > len(given.clips):
        raise InvalidInput("too_many_transcripts", transcripts=len(given.transcript), clips=len(given.clips))
    if not is_voice_id(given.name):  # before a minute of uploading and listening
        raise InvalidInput("voice_id_invalid", voice=given.name)
    if not given.consent:
        require_consent(terminal.client, given.name)
    recordings = [row["id"] for row in upload_clips(terminal)]
    if given.session:
        recordings += terminal.client.get(f"/v1/recording-sessions/{quote(given.session)}")["recordings"]
    if not recordings:
        raise InvalidInput("dataset_empty", recordings=0)
    if given.consent:
        record_consent(terminal.client, given.name, given.speaker or given.name, given.consent, recordings[0])
    job = terminal.client.post("/v1/jobs", clone_order(given, recordings))
    terminal.tell("cli.job_queued", id=job["id"])
    if not given.no_wait:
        job = follow(terminal, job["id"])
    if terminal.as_json:
        terminal.document({"recordings": recordings, "job": job})
    elif job["state"] == "done":
        print_result(terminal, job)
    elif error := job.get("error"):
        terminal.remark("[bold red]✗[/]", error)
    return 0 if job["state"] == "done" or given.no_wait else 1


def upload_clips(terminal: Terminal) -> list[JsonDict]:
    """Upload every clip and print its verdict. Raises Refused for the first that is not good enough."""
    given = terminal.arguments
    rows: list[JsonDict] = []
    for index, clip in enumerate(given.clips):
        transcript = given.transcript[index] if index < len(given.transcript) else None
        with terminal.err.status(terminal.sentence("cli.checking", file=clip)):
            row = upload(terminal.client, Path(clip), transcript, given.language, given.speaker)
        if not terminal.as_json:
            print_verdict(terminal, clip, row["report"] | {"accepted": row["accepted"]})
        rows.append(row)
    return rows


def upload(client: Client, clip: Path, transcript: str | None, language: str = "auto", speaker: str = "") -> JsonDict:
    """`POST /v1/recordings` with the file and its labels; returns the recording's row."""
    fields = {
        "transcript": transcript,
        "language": None if language == "auto" else language,
        "speaker": speaker or None,
    }
    row: JsonDict = client.upload("/v1/recordings", clip, fields)
    return row


def require_consent(client: Client, voice: str) -> None:
    """Raises Forbidden("consent_missing") when nobody ever agreed; the box itself judges the consents there are."""
    for consent in client.items("/v1/consents"):
        if consent["voice"] in {voice, ""} and "clone" in consent["purposes"]:
            return
    raise Forbidden("consent_missing", voice=voice, purpose="clone")


def record_consent(client: Client, voice: str, speaker: str, statement: str, evidence: str) -> JsonDict:
    """`POST /v1/consents` for cloning `voice` and speaking with it; `evidence` is the id of a recording."""
    order = {
        "speaker": speaker,
        "voice": voice,
        "purposes": ["clone", "speak", "announce"],
        "statement": statement,
        "evidence": evidence,
    }
    consent: JsonDict = client.post("/v1/consents", order)
    return consent


def clone_order(given: argparse.Namespace, recordings: list[str]) -> JsonDict:
    """The body of `POST /v1/jobs`."""
    order = {
        "kind": "clone",
        "voice": given.name,
        "recordings": recordings,
        "language": given.language,
        "title": given.title,
        "engine": given.engine,
        "steps": given.steps,
        "base": given.base,
        "rank": given.lora,
        "seed": given.seed,
    }
    return {key: value for key, value in order.items() if value not in (None, "")}


def print_result(terminal: Terminal, job: JsonDict) -> None:
    """Before and after, as the examination measured them."""
    print_examination(terminal, examination_of(job))
    result = job["result"]
    key = "cli.clone_passed" if result["promoted"] else "cli.clone_kept_back"
    terminal.tell(key, version=result["spec"], voice=result["voice"], number=result["version"])


def print_examination(terminal: Terminal, exam: JsonDict) -> None:
    """The table of an examination and what spoke against the candidate."""
    terminal.table(("measure", "before", "after", "better"), examination_rows(exam, terminal.language))
    for reason in exam.get("reasons") or []:
        code, measured = reason["code"], reason.get("measured") or {}
        terminal.err.print(f"  ! {escape(terminal.sentence(f'{code}.message', **measured))}")


def examination_of(job: JsonDict) -> JsonDict:
    """The examination's report in a finished job; empty when there is none."""
    result = job.get("result") or {}
    found: JsonDict = result.get("exam") or {}
    return found


def examination_rows(exam: JsonDict, language: str) -> list[list[str]]:
    """Measure, nearest starter voice, clone, and which way is better, for a table."""
    summary = exam.get("summary") or {}
    before, after = summary.get("base") or {}, summary.get("clone") or {}
    rows = []
    for name, better in MEASURES:
        figures = [_figure(side, name) for side in (before, after)]
        if figures != ["–", "–"]:
            rows.append([text(f"measure.{name}", language), *figures, text(f"better.{better}", language)])
    return rows


def _figure(side: JsonDict, name: str) -> str:
    group, _, part = name.partition(".")
    value = (side.get(group) or {}).get(part) if part else side.get(group)
    if value is None:
        return "–"
    return f"{value:.1%}" if group in SHARES else f"{value:.2f}"
