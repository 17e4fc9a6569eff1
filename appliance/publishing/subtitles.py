"""SubRip (SRT) and WebVTT: cues in, cues out."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from appliance.errors import InvalidInput, TooLarge

MOST_CUES = 20_000
_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_TIMING = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>|\{\\[^{}]{0,100}\}|<\d{2}:\d{2}[^<>]{0,20}>")


@dataclass(frozen=True)
class Cue:
    """Something to be said from `start` to `end` (seconds)."""

    start: float
    end: float
    text: str  # one line, without markup


def read_subtitles(content: str) -> tuple[Cue, ...]:
    """The cues of an SRT or VTT file, in the order of their starts; cues without text are left out.

    Raises InvalidInput("subtitles_unreadable") with the number of the line, InvalidInput("subtitles_empty"),
    TooLarge("script_too_long").
    """
    lines = content.lstrip("\ufeff").splitlines()
    timings = [(number, match) for number, line in enumerate(lines) if (match := _TIMING.match(line))]
    broken = next((number for number, line in enumerate(lines) if "-->" in line and not _TIMING.match(line)), None)
    if broken is not None:
        raise InvalidInput("subtitles_unreadable", line=broken + 1, found=lines[broken][:60])
    if len(timings) > MOST_CUES:
        raise TooLarge("script_too_long", lines=len(timings), limit=MOST_CUES)
    starts = [number for number, _ in timings] + [len(lines)]
    cues = [
        _cue(lines[number:end], number, match, is_last=end == len(lines))
        for (number, match), end in zip(timings, starts[1:], strict=True)
    ]
    if lines and lines[0].startswith("WEBVTT"):  # where signs of markup are written by their names
        cues = [replace(cue, text=" ".join(html.unescape(cue.text).split())) for cue in cues]
    spoken = tuple(sorted((cue for cue in cues if cue.text), key=lambda cue: cue.start))
    if not spoken:
        raise InvalidInput("subtitles_empty")
    return spoken


def _cue(lines: list[str], number: int, match: re.Match[str], *, is_last: bool) -> Cue:
    """`lines`: the timing, which stands at `number` of the file, and what comes before the next one."""
    start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
    if end <= start:
        raise InvalidInput("subtitles_unreadable", line=number + 1, found=lines[0][:60])
    body: list[str] = []
    for line in lines[1:]:
        if not line.strip():
            break
        body.append(_TAG.sub("", line).strip())
    else:  # no blank line before the next cue: its number is not said
        if not is_last and body and body[-1].isdecimal():
            body.pop()
    return Cue(start, end, " ".join(part for part in body if part))


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    whole = 3600 * int(hours or 0) + 60 * int(minutes or 0) + int(seconds or 0)
    return whole + int((fraction or "0").ljust(3, "0")) / 1000


def write_srt(cues: Iterable[Cue]) -> str:
    """Cues as SubRip."""
    rows = (
        f"{number}\n{_stamp(cue.start, ',')} --> {_stamp(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues, start=1)
    )
    return "\n".join(rows)


def write_vtt(cues: Iterable[Cue]) -> str:
    """Cues as WebVTT."""
    rows = (
        f"{_stamp(cue.start, '.')} --> {_stamp(cue.end, '.')}\n{html.escape(cue.text, quote=False)}\n" for cue in cues
    )
    return "\n".join(("WEBVTT\n", *rows))


def _stamp(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
