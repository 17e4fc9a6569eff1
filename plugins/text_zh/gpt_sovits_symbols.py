"""Pinyin syllables -> the two symbols that GPT-SoVITS has for each: an initial-like one and a final with its tone."""

from __future__ import annotations

import re

from appliance.errors import InvalidInput

_INITIALS = ("zh", "ch", "sh", *"bpmfdtnlgkhjqxrzcsyw")
_AFTER_INITIAL = {"uei": "ui", "iou": "iu", "uen": "un"}
_ALONE = {"ing": "ying", "i": "yi", "in": "yin", "u": "wu"}
_FIRST_LETTER = {"v": "yu", "i": "y", "u": "w"}
_WITHOUT_INITIAL = {"a": "AA", "e": "EE", "o": "OO"}
_SPELT_FINALS = (
    "a ai an ang ao e ei en eng er i ia ian iang iao ie in ing iong iu o ong ou u ua uai uan uang ue ui un uo "
    "v van ve vn"
)
_FINALS = frozenset(_SPELT_FINALS.split())


def spell(initial: str, final: str) -> tuple[str, str] | None:
    """("zh", "ong1") -> ("zh", "ong1"); ("", "ie4") -> ("y", "E4"); None for what is no Mandarin syllable.

    `initial` and `final` as pypinyin's strict styles give them: ü is v, no y or w, tone digit 1..5 at the end.
    """
    base, tone = final[:-1], final[-1:]
    if tone not in tuple("12345"):
        return None
    if initial:
        pinyin = initial + _AFTER_INITIAL.get(base, base)
    else:
        pinyin = _ALONE.get(base) or _FIRST_LETTER.get(base[:1], base[:1]) + base[1:]
    symbols = _spell_pinyin(pinyin)
    return None if symbols is None else (symbols[0], symbols[1] + tone)


def _spell_pinyin(pinyin: str) -> tuple[str, str] | None:
    """Symbols of toneless pinyin in everyday spelling: "yuan" -> ("y", "van"), "shi" -> ("sh", "ir")."""
    initial = next((initial for initial in _INITIALS if pinyin.startswith(initial)), "")
    final = pinyin[len(initial) :]
    if not initial:
        onset = _WITHOUT_INITIAL.get(pinyin[:1])
        return (onset, final) if onset and final in _FINALS else None
    return (initial, _final_symbol(initial, final)) if final in _FINALS else None


def _final_symbol(initial: str, final: str) -> str:
    if final == "i" and initial in ("zh", "ch", "sh", "r"):
        return "ir"
    if final == "i" and initial in ("z", "c", "s"):
        return "i0"
    if initial in ("j", "q", "x", "y") and final.startswith("u"):
        return "v" + final[1:]
    return {"e": "E", "an": "En"}.get(final, final) if initial == "y" else final


def split_reading(reading: str) -> list[str]:
    """The syllables of pinyin as the tables write them: "LÜ4 lüe4" -> ["lv4", "lve4"]."""
    syllables = reading.lower().replace("u:", "v").replace("ü", "v").split()
    return [re.sub("^([ln])ue", r"\1ve", syllable) for syllable in syllables]


def spell_reading(reading: str) -> list[tuple[str, ...]]:
    """Symbols of each syllable of pinyin with tone digits: "chong2 qing4" -> [("ch", "ong2"), ("q", "ing4")].

    ü is v, u: or ü. Raises InvalidInput("reading_invalid") naming the first syllable that is none.
    """
    spelt: list[tuple[str, ...]] = []
    for syllable in split_reading(reading):
        base, tone = syllable[:-1], syllable[-1]
        symbols = _spell_pinyin(base) if tone in "12345" else None
        if symbols is None:
            raise InvalidInput("reading_invalid", language="zh", reading=reading, part=syllable)
        spelt.append((symbols[0], symbols[1] + tone))
    return spelt
