"""Request language codes of GPT-SoVITS -> runs of text, one language each.

| code | meaning |
|---|---|
| zh ja ko yue | that language with English in it |
| en | all of it English |
| all_zh all_ja all_ko all_yue | the same, by a stricter cut: only Latin words are English |
| auto, auto_yue | found out; with auto_yue Chinese is read as Cantonese |
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from appliance.errors import InvalidInput
from appliance.text.detection import DIGITS, MARKS, UNKNOWN, LanguageDetector, Piece

CODES = ("auto", "auto_yue", "en", "zh", "ja", "ko", "yue", "all_zh", "all_ja", "all_ko", "all_yue")

_ENGLISH = re.compile("(?=.*[A-Za-z])[A-Za-z0-9\\s\u0020-\u007e\u2000-\u206f\u3000-\u303f\uff00-\uffef]+", re.DOTALL)
_BETWEEN = "[0-9、-〜。！？.!?… ]"  # a range from 、 to 〜: all brackets and marks of that block
_KANA = "[\u3041-\u3096\u3099\u309a\u30a1-\u30fa\u30fc]"
_HANGUL = "[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]"
_FOREIGN = {
    language: re.compile(f"{letters}+(?:{_BETWEEN}+{letters}*)*")
    for language, letters in (("ja", _KANA), ("ko", _HANGUL))
}
_NOT_CHINESE = re.compile(
    "[^0-9、-〜。！？.!?… \u4e00-\u9fff\u3400-\u4db5\U00020000-\U0002a6dd\U0002a700-\U0002ebef"
    "\U00030000-\U000323af\U0002ebf0-\U0002ee5d]+"
)
_SENTENCE_MARKS = frozenset(",.!?，。！？")
_BLANKS = re.compile(" {2,}")

_DETECTOR = LanguageDetector()


def language_of_code(code: str) -> str:
    """The language that a request code is about: "zh" of "all_zh", "yue" of "auto_yue"; "auto" for none."""
    return code.removeprefix("all_").removeprefix("auto_")


def split_request(text: str, code: str, *, detector: LanguageDetector = _DETECTOR) -> list[Piece]:
    """Runs of (language, text) in order. Raises InvalidInput("language_code_unknown") for another code."""
    if code not in CODES:
        raise InvalidInput("language_code_unknown", language=code, known=", ".join(CODES))
    text = _BLANKS.sub(" ", text)
    if not text.strip():
        return []
    if code == "en":
        return [Piece("en", text)]
    asked = language_of_code(code)
    if code in ("auto", "auto_yue") or code.startswith("all_"):
        default = {"auto": "", "yue": "" if code == "auto_yue" else "zh"}.get(asked, asked)
        pieces = [
            Piece("zh" if p.language == MARKS else p.language, p.text) for p in find_segments(text, default, detector)
        ]
        return [Piece("yue", p.text) if asked == "yue" and p.language == "zh" else p for p in pieces]
    return _join(Piece(p.language if p.language == "en" else code, p.text) for p in find_segments(text, "", detector))


def find_segments(text: str, default: str = "", detector: LanguageDetector = _DETECTOR) -> list[Piece]:
    """Runs by detection; with a `default` language everything but Latin words is that."""
    found: list[Piece] = []
    for piece in detector.detect(text):
        if piece.language == DIGITS:
            found.append(Piece(default or DIGITS, piece.text))
        elif _ENGLISH.fullmatch(piece.text):
            found.append(Piece("en", piece.text))
        elif default:
            found.append(Piece(default, piece.text))
        else:
            found += _split_foreign(piece)
    return _join(_settle_unknown(_join(_settle_digits(_join(found)))))


def _join(pieces: Iterable[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].language == piece.language:
            joined[-1] = Piece(piece.language, joined[-1].text + piece.text)
        else:
            joined.append(piece)
    return joined


def _split_foreign(piece: Piece) -> list[Piece]:
    """Kana in what is not Japanese and Hangul in what is not Korean stand alone."""
    parts = [piece]
    for language, pattern in _FOREIGN.items():
        parts = [found for part in parts for found in _split_runs(part, language, pattern)]
    return [_keep_ideographs(part) if part.language == UNKNOWN else part for part in parts]


def _split_runs(piece: Piece, language: str, pattern: re.Pattern[str]) -> list[Piece]:
    if piece.language == language:
        return [piece]
    parts: list[Piece] = []
    end = 0
    for run in pattern.finditer(piece.text):
        parts += [Piece(piece.language, piece.text[end : run.start()])] if run.start() > end else []
        parts.append(Piece(language, run.group()))
        end = run.end()
    return [*parts, Piece(piece.language, piece.text[end:])] if end < len(piece.text) else parts


def _keep_ideographs(piece: Piece) -> Piece:
    kept = _NOT_CHINESE.sub("", piece.text)
    return Piece("zh", kept) if kept else piece


def _settle_digits(pieces: list[Piece]) -> list[Piece]:
    settled: list[Piece] = []
    for index, piece in enumerate(pieces):
        language = piece.language
        if language == DIGITS:
            before = settled[-1] if settled else None
            after = pieces[index + 1] if index + 1 < len(pieces) else None
            language = _digits_language(before, piece, after)
        settled = _join([*settled, Piece(language, piece.text)])
    return settled


def _digits_language(before: Piece | None, digits: Piece, after: Piece | None) -> str:
    if before is None or after is None:
        near = before or after
        return near.language if near is not None else "zh"
    if before.text[-1] in _SENTENCE_MARKS:
        return after.language
    if after.text[0] in _SENTENCE_MARKS or digits.text[-1] in "。.":
        return before.language
    return before.language if len(before.text) >= len(after.text) else after.language


def _settle_unknown(pieces: list[Piece]) -> list[Piece]:
    settled: list[Piece] = []
    for piece in pieces:
        language = piece.language
        if language == UNKNOWN:
            language = settled[-1].language if settled else pieces[1].language if len(pieces) > 1 else "zh"
        settled = _join([*settled, Piece(language, piece.text)])
    return settled
