"""Text -> pieces for one synthesis step each, by the cut methods that GPT-SoVITS users know (cut0 .. cut5).

`clauses.split_clauses` is our own, for short waits. These are for requests that name a method, and give the pieces that
their users are used to, slips included: a piece is what one run of the model sees, so other borders would be other
speech.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from appliance.errors import InvalidInput

SPLITTERS = frozenset("，。？！,.?!~:：—…")
DEFAULT_METHOD = "cut5"

_SILENT = frozenset("!?…,.- ")
_CLAUSE_MARKS = frozenset(",.;?!、，。？！；：…")
_REPEATED = re.compile(r"([!?…,.\-])[!?…,.\-]+")
_WORD = re.compile(r"\w")
_SHORTEST_PIECE = 5  # characters; shorter ones join a neighbour
_SHORTEST_OPENING = 4  # a first clause below this is swallowed unless a pause comes before it
_LONGEST_PIECE = 510
_CLAUSES_PER_GROUP = 4
_LONG_GROUP = 50  # characters of a piece of cut2


def prepare_pieces(text: str, language: str, method: str = DEFAULT_METHOD, *, is_reduced: bool = True) -> list[str]:
    """Pieces of `text` in order, each ending in a mark; [] where nothing can be spoken.

    `language` is a request code ("en" gets ASCII full stops). With `is_reduced` repeated ASCII marks become one first.
    Raises InvalidInput("cut_method_unknown").
    """
    if method not in METHODS:
        raise InvalidInput("cut_method_unknown", method=method, known=", ".join(METHODS))
    stop = "." if language == "en" else "。"
    text = (reduce_marks(text) if is_reduced else text).strip("\n")
    if not text:
        return []
    if text[0] not in SPLITTERS and len(_first_clause(text)) < _SHORTEST_OPENING:
        text = stop + text
    lines = [line for line in METHODS[method](text).split("\n") if line not in ("", " ")]
    pieces: list[str] = []
    for line in _join_short(lines):
        if _WORD.search(line):
            closed = line if line[-1] in SPLITTERS else line + stop
            pieces += [closed] if len(closed) <= _LONGEST_PIECE else _cut_long(closed)
    return pieces


def reduce_marks(text: str) -> str:
    """A run of the marks `! ? … , . -` becomes its first mark."""
    return _REPEATED.sub(r"\1", text)


def cut_nothing(text: str) -> str:
    """cut0: the text as it is."""
    return "\n" if set(text) <= _SILENT else text


def cut_four_clauses(text: str) -> str:
    """cut1: groups of four clauses; what is left over belongs to the last group."""
    text = text.strip("\n")
    clauses = _split_clauses(text)
    starts = list(range(0, len(clauses), _CLAUSES_PER_GROUP))
    if len(starts) < 2:
        return _join_spoken([text])
    ends = [*starts[1:-1], len(clauses)]
    return _join_spoken("".join(clauses[start:end]) for start, end in zip(starts, ends, strict=False))


def cut_fifty_characters(text: str) -> str:
    """cut2: clauses until there are more than fifty characters; a shorter last piece joins the one before."""
    text = text.strip("\n")
    clauses = _split_clauses(text)
    if len(clauses) < 2:
        return text
    pieces, held = [], ""
    for clause in clauses:
        held += clause
        if len(held) > _LONG_GROUP:
            pieces.append(held)
            held = ""
    if held:
        pieces.append(held)
    if len(pieces) > 1 and len(pieces[-1]) < _LONG_GROUP:
        pieces[-2:] = ["".join(pieces[-2:])]
    return _join_spoken(pieces)


def cut_chinese_stops(text: str) -> str:
    """cut3: at every 。, which goes."""
    return _join_spoken(text.strip("\n").strip("。").split("。"))


def cut_english_stops(text: str) -> str:
    """cut4: at every full stop that touches no digit; the stop goes."""
    return _join_spoken(re.split(r"(?<!\d)\.(?!\d)", text.strip("\n").strip(".")))


def cut_marks(text: str) -> str:
    """cut5: after every clause mark but a full stop between digits."""
    text = text.strip("\n")
    pieces, start = [], 0
    for index, character in enumerate(text):
        is_decimal = character == "." and text[index - 1 : index].isdigit() and text[index + 1 : index + 2].isdigit()
        if character in _CUT5_MARKS and not is_decimal:
            pieces.append(text[start : index + 1])
            start = index + 1
    pieces.append(text[start:])
    return "\n".join(piece for piece in pieces if not set(piece) <= _CUT5_MARKS)


_CUT5_MARKS = _CLAUSE_MARKS - {"；"}

METHODS: dict[str, Callable[[str], str]] = {
    "cut0": cut_nothing,
    "cut1": cut_four_clauses,
    "cut2": cut_fifty_characters,
    "cut3": cut_chinese_stops,
    "cut4": cut_english_stops,
    "cut5": cut_marks,
}


def _split_clauses(text: str) -> list[str]:
    """After every splitter, decimal points included; ellipses and dashes become full stops and commas."""
    text = text.replace("……", "。").replace("——", "，")
    text = text if text[-1:] in SPLITTERS else text + "。"
    return re.findall(_CLAUSE, text)


_SPLITTER_CLASS = f"[{re.escape(''.join(sorted(SPLITTERS)))}]"
_CLAUSE = re.compile(rf"(?s:.)*?{_SPLITTER_CLASS}")


def _first_clause(text: str) -> str:
    return re.split(_SPLITTER_CLASS, text, maxsplit=1)[0].strip()


def _join_spoken(pieces: Iterable[str]) -> str:
    return "\n".join(piece for piece in pieces if not set(piece) <= _SILENT)


def _join_short(lines: list[str]) -> list[str]:
    """Neighbours together until each piece has five characters; a short tail joins the piece before it."""
    joined: list[str] = []
    held = ""
    for line in lines:
        held += line
        if len(held) >= _SHORTEST_PIECE:
            joined.append(held)
            held = ""
    if held and joined:
        joined[-1] += held
    elif held:
        joined.append(held)
    return joined


def _cut_long(text: str) -> list[str]:
    """After clause marks, and where there is none in time, simply at the limit."""
    pieces, held = [], ""
    for clause in re.findall(_CLAUSE, text):  # the text ends in a mark
        if len(held) + len(clause) > _LONGEST_PIECE and held:
            pieces.append(held)
            held = ""
        held += clause
        while len(held) > _LONGEST_PIECE:
            pieces.append(held[:_LONGEST_PIECE])
            held = held[_LONGEST_PIECE:]
    return [piece for piece in (*pieces, held) if _WORD.search(piece)]
