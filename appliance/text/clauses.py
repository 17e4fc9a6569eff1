"""Long text -> clauses short enough for one synthesis step, at places where a reader breathes.

Pure and linear in the length. Punctuation stays with the clause it ends. The first clause is short, because its
length is the wait before the first sound; later ones may grow, because earlier ones play meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.text.cleaning import has_speech

_WIDE_COST = 2  # an ideograph, kana or digit takes about twice the phones and the time of a Latin letter
_FIRST_SHARE, _SECOND_SHARE = 1 / 3, 2 / 3  # of max_characters, for the first and second clause
_LEAST = 12  # a clause below this cost is joined to the next one: very short pieces sound clipped
_SENTENCE_LEAST = 24  # a sentence of this cost stands alone

_STRONG = "。！？!?.\n"
_MARKS = re.compile(r"[。！？!?.…；;，、,：:\n—～]+[\"'”’」』）)】》\]]*[^\S\n]*\n?")
_WIDE = re.compile(r"[\d⺀-鿿가-힣豈-﫿０-９𠀀-𯨟]")
_SPOKEN = re.compile(r"\w")
_SOFT_BREAK = re.compile(r"\s+|(?<=[⺀-鿿豈-﫿])(?=[⺀-鿿豈-﫿A-Za-z])")
_TITLES = frozenset(
    (
        *("mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "gen", "col", "capt", "lt", "sgt", "rev", "hon"),
        *("no", "nos", "vs", "fig", "vol", "pp", "dept", "ave", "blvd", "inc", "ltd", "corp", "approx"),
    )
)
_DOTTED = re.compile(r"(?:^|[^A-Za-z])(?:[A-Za-z]\.){0,8}[A-Za-z]$")  # "U.S", "a.m", "J"
_LAST_WORD = re.compile(r"[A-Za-z]{1,8}$")


@dataclass(frozen=True)
class _Atom:
    text: str
    cost: int
    ends_sentence: bool
    ends_paragraph: bool


def split_clauses(text: str, max_characters: int = 120) -> list[str]:
    """Pieces of `text` in order, each worth at most `max_characters` Latin letters (wide characters count twice).

    Every letter and digit of `text` is in exactly one piece; blanks around a piece are stripped; pieces without
    anything to speak are joined to a neighbour, and text without speech gives []. Numbers (3.14, 10,000, 12:30), URLs
    and abbreviations are cut only where one of them alone is longer than the limit.
    """
    max_characters = max(16, max_characters)
    clauses: list[str] = []
    held: list[_Atom] = []
    cost = 0
    for atom in _atoms(text, max_characters):
        limit = _limit(len(clauses), max_characters)
        allowed = limit if cost >= min(_LEAST, limit) else max_characters
        if held and cost + atom.cost > allowed:
            clauses.append("".join(a.text for a in held))
            held, cost = [], 0
        held.append(atom)
        cost += atom.cost
        if _is_complete(atom, cost, is_first=not clauses):
            clauses.append("".join(a.text for a in held))
            held, cost = [], 0
    clauses.append("".join(a.text for a in held))
    return _join_silent([clause.strip() for clause in clauses])


def _limit(index: int, most: int) -> int:
    if index == 0:
        return int(most * _FIRST_SHARE)
    return int(most * _SECOND_SHARE) if index == 1 else most


def _is_complete(atom: _Atom, cost: int, *, is_first: bool) -> bool:
    if atom.ends_paragraph:
        return cost > 0
    if is_first:
        return cost >= _LEAST
    return atom.ends_sentence and cost >= _SENTENCE_LEAST


def spoken_cost(text: str) -> int:
    """How much there is to speak, in Latin letters; ideographs, kana and digits count twice."""
    return len(_SPOKEN.findall(text)) + (_WIDE_COST - 1) * len(_WIDE.findall(text))


def find_boundaries(text: str) -> Iterator[re.Match[str]]:
    """The marks (with closing quotes and blanks after them) at whose end a clause of `text` may end."""
    return (mark for mark in _MARKS.finditer(text) if _is_boundary(text, mark.start(), mark.end()))


def ends_sentence(mark: str) -> bool:
    """Whether a boundary ends a sentence, and not only a clause."""
    return any(character in _STRONG for character in mark)


def _atoms(text: str, most: int) -> list[_Atom]:
    """The text between two places where a clause may end, and no atom costlier than `most`."""
    atoms: list[_Atom] = []
    start = 0
    for mark in find_boundaries(text):
        atoms += _atoms_within(text[start : mark.end()], mark.group(), most)
        start = mark.end()
    if start < len(text):
        atoms += _atoms_within(text[start:], "", most)
    return atoms


def _atoms_within(piece: str, mark: str, most: int) -> list[_Atom]:
    parts = [piece] if spoken_cost(piece) <= most else _cut_long(piece, most)
    last = len(parts) - 1
    is_strong = ends_sentence(mark)
    return [_Atom(p, spoken_cost(p), is_strong and i == last, "\n" in mark and i == last) for i, p in enumerate(parts)]


def _is_boundary(text: str, start: int, end: int) -> bool:
    before = text[start - 1] if start else ""
    after = text[end] if end < len(text) else ""
    first = text[start]
    if not first.isascii():
        return not (first in "：，" and before.isdigit() and after.isdigit())
    if first == "\n" or not after:
        return True
    if _is_plain(before) and _is_plain(after) and not text[start:end][-1].isspace():
        return False  # 3.14, 10,000, 12:30, example.com/a?b=c
    if first == ":" and text.startswith("//", end):
        return False
    return not (text[start:end].rstrip() == "." and _is_abbreviation(text[max(0, start - 24) : start], after))


def _is_plain(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character in "/_-&%")


def _is_abbreviation(before: str, after: str) -> bool:
    word = _LAST_WORD.search(before)
    if word and word.group().lower() in _TITLES:
        return True
    dotted = _DOTTED.search(before)
    if not dotted or not after.isascii():
        return False
    return not (dotted.group().islower() and after.isupper())  # "at 5 p.m. Then" ends a sentence, "the U.S. Army" not


def _cut_long(piece: str, most: int) -> list[str]:
    """Cut where no punctuation helps: at blanks, between ideographs, and in the last resort anywhere."""
    stops = {match.end() for match in _SOFT_BREAK.finditer(piece)}
    parts: list[str] = []
    start = stop = cost = 0
    for index, character in enumerate(piece):
        if index in stops:
            stop = index
        cost += spoken_cost(character)
        if cost > most:
            cut = stop if stop > start else index
            parts.append(piece[start:cut])
            start, cost = cut, spoken_cost(piece[cut : index + 1])
    return [*parts, piece[start:]]


def _join_silent(clauses: list[str]) -> list[str]:
    """Give punctuation-only pieces to the clause before (or after, at the start)."""
    joined: list[str] = []
    lead = ""
    for clause in clauses:
        if not has_speech(clause):
            if joined:
                joined[-1] += clause
            else:
                lead += clause
        else:
            joined.append(lead + clause)
            lead = ""
    return joined
