"""Digits -> Chinese number words. Pure; no limit on the length of what comes in."""

from __future__ import annotations

_DIGITS = "零一二三四五六七八九"
_PLACES = ("", "十", "百", "千")
_GROUPS = ("", "万", "亿", "兆")
_MOST_DIGITS = 16  # longer is an identifier, not an amount


def read_digits(digits: str, *, one: str = "一") -> str:
    """Digit by digit; `one` "幺" for telephone, room and train numbers. Other characters are left out."""
    return "".join(one if d == "1" else _DIGITS[int(d)] for d in digits if d.isdecimal())


def read_integer(digits: str) -> str:
    """A cardinal: "10500" -> 一万零五百. Leading zeros or more than 16 digits are read digit by digit."""
    if len(digits) > _MOST_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return read_digits(digits)
    if not int(digits):
        return "零"
    words = ""
    owes_zero = False
    for power, group in _groups(digits):
        value = int(group)
        if value:
            words += "零" if words and (owes_zero or value < 1000) else ""
            words += ("两" if value == 2 and power else _read_group(value)) + _GROUPS[power]
        owes_zero = not value
    return words.removeprefix("一") if words.startswith("一十") else words


def read_number(number: str) -> str:
    """A cardinal with an optional sign, thousands commas and decimals: "-1,234.50" -> 负一千二百三十四点五零."""
    sign = "负" if number.startswith("-") else ""
    whole, _, fraction = number.lstrip("+-").replace(",", "").partition(".")
    words = sign + read_integer(whole or "0")
    return f"{words}点{read_digits(fraction)}" if fraction else words


def _groups(digits: str) -> list[tuple[int, str]]:
    padded = digits.zfill(-(-len(digits) // 4) * 4)
    groups = [padded[i : i + 4] for i in range(0, len(padded), 4)]
    return [(len(groups) - 1 - i, group) for i, group in enumerate(groups)]


def _read_group(value: int) -> str:
    words = ""
    owes_zero = False
    for place in (3, 2, 1, 0):
        digit = value // 10**place % 10
        if digit:
            name = "两" if digit == 2 and place == 3 else _DIGITS[digit]
            words += ("零" if owes_zero else "") + name + _PLACES[place]
            owes_zero = False
        elif words:
            owes_zero = True
    return words
