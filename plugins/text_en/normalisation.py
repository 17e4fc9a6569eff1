"""What hibari's own normalisation does not read: addresses, telephone and version numbers, identifiers, wide signs.

Ordinary numbers, dates, times, money, units and abbreviations are hibari's. Pure; every pattern is bounded.
"""

from __future__ import annotations

import re
import unicodedata

_LONGEST_WORD = 60  # hibari's work grows with the cube of a word's parts

_WIDE_MARKS = str.maketrans(
    {
        "，": ", ", "。": ". ", "、": ", ", "；": "; ", "：": ": ", "？": "? ", "！": "! ", "（": " (", "）": ") ",
        "《": " “", "》": "” ", "「": " “", "」": "” ", "『": " “", "』": "” ", "【": " (", "】": ") ", "～": " — ",
        "[": "(", "]": ")", "{": "(", "}": ")", "`": "'", "´": "'", "–": "-", "−": "-", "•": ", ", "·": " ", "|": " ",
    }
)  # fmt: skip
_ADDRESS_SIGNS = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "?": "question mark", "=": "equals",
    "&": "and", ":": "colon", "@": "at", "#": "hash", "%": "percent", "+": "plus", "~": "tilde",
}  # fmt: skip
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_RATES = {"h": "hour", "hr": "hour", "s": "second", "min": "minute", "day": "day", "mo": "month", "month": "month"}

_TOP_LEVEL = "com|org|net|edu|gov|io|cn|jp|de|fr|uk|us|eu|dev|app|ai|tv|info|biz|local|lan|co|me|cc|xyz|hk|tw|sg|ca|au"
_URL = re.compile(
    rf"(?<![\w@.])(?:https?://|ftp://)?((?:[A-Za-z0-9_-]{{1,63}}\.){{1,6}}(?:{_TOP_LEVEL})(?::\d{{1,5}})?(?:[/?#][^\s,;!，。；！<>\"“”（）()]{{0,200}})?)(?![\w@])"
    r"|https?://([^\s,;!，。；！<>\"“”（）()]{1,200})"
)
_EMAIL = re.compile(r"(?<![\w.+-])([\w.+-]{1,64})@((?:[\w-]{1,63}\.){1,6}[A-Za-z]{2,24})\b")
_TELEPHONE = re.compile(
    r"(?<![\w.])(\+\d{1,3}[\s-]?)?(\(\d{2,4}\)|\d{2,4})[\s.-](\d{3,4})[\s.-](\d{3,4})(?![\w-])|(?<![\w.])\+(\d{7,15})(?!\w)"
)
_VERSION = re.compile(r"(?<![\w.])([vV]?)(\d{1,6}(?:\.\d{1,6}){2,5})(?![\w])")
_LONG_DIGITS = re.compile(r"(?<![\d,.])\d{10,}(?![\d,]|\.\d)")
_BY = re.compile(r"(?<=\d)\s?[x×]\s?(?=\d)")
_PER = re.compile(rf"(?<=[A-Za-z0-9])/({'|'.join(sorted(_RATES, key=len, reverse=True))})(?![\w/])")
_METRES_PER = re.compile(r"(?<=\d)\s?m/s(?!\w)")
_SHARP = re.compile(r"(?<![\w#])([A-G])#(?!\w)")
_HASHTAG = re.compile(r"(?<![\w#])#(?=[A-Za-z])")
_SHARE_RANGE = re.compile(r"(?<![\w.-])(\d{1,3}(?:\.\d{1,4})?)\s?%?\s?[-~]\s?(?=\d{1,3}(?:\.\d{1,4})?\s?%)")
_CHAIN = re.compile(r"((?:[^\W_]{1,60}[^\w\s]){6})(?=[^\W_])")
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD}}}(?=\S)")
_REPEATED = re.compile(r"([^\w\s])\1{2,}")
_LETTER_WORD = re.compile(r"[^\W\d_]+|\d+|.")


def normalise(text: str) -> str:
    """Text that hibari reads well: no addresses, no brackets that it takes for its own markup, no endless words."""
    text = unicodedata.normalize("NFKC", text.translate(_WIDE_MARKS).replace("…", "\x00")).replace("\x00", "…")
    text = "".join(c if _is_readable(c) else " " for c in text)
    text = _REPEATED.sub(lambda m: "…" if m[1] == "." else m[1], text)
    text = _EMAIL.sub(lambda m: f"{_read_address(m[1])} at {_read_address(m[2])}", text)
    text = _URL.sub(lambda m: _read_address(m[1] or m[2]), text)
    text = _TELEPHONE.sub(_read_telephone, text)
    text = _VERSION.sub(lambda m: ("version " if m[1] else "") + m[2].replace(".", " point "), text)
    text = _LONG_DIGITS.sub(lambda m: _read_digits(m.group()), text)
    text = _SHARP.sub(r"\1 sharp", _METRES_PER.sub(" meters per second", text))
    text = _SHARE_RANGE.sub(r"\1 to ", _HASHTAG.sub("hashtag ", text).replace("hashtag hashtag", "hashtag"))
    text = _PER.sub(lambda m: f" per {_RATES[m[1]]}", _BY.sub(" by ", text))
    text = _CHAIN.sub(r"\1 ", text)
    text = _LONG_WORD.sub(lambda m: m.group() + " ", text)
    return re.sub(r" (?=[,.;:?!)])", "", re.sub(r"\s+", " ", text)).strip()


def _is_readable(character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    return character in "“”‘’—…°£€¥¢" or unicodedata.name(character, "").startswith("LATIN")


def _read_digits(digits: str) -> str:
    """Digit by digit, with a breath after each four."""
    words = [_DIGITS[int(digit)] for digit in digits]
    return ", ".join(" ".join(words[i : i + 4]) for i in range(0, len(words), 4))


def _read_telephone(match: re.Match[str]) -> str:
    groups = [re.sub(r"\D", "", group) for group in match.groups() if group]
    plus = "plus " if match.group().startswith("+") else ""
    return plus + ", ".join(" ".join(_DIGITS[int(d)] for d in group) for group in groups)


def _read_address(address: str) -> str:
    tail = address[-1] if address[-1:] in ".?:" else ""  # the sentence's own mark
    parts = _LETTER_WORD.findall(address[: -1 if tail else None].rstrip("/"))
    return " ".join(_read_part(part) for part in parts) + tail


def _read_part(part: str) -> str:
    if part in _ADDRESS_SIGNS:
        return _ADDRESS_SIGNS[part]
    if part.isdigit() and len(part) > 4:
        return _read_digits(part).replace(",", "")
    is_word = len(part) > 1 and re.search("[aeiouyAEIOUY]", part)
    return part if is_word or part.isdigit() else " ".join(f"{letter.upper()}." for letter in part)
