"""Scripts as files: CSV for spreadsheets, JSON for programs, SRT and VTT for those who work along a film."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

from appliance.contracts import JsonDict
from appliance.errors import InvalidInput
from appliance.publishing.records import Line, NewRevision, Revision
from appliance.publishing.subtitles import Cue, read_subtitles, write_srt, write_vtt

COLUMNS = ("name", "text", "voice", "language", "speed", "comment")
FORMATS = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}


def export_revision(revision: Revision, format: str) -> str:
    """The revision as a file. Raises InvalidInput("script_format_unknown", "cue_missing")."""
    match format:
        case "json":
            kept = ("lines", "variables", "voice", "language", "comment")
            whole = revision.as_json()
            return json.dumps({key: whole[key] for key in kept}, ensure_ascii=False, indent=1)
        case "csv":
            return _write_csv(revision)
        case "srt":
            return write_srt(_cues(revision))
        case "vtt":
            return write_vtt(_cues(revision))
    raise InvalidInput("script_format_unknown", format=format[:20], known=", ".join(FORMATS))


def import_script(content: bytes, format: str, base: Revision | None = None) -> NewRevision:
    """A new revision from a file; what the format cannot say (variables, the voice) is kept from `base`.

    Raises InvalidInput (script_format_unknown, script_unreadable, subtitles_unreadable, subtitles_empty), TooLarge.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput("script_unreadable", format=format, problem=f"byte {error.start} is not UTF-8") from error
    readers: dict[str, Callable[[str, Revision | None], NewRevision]] = {
        "json": _read_json,
        "csv": _read_csv,
        "srt": _read_cues,
        "vtt": _read_cues,
    }
    if format not in readers:
        raise InvalidInput("script_format_unknown", format=format[:20], known=", ".join(FORMATS))
    return readers[format](text, base)


def _kept(base: Revision | None) -> dict[str, Any]:
    if base is None:
        return {}
    return {"variables": base.variables, "voice": base.voice, "language": base.language}


def _write_csv(revision: Revision) -> str:
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(COLUMNS)
    for line in revision.lines:
        writer.writerow([getattr(line, column) for column in COLUMNS])
    return target.getvalue()


def _read_csv(text: str, base: Revision | None) -> NewRevision:
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise InvalidInput("script_unreadable", format="csv", problem=str(error)) from error
    if rows and not {"name", "text"} <= rows[0].keys():
        raise InvalidInput("script_unreadable", format="csv", problem="the first row must name the columns name, text")
    lines = tuple(_line(row, "csv", f"row {number}") for number, row in enumerate(rows, start=2))
    return NewRevision(lines, **_kept(base))


def _read_json(text: str, base: Revision | None) -> NewRevision:
    try:
        document = json.loads(text)
        json.dumps(document, ensure_ascii=False).encode()  # half a character is none
        lines = tuple(_line(row, "json", f"line {number}") for number, row in enumerate(document["lines"], start=1))
        kept = _kept(base)
        variables = document.get("variables", kept.get("variables", {}))
        values = {str(name): tuple(map(str, given)) for name, given in dict(variables).items()}
        voice = str(document.get("voice", kept.get("voice", "")))
        language = str(document.get("language", kept.get("language", "auto")))
        return NewRevision(lines, values, voice, language, str(document.get("comment", "")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput("script_unreadable", format="json", problem=f"{type(error).__name__}: {error}") from error


def _line(row: Mapping[str, Any], format: str, where: str) -> Line:
    """A line from the cells of a table or the fields of an object; empty ones mean the default."""
    given: JsonDict = {key: row[key] for key in COLUMNS if row.get(key) not in (None, "")}
    try:
        given["speed"] = float(given.get("speed", 1.0))
        cue = row.get("cue")
        given["cue"] = (float(cue[0]), float(cue[1])) if cue else None
        words = {key: str(given.get(key, "")) for key in COLUMNS if key != "speed"}
        return Line(**words, speed=given["speed"], cue=given["cue"])
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise InvalidInput("script_unreadable", format=format, problem=f"{where}: {error}") from error


def _cues(revision: Revision) -> list[Cue]:
    without = next((line.name for line in revision.lines if line.cue is None), None)
    if without is not None:
        raise InvalidInput("cue_missing", line=without)
    return [Cue(*line.cue, " ".join(line.text.split())) for line in revision.lines if line.cue is not None]


def _read_cues(text: str, base: Revision | None) -> NewRevision:
    cues = read_subtitles(text)
    digits = max(4, len(str(len(cues))))
    lines = tuple(
        Line(f"cue-{number:0{digits}d}", cue.text, cue=(cue.start, cue.end)) for number, cue in enumerate(cues, start=1)
    )
    return NewRevision(lines, **_kept(base))
