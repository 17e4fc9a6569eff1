"""Numbers and signs as GPT-SoVITS reads them in English: its voices were trained on exactly these words.

The oddities are part of that ("12/31/2023" comes out mangled, "BA7531" loses the space before its number) and are kept,
because a better text would give other phones than the original. What differs on purpose is in docs/frontends.md.
Pure; every pattern is bounded by its characters.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NamedTuple, Protocol


class NumberWords(Protocol):
    """What is used of `inflect.engine()`."""

    def number_to_words(self, num: Any, *, andword: str = "and", zero: str = "zero", group: int = 0) -> Any: ...

    def ordinal(self, num: Any) -> str: ...


class Unit(NamedTuple):
    one: str
    many: str


_UNITS = {
    "m": Unit("meter", "meters"),
    "km/h": Unit("kilometer per hour", "kilometers per hour"),
    "km": Unit("kilometer", "kilometers"),
    "ft": Unit("feet", "feet"),
    "L": Unit("liter", "liters"),
    "tbsp": Unit("tablespoon", "tablespoons"),
    "tsp": Unit("teaspoon", "teaspoons"),
    "h": Unit("hour", "hours"),
    "min": Unit("minute", "minutes"),
    "s": Unit("second", "seconds"),
    "°C": Unit("degree celsius", "degrees celsius"),
    "°F": Unit("degree fahrenheit", "degrees fahrenheit"),
}
_POUNDS = (Unit("pound", "pounds"), Unit("penny", "pence"))
_DOLLARS = (Unit("dollar", "dollars"), Unit("cent", "cents"))
_OPERATORS = {"+": "plus", "-": "minus", "×": "times", "÷": "divided by", "=": "Equals"}

_STOPS = str.maketrans({"。": ".", "！": "!", "？": "?"})
_LIST_NUMBER = re.compile(r"\b(\d{1,2})\. ")
_OPERATOR = re.compile(r"\s([+×÷=])\s")
_MINUS = re.compile(r"(?<=\w)\s-\s(?=\d)|(?<=\b[A-Za-z])\s-\s(?=[A-Za-z]\b)")
_NEGATIVE = re.compile(r"(?:^|\s+)-(?=\d)")
_ENDLESS = re.compile(r"\d{16,}")  # no words for such numbers: digit by digit
_COMMAS = re.compile(r"\d[\d,]+\d")
_TIME = re.compile(r"\b([01]?\d|2[0-3]):([0-5]\d)\b")
_MEASURE = re.compile(r"\b(\d+(?:\.\d+)?)(" + "|".join(map(re.escape, _UNITS)) + r")\b")
_MONEY = (
    (re.compile(r"£([\d.,]*\d+)|([\d.,]*\d+)£"), _POUNDS),
    (re.compile(r"\$([\d.,]*\d+)|([\d.,]*\d+)\$"), _DOLLARS),
)
_DECIMAL = re.compile(r"(\d+)\.\s*(\d+)")
_FRACTION = re.compile(r"(\d+)/(\d+)")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
_NUMBER = re.compile(r"\d+")
_UNSPOKEN = re.compile(r"[^ A-Za-z'.,?!\-]")
_CAPITAL = re.compile(r"(?<!^)(?<!\s)([A-Z])")
_MARKS = re.compile(r"([,.!?…-])[,.!?…-]+")


def normalise(text: str, words: NumberWords) -> str:
    """ASCII letters, apostrophes, blanks and `. , ? ! -` only; acronyms fall apart into letters ("NASA" -> N A S A)."""
    text = _read_signs(text.translate(_STOPS), words)
    text = _read_numbers(text, words)
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    text = _UNSPOKEN.sub("", text.replace("%", " percent"))
    text = re.sub(r"(?i)i\.e\.", "that is", text)
    text = re.sub(r"(?i)e\.g\.", "for example", text)
    return _MARKS.sub(r"\1", _CAPITAL.sub(r" \1", text))


def _read_signs(text: str, words: NumberWords) -> str:
    text = _LIST_NUMBER.sub(lambda m: f"{_read_ordinal(m[1], words)}, ", text)
    text = _OPERATOR.sub(lambda m: f" {_OPERATORS[m[1]]} ", text)
    text = _MINUS.sub(f" {_OPERATORS['-']} ", text)
    return _NEGATIVE.sub("negative ", text)


def _read_numbers(text: str, words: NumberWords) -> str:
    text = _COMMAS.sub(lambda m: m[0].replace(",", ""), text)
    text = _ENDLESS.sub(lambda m: " ".join(m[0]), text)
    text = _TIME.sub(lambda m: _read_time(int(m[1]), int(m[2]), words), text)
    text = _MEASURE.sub(_read_measure, text)
    for pattern, coins in _MONEY:
        text = pattern.sub(lambda m, coins=coins: _read_money(m[1] or m[2], coins), text)  # type: ignore[misc]
    text = _DECIMAL.sub(lambda m: f"{m[1]} point {' '.join(m[2])}", text)
    text = _FRACTION.sub(lambda m: _read_fraction(int(m[1]), int(m[2]), words), text)
    text = _ORDINAL.sub(lambda m: _read_ordinal(m[1], words), text)
    return _NUMBER.sub(lambda m: _read_number(m[0], words), text)


def _read_ordinal(digits: str, words: NumberWords) -> str:
    return str(words.number_to_words(words.ordinal(int(digits))))


def _read_time(hour: int, minute: int, words: NumberWords) -> str:
    half = "a.m." if hour < 12 else "p.m."
    spoken = words.number_to_words(hour - 12 if hour > 12 else hour)
    return f"{spoken} {words.number_to_words(minute)} {half}" if minute else f"{spoken} o'clock {half}"


def _read_measure(match: re.Match[str]) -> str:
    unit = _UNITS[match[2]]
    return f"{match[1]} {unit.one if match[1] == '1' else unit.many}"


def _read_money(amount: str, coins: tuple[Unit, Unit]) -> str:
    """Whole coins and hundredths; "3.5" has fifty of them, and more than two digits are not cut ("0.344")."""
    whole, _, part = amount.replace(",", "").partition(".")
    if "." in part:
        return f"{amount} {coins[0].many}"
    counts = (int(whole or 0), int(part.ljust(2, "0")))
    spoken = [
        f"{count} {coin.one if count == 1 else coin.many}" for count, coin in zip(counts, coins, strict=True) if count
    ]
    return " and ".join(spoken) or f"zero {coins[0].many}"


def _read_fraction(top: int, bottom: int, words: NumberWords) -> str:
    if bottom == 2:
        part = "half" if top == 1 else "halves"
    else:
        part = words.ordinal(words.number_to_words(bottom)) + ("s" if top > 1 else "")
    return f"{words.number_to_words(top)} {part}"


def _read_number(digits: str, words: NumberWords) -> str:
    """1001..2999 like years, except 2000..2009 and full hundreds."""
    number = int(digits)
    if not 1000 < number < 3000:
        return str(words.number_to_words(number, andword=""))
    if number == 2000:
        return "two thousand"
    if 2000 < number < 2010:
        return f"two thousand {words.number_to_words(number % 100)}"
    if number % 100 == 0:
        return f"{words.number_to_words(number // 100)} hundred"
    return str(words.number_to_words(number, andword="", zero="oh", group=2)).replace(", ", " ")
