"""How much a recogniser misheard: error rates of words, characters and pinyin after both texts are brought to one form.

Error rate = (substitutions + deletions + insertions) / length of the reference; it can exceed 1.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

ENGLISH_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ENGLISH_TEENS = (
    *("ten", "eleven", "twelve", "thirteen", "fourteen"),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
ENGLISH_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ENGLISH_SCALES = ((10**9, "billion"), (10**6, "million"), (1_000, "thousand"))
CHINESE_DIGITS = "零一二三四五六七八九"
CHINESE_UNITS = ("", "十", "百", "千")
CHINESE_SCALES = ("", "万", "亿", "万亿")
MAX_SPOKEN_DIGITS = 12  # longer numbers are read digit by digit

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
TOKEN = re.compile(rf"[{HAN}]|[^\W\d_{HAN}]+(?:'[^\W\d_{HAN}]+)*")
SAME_NUMERALS = str.maketrans("两〇", "二零")
YEAR = re.compile(r"(?<!\d)\d{4}(?=\s?年)")
HUNDRED_AND = re.compile(r"\b(hundred|thousand|million) and\b")
DOLLARS = re.compile(r"\$(\d[\d,]*(?:\.\d+)?)")
NUMBER = re.compile(r"\d+(?:[,，]\d{3})*(?:\.\d+)?%?")


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Words for alphabetic text, characters for Chinese; case, punctuation and number spelling do not count."""
    return _rate(*_both(reference, hypothesis))


def character_error_rate(reference: str, hypothesis: str) -> float:
    """Characters of the normalised words, without the spaces between them."""
    spoken, heard = _both(reference, hypothesis)
    return _rate("".join(spoken), "".join(heard))


def pinyin_error_rate(reference: str, hypothesis: str, tones: bool) -> float:
    """Syllables as pinyin (with their tone or without), so that homophones count as heard right; other words as words.

    Needs pypinyin (extra "embedded").
    """
    spoken, heard = _both(reference, hypothesis)
    return _rate(_syllables(spoken, tones), _syllables(heard, tones))


def spoken_units(said: str, heard: str) -> tuple[list[str], list[str]]:
    """Both as words and toneless Chinese syllables (characters where pypinyin is not installed)."""
    both = _both(said, heard)
    if importlib.util.find_spec("pypinyin") is None:
        return both
    return _syllables(both[0], tones=False), _syllables(both[1], tones=False)


def misheard_share(said: str, heard: str, language: str) -> float:
    """What a recogniser misheard: share of words in English ("en"), of toneless syllables in what has Chinese in it.

    Homophones count as right in Chinese; without pypinyin characters are compared instead.
    """
    if language == "en" or importlib.util.find_spec("pypinyin") is None:
        return word_error_rate(said, heard)
    return pinyin_error_rate(said, heard, tones=False)


def _both(reference: str, hypothesis: str) -> tuple[list[str], list[str]]:
    """Both texts normalised; "3.5%" alone is read in the language of the other."""
    is_chinese = _has_han(reference) or _has_han(hypothesis)
    return normalized_words(reference, is_chinese), normalized_words(hypothesis, is_chinese)


def _has_han(text: str) -> bool:
    return bool(re.search(f"[{HAN}]", text))


def normalized_words(text: str, is_chinese: bool | None = None) -> list[str]:
    """Lower-case words and single Chinese characters, numbers spelt out, no punctuation.

    `is_chinese` says how numbers are read; None: in Chinese where the text has a Chinese character.
    """
    folded = unicodedata.normalize("NFKC", text).lower().replace("’", "'").translate(SAME_NUMERALS)
    folded = DOLLARS.sub(r"\1 dollars", HUNDRED_AND.sub(r"\1", YEAR.sub(_spell_year, folded)))
    reads_chinese = _has_han(folded) if is_chinese is None else is_chinese
    spelt = NUMBER.sub(lambda match: f" {_spell(match.group(), reads_chinese)} ", folded)
    return TOKEN.findall(spelt)


def _syllables(words: Sequence[str], tones: bool) -> list[str]:
    from pypinyin import Style, lazy_pinyin

    style = Style.TONE3 if tones else Style.NORMAL
    # neighbouring characters go together: the reading of 长 or 行 depends on them
    runs = re.findall(rf"[{HAN}]+|[^{HAN}\s]+", "".join(w if re.match(f"[{HAN}]", w) else f" {w} " for w in words))
    syllables: list[str] = []
    for run in runs:
        is_chinese = bool(re.match(f"[{HAN}]", run))
        syllables += lazy_pinyin(run, style=style, neutral_tone_with_five=True) if is_chinese else [run]
    return syllables


def _rate(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    if len(reference) == 0:
        return 0.0 if len(hypothesis) == 0 else 1.0
    return edit_distance(reference, hypothesis) / len(reference)


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Least number of substitutions, deletions and insertions (Levenshtein), one row of the table at a time."""
    codes: dict[str, int] = {}
    theirs = np.array([codes.setdefault(token, len(codes)) for token in hypothesis], np.int64)
    offsets = np.arange(len(theirs) + 1)
    row = offsets.copy()
    for index, token in enumerate(reference, start=1):
        changed = row[:-1] + (theirs != codes.get(token, -1))
        best = np.concatenate([[index], np.minimum(changed, row[1:] + 1)])
        row = np.minimum.accumulate(best - offsets) + offsets  # insertions: each step to the right costs one
    return int(row[-1])


# ---------------------------------------------------------------- numbers


def _spell_year(match: re.Match[str]) -> str:
    return "".join(CHINESE_DIGITS[int(digit)] for digit in match.group())


def _spell(number: str, is_chinese: bool) -> str:
    percent = number.endswith("%")
    whole, _, fraction = re.sub(r"[,，%]", "", number).partition(".")
    if is_chinese:
        spoken = _chinese(whole) + ("点" + "".join(CHINESE_DIGITS[int(d)] for d in fraction) if fraction else "")
        return f"百分之{spoken}" if percent else spoken
    decimals = [ENGLISH_DIGITS[int(digit)] for digit in fraction]
    spoken = " ".join([_english(whole), "point", *decimals] if decimals else [_english(whole)])
    return f"{spoken} percent" if percent else spoken


def _english(digits: str) -> str:
    if len(digits) > MAX_SPOKEN_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return " ".join(ENGLISH_DIGITS[int(digit)] for digit in digits)
    value = int(digits)
    words: list[str] = []
    for scale, name in ENGLISH_SCALES:
        if value >= scale:
            words += [*_english_below_thousand(value // scale), name]
            value %= scale
    return " ".join([*words, *_english_below_thousand(value)] or [ENGLISH_DIGITS[0]])


def _english_below_thousand(value: int) -> list[str]:
    words = [ENGLISH_DIGITS[value // 100], "hundred"] if value >= 100 else []
    value %= 100
    if value >= 20:
        words.append(ENGLISH_TENS[value // 10])
        value %= 10
    if value >= 10:
        words.append(ENGLISH_TEENS[value - 10])
    elif value:
        words.append(ENGLISH_DIGITS[value])
    return words


def _chinese(digits: str) -> str:
    if len(digits) > MAX_SPOKEN_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return "".join(CHINESE_DIGITS[int(digit)] for digit in digits)
    groups = [digits[max(0, end - 4) : end] for end in range(len(digits), 0, -4)]
    spoken = ""
    for scale in range(len(groups) - 1, -1, -1):
        group = groups[scale].zfill(4) if scale < len(groups) - 1 else groups[scale]
        part = _chinese_group(group)
        if int(group):
            spoken += part + CHINESE_SCALES[scale]
        elif spoken and not spoken.endswith("零"):
            spoken += "零"
    spoken = re.sub("零+", "零", spoken).strip("零") or "零"
    return re.sub("^一十", "十", spoken)


def _chinese_group(group: str) -> str:
    """Up to four digits, with 零 for each gap."""
    out = ""
    for position, digit in enumerate(group):
        unit = CHINESE_UNITS[len(group) - 1 - position]
        out += "零" if digit == "0" else CHINESE_DIGITS[int(digit)] + unit
    return re.sub("零+", "零", out).rstrip("零")
