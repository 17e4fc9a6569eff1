"""Accent phrases and their accents: which words belong together, and where the pitch falls.

The eighteen rules for phrases and the kinds of joining (F1..F5, C1..C5, P1..P14 of the dictionary) are those of
Open JTalk; the kinds go back to Sagisaka and Sato 1983.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from appliance_plugins.text_ja.morphs import Morph

NUMBER = "数"
_ALONE = ("副詞", "接続詞", "連体詞")
_ATTACHED = ("助動詞", "助詞")
_NA_ADJECTIVE = "形容動詞語幹"

_ONE_TO_NINE = frozenset("一二三四五六七八九")
_FLAT_TENS = frozenset("五六八")
_FIRST_MORA = frozenset("三四九何")  # before 百
_SECOND_MORA = {"億": frozenset("一六七八幾"), "兆": frozenset("六七")}

# (accent of the phrase, moras so far, accent of the word, number in the rule) -> accent of the phrase
_JOIN: dict[str, Callable[[int, int, int, int], int]] = {
    "F2": lambda phrase, moras, word, extra: moras + extra if phrase == 0 else phrase,
    "F3": lambda phrase, moras, word, extra: moras + extra if phrase != 0 else phrase,
    "F4": lambda phrase, moras, word, extra: moras + extra,
    "F5": lambda phrase, moras, word, extra: 0,
    "C1": lambda phrase, moras, word, extra: moras + word,
    "C2": lambda phrase, moras, word, extra: moras + 1,
    "C3": lambda phrase, moras, word, extra: moras,
    "C4": lambda phrase, moras, word, extra: 0,
    "P1": lambda phrase, moras, word, extra: moras + word if word else 0,
    "P2": lambda phrase, moras, word, extra: moras + (word or 1),
    "P6": lambda phrase, moras, word, extra: 0,
    "P14": lambda phrase, moras, word, extra: moras + word if word else phrase,
}


def join_phrases(morphs: list[Morph]) -> None:
    """Decide for every undecided word whether it goes on with the phrase before it."""
    for before, morph in pairwise(morphs):
        if morph.chain < 0:
            morph.chain = next((joins for applies, joins in _RULES if applies(before, morph)), 1)


def _joins_as_auxiliary(before: Morph, morph: Morph) -> bool:
    is_stem = bool(before.cform.startswith("連用"))
    if morph.pos == "形容詞":
        follows_te = before.pos == "助詞" and before.group1 == "接続助詞" and before.string in ("て", "で")
        return bool(follows_te or (is_stem and before.pos in ("動詞", "形容詞")))
    return is_stem and morph.pos == before.pos == "動詞"


def _is_noun(morph: Morph) -> bool:
    return bool(morph.pos == "名詞")


# (does it apply to two neighbours, does the second join the first): the first that applies decides, else it joins
_RULES: tuple[tuple[Callable[[Morph, Morph], bool], int], ...] = (
    (lambda before, morph: morph.group1 == "接尾", 1),
    (lambda before, morph: _is_noun(before) and morph.group3 == "名", 0),
    (lambda before, morph: before.group3 == "姓" and _is_noun(morph), 0),
    (lambda before, morph: morph.pos == "接頭詞", 0),
    (lambda before, morph: "記号" in (before.pos, morph.pos), 0),
    (lambda before, morph: _is_noun(before) and morph.pos in ("動詞", "形容詞"), 0),
    (lambda before, morph: _is_noun(before) and morph.group1 == _NA_ADJECTIVE, 0),
    (lambda before, morph: morph.group1 == "非自立" and _joins_as_auxiliary(before, morph), 1),
    (lambda before, morph: before.group1 == "接尾" and _is_noun(morph), 0),
    (lambda before, morph: morph.pos in _ATTACHED, 1),
    (lambda before, morph: before.pos in _ATTACHED, 0),
    (lambda before, morph: _is_noun(before) and before.group1 == "副詞可能", 0),
    (lambda before, morph: _is_noun(morph) and morph.group1 == "副詞可能", 0),
    (lambda before, morph: before.pos in _ALONE or morph.pos in _ALONE, 0),
    (lambda before, morph: before.pos == "動詞" and morph.pos in ("形容詞", "名詞"), 0),
    (lambda before, morph: _is_noun(before) and before.group1 == _NA_ADJECTIVE and _is_noun(morph), 0),
    (lambda before, morph: before.pos == "形容詞" and _is_noun(morph), 0),
)


def place_accents(morphs: list[Morph]) -> None:
    """The first word of a phrase gets the accent of the whole phrase."""
    moras = 0
    for index, morph in enumerate(morphs):
        before = morphs[index - 1] if index else None
        following = morphs[index + 1] if index + 1 < len(morphs) else None
        if before is None or morph.chain != 1:
            top = morph
            moras = 0
        else:
            kind, extra = _find_rule(morph.rule, before.pos)
            if kind in _JOIN:
                top.accent = _JOIN[kind](top.accent, moras, morph.accent, extra)
            if before.group1 == NUMBER and morph.group1 == NUMBER:
                before.accent = _accent_of_number(before, morph, following)
        if morph.string == "十" and morph.chain != 1 and following is not None and following.group1 == NUMBER:
            morph.accent = 0
        moras += morph.moras


def _find_rule(rules: str, pos: str) -> tuple[str, int]:
    """`動詞%F2@1/形容詞%F1/C3` behind a verb -> ("F2", 1); a rule without a condition fits everything."""
    for entry in rules.split("/"):
        condition, _, rule = entry.rpartition("%")
        if condition in pos:
            kind, _, extra = rule.partition("@")
            return kind, int(extra or 0)
    return "*", 0


def _accent_of_number(digit: Morph, unit: Morph, following: Morph | None) -> int:
    """Accent of a digit with 十, 百, 千, 万, 億 or 兆 behind it."""
    if unit.string in ("千", "万"):
        return int(digit.moras + 1)
    if unit.string in _SECOND_MORA:
        return 2 if digit.string in _SECOND_MORA[unit.string] else 1
    if unit.string == "十":
        goes_on = following is not None and following.string in _ONE_TO_NINE
        return 0 if goes_on and digit.string in _FLAT_TENS else 1
    if unit.string == "百" and digit.string not in _FIRST_MORA:
        return 2 if digit.string == "七" else int(digit.moras + unit.moras)
    return 1 if unit.string == "百" else int(digit.accent)
