"""Digits in what a recogniser heard, however it wrote them; English and Chinese."""

from __future__ import annotations

import re
import unicodedata

WORDS = {
    **{"zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"},
    **{"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"},
}
CHARACTERS = dict(zip("零〇一二三四五六七八九幺", "001234567891", strict=True))
_TOKEN = re.compile(rf"[0-9]|[{''.join(CHARACTERS)}]|{'|'.join(WORDS)}")


def digits_in(text: str) -> str:
    """All digits of a text in order: "7 3, nine 二" -> "7392"."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return "".join(WORDS.get(token) or CHARACTERS.get(token) or token for token in _TOKEN.findall(plain))


def says_digits(text: str, expected: str, mistakes: int = 1) -> bool:
    """Whether `expected` is among the digits of `text`, with at most so many misheard, lost or added."""
    heard = digits_in(text)
    row = [0] * (len(heard) + 1)  # edit distance to whatever part of `heard` is nearest (Sellers 1980)
    for index, digit in enumerate(expected, 1):
        above, row = row, [index]
        for column, other in enumerate(heard, 1):
            row.append(min(above[column - 1] + (digit != other), above[column] + 1, row[-1] + 1))
    return min(row) <= mistakes
