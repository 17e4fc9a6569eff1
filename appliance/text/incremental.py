"""Text that is still being written -> pieces that can be spoken already.

A piece ends where no letter that may still come can change that it ends: behind a mark that something follows, or at
one that always ends a sentence. The first piece may be a clause, because its length is the wait before the first sound;
later ones are whole sentences, whose melody is better. Nothing is cut inside a reading (`[单](shan4)`).
"""

from __future__ import annotations

import re

from appliance.text.clauses import ends_sentence, find_boundaries, spoken_cost
from appliance.text.cleaning import has_speech

FIRST_LEAST = 12  # worth of a first piece that may end before its sentence does; see `spoken_cost`
_ALWAYS_ENDS = frozenset("。！？\n")  # "." may go on as a number, "!" as "!?"
_OPEN_READING = re.compile(r"\[[^\[\]()\n]{1,64}(\](\([^\[\]()\n]{0,256})?)?$")


class TextFeed:
    """One text, letter by letter. What is handed out, joined with what is kept, is what came in."""

    def __init__(self) -> None:
        self._kept = ""
        self._is_first = True

    @property
    def kept(self) -> int:
        """Characters that came in and were not handed out yet."""
        return len(self._kept)

    def push(self, text: str) -> list[str]:
        """More text -> the pieces that are complete now."""
        self._kept += text
        pieces: list[str] = []
        start = looked = 0
        is_spoken = False  # whether there is a letter between `start` and `looked`
        for mark in find_boundaries(self._kept):
            is_spoken = is_spoken or has_speech(self._kept[looked : mark.end()])
            looked = mark.end()
            if not is_spoken:
                continue
            piece = self._kept[start : mark.end()]
            if self._is_complete(piece, mark.group(), is_last=mark.end() == len(self._kept)):
                pieces.append(piece)
                start, is_spoken, self._is_first = mark.end(), False, False
        self._kept = self._kept[start:]
        return pieces

    def flush(self) -> list[str]:
        """What is kept, complete or not; nothing when there is no letter in it to speak."""
        rest, self._kept = self._kept, ""
        self._is_first = True  # whoever waits for this waits for what comes next as well
        return [rest] if has_speech(rest) else []

    def _is_complete(self, piece: str, mark: str, *, is_last: bool) -> bool:
        """Whether `piece`, which has something to say, ends where it does."""
        if _OPEN_READING.search(piece.rstrip()):
            return False
        if is_last and _ALWAYS_ENDS.isdisjoint(mark):
            return False
        return ends_sentence(mark) or (self._is_first and spoken_cost(piece) >= FIRST_LEAST)
