"""Digits become numbers: 1234 -> 千二百三十四, or one by one in telephone numbers; digits and counters are fitted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from appliance_plugins.text_ja import counters
from appliance_plugins.text_ja.accents import NUMBER
from appliance_plugins.text_ja.counters import Sound
from appliance_plugins.text_ja.morphs import Morph

_VALUES = {written: value for value, written in enumerate("〇一二三四五六七八九")} | {
    "○": 0, "０": 0, "壱": 1, "弐": 2, "貳": 2, "ニ": 2, "参": 3, "いち": 1, "に": 2, "さん": 3, "よん": 4, "し": 4,
    "ご": 5, "ろく": 6, "なな": 7, "しち": 7, "はち": 8, "きゅう": 9, "く": 9,
} | {written: value for value, written in enumerate("１２３４５６７８９", 1)}  # fmt: skip
_KANJI = "〇一二三四五六七八九"
_SMALL = (("", "", 0, 0), ("十", "ジュー", 1, 2), ("百", "ヒャク", 2, 2), ("千", "セン", 1, 2))
_LARGE = (
    ("", "", 0, 0), ("万", "マン", 1, 2), ("億", "オク", 1, 2), ("兆", "チョー", 1, 2), ("京", "ケー", 1, 2),
    ("垓", "ガイ", 1, 2), ("𥝱", "ジョ", 1, 1), ("穣", "ジョー", 1, 2), ("溝", "コウ", 1, 2), ("澗", "カン", 1, 2),
    ("正", "セー", 1, 2), ("載", "サイ", 1, 2), ("極", "ゴク", 1, 2), ("恒河沙", "ゴウガシャ", 1, 4),
    ("阿僧祇", "アソーギ", 2, 4), ("那由他", "ナユタ", 1, 3),
    ("不可思議", "フカシギ", 2, 4), ("無量大数", "ムリョータイスー", 6, 7),
)  # fmt: skip
_LONG = {"〇": "ゼロ", "０": "ゼロ", "二": "ニー", "五": "ゴー"}  # digits read one by one
_BEFORE_POINT = _LONG | {"〇": "レー", "０": "レー"}
_DASHES = frozenset("―−‐—－")
_UNITS = frozenset(unit[0] for unit in (*_SMALL[1:], *_LARGE[1:]))
_COUNTED = frozenset("一二三四五六七八九何幾数")


def speak_numbers(morphs: list[Morph]) -> list[Morph]:
    """The words with numbers in words, sounds and accents of digits and counters set."""
    if not any(morph.group1 == NUMBER for morph in morphs):
        return morphs
    for morph in morphs:
        if (value := _value(morph)) is not None and morph.string != "０":
            morph.string = morph.orig = _KANJI[value]
    spoken: list[Morph] = []
    for start, end in _runs(morphs):
        run = morphs[start:end]
        spoken += run if _value(run[0]) is None or len(run) < 2 else _speak_run(morphs, start, end)
    spoken = _without_silence(spoken)
    _join_points(spoken)
    for before, morph in _pairs(spoken):
        if before.group1 == NUMBER and _is_counter(morph):
            _fit(before, morph)
            before.chain, morph.chain = 0, 1
    for before, morph in _pairs(spoken):
        if before.group1 == NUMBER:
            _fit_number(before, morph)
    _name_days_and_people(spoken)
    return _without_silence(spoken)


def _value(morph: Morph) -> int | None:
    return _VALUES.get(morph.string) if morph.group1 == NUMBER else None


def _runs(morphs: list[Morph]) -> Iterator[tuple[int, int]]:
    """Borders of digit sequences; every other word is a run of its own."""
    start = 0
    while start < len(morphs):
        end = start + 1
        if _value(morphs[start]) is not None:
            while end < len(morphs) and _value(morphs[end]) is not None:
                end += 1
        yield start, end
        start = end


def _pairs(morphs: list[Morph]) -> Iterator[tuple[Morph, Morph]]:
    return pairwise(morphs)


def _without_silence(morphs: list[Morph]) -> list[Morph]:
    return [morph for morph in morphs if morph.pron != "*"]


def _is_counter(morph: Morph) -> bool:
    return bool(morph.group2 == "助数詞" or morph.group1 == "副詞可能")


def _speak_run(morphs: list[Morph], start: int, end: int) -> list[Morph]:
    if _value(morphs[start]) == 0 or _score(morphs, start, end) < 0:
        return _speak_one_by_one(morphs[start:end])
    if end - start > 4 * len(_LARGE):
        return morphs[start:end]
    return list(_speak_by_value(morphs[start:end]))


def _score(morphs: list[Morph], start: int, end: int) -> int:
    """Below 0: the digits are read one by one (behind 番号, a dash or a point)."""
    score = 0
    before = morphs[start - 1] if start else None
    earlier = morphs[start - 2] if start > 1 else None
    after = morphs[end] if end < len(morphs) else None
    later = morphs[end + 1] if end + 1 < len(morphs) else None
    if before is not None:
        score += 2 * (before.group1 == "数接続") + _is_counter(before)
        follows_number = earlier is not None and earlier.group1 == NUMBER
        if before.string in ("．", "・"):
            score -= 5 * follows_number
        elif before.string in _DASHES or before.string in ("）", "番号") or (before.string == "（" and follows_number):
            score -= 2
        score -= 2 * (earlier is not None and earlier.string == "番号")
    if after is not None:
        score += 2 * _is_counter(after)
        if after.string in ("．", "・"):
            score += 4
        elif (
            after.string in _DASHES
            or after.string in ("（", "番号")
            or (after.string == "）" and later is not None and later.group1 == NUMBER)
        ):
            score -= 2
    return score


def _speak_one_by_one(run: list[Morph]) -> list[Morph]:
    """Two digits to a phrase, each of two moras."""
    for index, morph in enumerate(run):
        if morph.string in _LONG:
            morph.set_sound(_LONG[morph.string], None, 2)
        morph.rule = "*"
        morph.chain = index % 2
        if morph.chain:
            run[index - 1].accent = 3
    return run


def _speak_by_value(run: list[Morph]) -> Iterator[Morph]:
    """Words of ten, hundred, thousand and the myriads go behind their digits; 0 and the 1 of 十 are silent."""
    is_heard = False
    for index, morph in enumerate(run):
        myriads, place = divmod(len(run) - 1 - index, 4)
        digit = _value(morph) or 0
        if digit == 0 or (place and digit == 1):
            morph.silence()
        yield morph
        if place and digit:
            yield _numeral(_SMALL[place])
        is_heard = is_heard or digit > 0
        if place == 0:
            if is_heard and myriads:
                yield _numeral(_LARGE[myriads], "C3" if myriads == 3 else "*")
            is_heard = False


def _numeral(entry: tuple[str, str, int, int], rule: str = "*") -> Morph:
    word, pron, accent, moras = entry
    return Morph(word, "名詞", NUMBER, orig=word, read=pron, pron=pron, accent=accent, moras=moras, rule=rule)


def _join_points(morphs: list[Morph]) -> None:
    for index in range(1, len(morphs) - 1):
        before, morph, after = morphs[index - 1 : index + 2]
        if morph.string in ("．", "・") and before.group1 == after.group1 == NUMBER:
            morph.pos, morph.group1, morph.group2, morph.string, morph.chain = "名詞", "接尾", "助数詞", "．", 1
            morph.set_sound("テン", 0, 2)
            if before.string in _BEFORE_POINT:
                before.set_sound(_BEFORE_POINT[before.string], None, 2)


def _fit(digit: Morph, counter: Morph) -> None:
    if sound := counters.DIGITS.get(counter.string, {}).get(digit.string):
        digit.set_sound(*sound)
    _fit_onset(digit, counter)


def _fit_onset(digit: Morph, counter: Morph) -> None:
    onsets = counters.ONSETS.get(counter.string, {}).get(digit.string, {})
    counter.pron = onsets.get(counter.pron[0], counter.pron[0]) + counter.pron[1:]


def _fit_number(digit: Morph, morph: Morph) -> None:
    """Digit and unit are one phrase; a digit behind a unit begins the next."""
    if morph.group1 == NUMBER:
        if digit.string in _COUNTED and morph.string in _UNITS:
            digit.chain, morph.chain = 0, 1
        elif digit.string in _UNITS and morph.string in _COUNTED:
            morph.chain = 0
    if sound := counters.MULTIPLES.get(morph.string, {}).get(digit.string):
        digit.set_sound(*sound)
    if morph.string in ("百", "千"):
        _fit_onset(digit, morph)


def _name_days_and_people(morphs: list[Morph]) -> None:
    """一人, 三日, 十四日, 二十日 and 二十四日 have names of their own; 一棟 has a native numeral."""
    for index, morph in enumerate(morphs[:-1]):
        before = morphs[index - 1] if index else None
        if before is not None and before.group1 == NUMBER:
            continue
        after = morphs[index + 1]
        if morph.group1 == NUMBER and _is_counter(after):
            if after.string + after.read in counters.NATIVE and morph.string in counters.NATIVE_DIGITS:
                morph.set_sound(*counters.NATIVE_DIGITS[morph.string])
            if name := _find_name(before, morph.string, after.string):
                _rename(morph, name, [after])
    for index in range(len(morphs)):
        if index == 0 or morphs[index - 1].group1 != NUMBER:
            _name_tens(morphs[index : index + 4])


def _find_name(before: Morph | None, digit: str, counter: str) -> Sound | None:
    if counter == "日" and digit == "一" and before is not None and "月" in before.string:
        return counters.FIRST_OF_MONTH
    return {"人": counters.PEOPLE, "日": counters.DAYS, "日間": counters.DAYS_LONG}.get(counter, {}).get(digit)


def _name_tens(morphs: list[Morph]) -> None:
    words = [morph.string for morph in morphs]
    for day, suffix in (("日", ""), ("日間", "カン")):
        if words[:3] == ["十", "四", day]:
            _rename(morphs[0], Sound("ジューヨッカ" + suffix, 5 if suffix else 1, 7 if suffix else 5), morphs[1:3])
        elif words[:3] == ["二", "十", day]:
            _rename(morphs[0], Sound("ハツカ" + suffix, 3 if suffix else 0, 5 if suffix else 3), morphs[1:3])
        elif words == ["二", "十", "四", day]:
            _rename(morphs[0], Sound("ニジュー", 1, 3), [])
            _rename(morphs[1], Sound("ヨッカ" + suffix, 3 if suffix else 0, 5 if suffix else 3), morphs[2:], chain=0)


def _rename(morph: Morph, sound: Sound, swallowed: list[Morph], chain: int = -1) -> None:
    """One word with a new sound takes the place of several."""
    morph.string = morph.orig = "".join([morph.string, *(other.string for other in swallowed)])
    morph.pos, morph.group1, morph.group2, morph.rule, morph.chain = "名詞", "副詞可能", "*", "*", chain
    morph.set_sound(*sound)
    morph.read = morph.pron
    for other in swallowed:
        other.silence()
