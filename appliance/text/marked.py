"""Text with readings noted in it -> clauses, each with its readings; no word with a reading is cut in two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from appliance.text.clauses import split_clauses
from appliance.text.lexicon import Entry, count_word, find_overrides


class MarkedClause(NamedTuple):
    text: str  # as it is written, without the readings
    readings: tuple[Entry, ...]  # each for one occurrence in `text`


def split_marked(text: str) -> list[MarkedClause]:
    """The clauses of `split_clauses`, joined where a border would lie inside a word that has a reading.

    Raises InvalidInput("lexicon_word_invalid").
    """
    plain, overrides = find_overrides(text)
    clauses = split_clauses(plain)
    if not overrides:
        return [MarkedClause(clause, ()) for clause in clauses]
    marked: list[MarkedClause] = []
    borders = _join_torn(list(_locate(plain, clauses)), [(start, end) for start, end, _ in overrides])
    for first, last in borders:
        readings = tuple(
            Entry(plain[start:end], reading, occurrence=count_word(plain[first:start], plain[start:end]))
            for start, end, reading in overrides
            if first <= start < last
        )
        marked.append(MarkedClause(plain[first:last], readings))
    return marked


def _locate(text: str, clauses: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where the clauses are in `text`: they hold all of it in order, but not every blank."""
    end = 0
    for clause in clauses:
        letters = "".join(clause.split())
        start = end = text.index(letters[0], end)
        for letter in letters:
            end = text.index(letter, end) + 1
        yield start, end


def _join_torn(clauses: list[tuple[int, int]], words: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Clauses in order, those with a border inside a word made one."""
    joined: list[tuple[int, int]] = []
    for start, end in clauses:
        is_torn = bool(joined) and any(first < start < last for first, last in words)
        if is_torn:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
