"""Digits -> Chinese words the way GPT-SoVITS' training texts were read (other choices than `numbers`: 两 only before
measures, trailing zeros of decimals cut, no end to the length of a cardinal).
"""

from __future__ import annotations

_DIGITS = "零一二三四五六七八九"
_PLACES = ((8, "亿"), (4, "万"), (3, "千"), (2, "百"), (1, "十"))


def read_each(digits: str, *, one: str = "一") -> str:
    """Digit by digit; `one` "幺" for identifiers and telephone numbers."""
    return "".join(one if digit == "1" else _DIGITS[int(digit)] for digit in digits)


def read_cardinal(digits: str) -> str:
    """ "10500" -> 一万零五百, "000" -> 零, "" -> ""."""
    significant = digits.lstrip("0")
    if not significant:
        return "零" if digits else ""
    words = _read_places(significant)
    return words.removeprefix("一") if words.startswith("一十") else words


def read_decimal(number: str) -> str:
    """ "3.20" -> 三点二零, "5.00" -> 五点零, ".22" -> 零点二二: of the zeros at the end at most one is read."""
    whole, _, fraction = number.partition(".")
    kept = fraction.rstrip("0") + ("0" if fraction.endswith("0") else "")
    words = read_cardinal(whole)
    return f"{words or '零'}点{read_each(kept)}" if kept else words


def _read_places(digits: str) -> str:
    """Cardinal of digits that may start with zeros: one 零 for any number of them before a single last digit."""
    significant = digits.lstrip("0")
    if not significant:
        return ""
    if len(significant) == 1:
        return ("零" if len(significant) < len(digits) else "") + _DIGITS[int(significant)]
    power, name = next((power, name) for power, name in _PLACES if power < len(significant))
    return _read_places(digits[:-power]) + name + _read_places(digits[-power:])
