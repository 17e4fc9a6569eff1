"""Words that a voice swallowed or said twice, told from what a recogniser wrote down.

A recogniser mishears single words of any voice; a run of several that are missing, or a run that is heard twice, is the
voice's. Chinese is compared by toneless syllables where pypinyin is installed, so that homophones are no fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from appliance.audio.transcripts import spoken_units

SHORTEST_GAP = 2  # units in a row that are missing


@dataclass(frozen=True)
class WordFaults:
    """Of one sentence."""

    units: int  # words, or Chinese syllables, that were to be said
    dropped: int  # of them in gaps
    repeated: int  # heard once more directly behind themselves


def find_faults(said: str, heard: str) -> WordFaults:
    """Hold what was heard against what was to be said."""
    wanted, found = spoken_units(said, heard)
    dropped = repeated = 0
    matcher = SequenceMatcher(None, wanted, found, autojunk=False)
    for kind, start, end, there, until in matcher.get_opcodes():
        gap = (end - start) - (until - there)
        if kind in ("delete", "replace") and gap >= SHORTEST_GAP:
            dropped += gap
        if kind == "insert" and _is_echo(found, there, until):
            repeated += until - there
    return WordFaults(len(wanted), dropped, repeated)


def _is_echo(found: Sequence[str], start: int, end: int) -> bool:
    """Whether a run says again what stands directly before or behind it."""
    length = end - start
    run = found[start:end]
    return run == found[max(0, start - length) : start] or run == found[end : end + length]
