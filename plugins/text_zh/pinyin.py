"""Normalised Chinese -> syllables with the tones that are spoken. Knows nothing of any engine's phone inventory.

jieba finds the words; our phrases and then pypinyin's phrase dictionary read them; single characters with several
readings are settled by their neighbours; then 一, 不 and third tones change by their context (sandhi), and a suffixed
儿 loses its own syllable.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from appliance_plugins.text_zh.phrases import LETTERS, NOT_ERHUA, PHRASES
from appliance_plugins.text_zh.words import load_words, make_tokenizer

_NUMERALS = "零〇一二三四五六七八九十百千万亿两几半"
_SINGLE_DIGITS = "零〇一二三四五六七八九幺"
_PIECES = re.compile(r"(?P<han>[〇㐀-䶿一-鿿豈-﫿𠀀-𯨟]+)|(?P<letter>[A-Za-z])|(?P<mark>[^\sA-Za-z])|(?P<blank>\s+)")


@dataclass(frozen=True)
class Syllable:
    """One written character and its reading; a mark has no pinyin."""

    text: str
    pinyin: str = ""  # "zhong1" .. "le5" (5: neutral tone), ü is v; "r5" is 儿 fused with the syllable before it
    starts_word: bool = True

    @property
    def base(self) -> str:
        return self.pinyin[:-1]

    @property
    def tone(self) -> int:
        return int(self.pinyin[-1]) if self.pinyin else 0

    def with_tone(self, tone: int) -> Syllable:
        return replace(self, pinyin=f"{self.base}{tone}")


@dataclass(frozen=True)
class Lexicon:
    """The two libraries, loaded."""

    cut: Callable[[str], list[str]]
    read: Callable[[str], list[str]]


def load_lexicon() -> Lexicon:
    """jieba with its dictionary in memory and pypinyin; costs about a second."""
    from pypinyin import Style, lazy_pinyin

    tokenizer = make_tokenizer(load_words())
    for phrase in PHRASES:
        tokenizer.add_word(phrase)

    def read(word: str) -> list[str]:
        return list(lazy_pinyin(word, style=Style.TONE3, neutral_tone_with_five=True, errors=_skip_unreadable))

    return Lexicon(tokenizer.lcut, read)


def _skip_unreadable(characters: str) -> Any:
    return [""] * len(characters)


def read_text(text: str, lexicon: Lexicon) -> list[Syllable]:
    """Syllables and marks of normalised text in order; blanks are dropped, unknown ideographs too."""
    syllables: list[Syllable] = []
    for piece in _PIECES.finditer(text):
        if piece.lastgroup == "han":
            syllables += _read_run(piece.group(), lexicon)
        elif piece.lastgroup == "letter":
            names = LETTERS[piece.group().upper()]
            syllables += [Syllable(piece.group(), name, i == 0) for i, name in enumerate(names)]
        elif piece.lastgroup == "mark":
            syllables.append(Syllable(piece.group()))
    return syllables


def _read_run(run: str, lexicon: Lexicon) -> list[Syllable]:
    words = lexicon.cut(run)
    spoken = [
        _read_word(word, lexicon, words[i - 1] if i else "", words[i + 1] if i + 1 < len(words) else "")
        for i, word in enumerate(words)
    ]
    flat = [syllable for word in _change_third_tones(spoken) for syllable in word]
    return [s for s in _change_bu(_change_yi(flat)) if s.pinyin]


def _read_word(word: str, lexicon: Lexicon, before: str, after: str) -> list[Syllable]:
    readings = PHRASES.get(word)
    if readings is None and len(word) == 1:
        readings = _read_by_neighbours(word, before, after)
    if readings is None:
        readings = tuple(lexicon.read(word))
    if len(readings) != len(word):  # a dictionary entry that does not fit: character by character
        readings = tuple((lexicon.read(character) or [""])[0] for character in word)
    syllables = [
        Syllable(c, _base_reading(c, pinyin), i == 0) for i, (c, pinyin) in enumerate(zip(word, readings, strict=True))
    ]
    if len(word) > 1 and word[-1] == "儿" and word not in NOT_ERHUA and syllables[-1].base == "er":
        syllables[-1] = replace(syllables[-1], pinyin="r5")
    return syllables


def _base_reading(character: str, pinyin: str) -> str:
    if character == "一":
        return "yi1"
    if character == "不":
        return "bu4"
    return pinyin if pinyin[-1:].isdigit() else ""


def _read_by_neighbours(word: str, before: str, after: str) -> tuple[str, ...] | None:
    """Readings of a one-character word that its neighbours decide, None for all others."""
    rule = _NEIGHBOURS.get(word)
    return None if rule is None else (rule(before, after),)


def _read_de(before: str, after: str) -> str:
    if not before or after[:1] in ("了", "到", "出", "奖", "分", "知", "名"):
        return "de2"
    is_modal = before[-1:] in "还我你他她它们就都可总必也又非只您" and after[:1] not in "很好不太更多真特"
    return "dei3" if after and is_modal else "de5"


def _read_wei(before: str, after: str) -> str:
    if after[:1] and after[:1] in _NUMERALS + "负":
        return "wei2"
    if before[-1:] and before[-1:] in "间价格度量数址码名称长高率值额期号者即均分作改定设评选视":
        return "wei2"
    return "wei4"


_NEIGHBOURS: dict[str, Callable[[str, str], str]] = {
    "得": _read_de,
    "为": _read_wei,
    "地": lambda b, a: "de5" if len(b) >= 2 and a and a[0] not in "上下里面处" and b[-1] not in _NUMERALS else "di4",
    "还": lambda b, a: "huan2" if a[:1] and a[0] in "给钱款债清书贷账" else "hai2",
    "只": lambda b, a: "zhi1" if b[-1:] and b[-1] in _NUMERALS + "每这那" else "zhi3",
    "长": lambda b, a: "zhang3" if a[:1] and a[0] in "得出了着满在成大高" else "chang2",
    "行": lambda b, a: "hang2" if b[-1:] and b[-1] in _NUMERALS + "每这那" else "xing2",
    "倒": lambda b, a: "dao3" if a[:1] and a[0] in "了下在" else "dao4",
    "量": lambda b, a: "liang2" if a[:1] and a[0] in "体血一了" else "liang4",
    "干": lambda b, a: "gan4" if a[:1] and a[0] in "什吗嘛活得了完" else "gan1",
    "教": lambda b, a: "jiao1",
    "啊": lambda b, a: "a5",
    "吧": lambda b, a: "ba5",
    "了": lambda b, a: "le5",
    "着": lambda b, a: "zhe5",
    "嗯": lambda b, a: "en1",
    "幺": lambda b, a: "yao1",
    "重": lambda b, a: "zhong4",
}


# ---------------------------------------------------------------- sandhi


def _change_third_tones(words: list[list[Syllable]]) -> list[list[Syllable]]:
    """Third before third becomes second: inside a word, and from a one-syllable word to the next word."""
    changed: list[list[Syllable]] = []
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else []
        after = following[:1] if len(word) == 1 else []
        run = [*word, *after]
        changed.append(
            [
                s.with_tone(2) if s.tone == 3 and i + 1 < len(run) and run[i + 1].tone == 3 else s
                for i, s in enumerate(word)
            ]
        )
    return changed


def _change_yi(syllables: list[Syllable]) -> list[Syllable]:
    changed = list(syllables)
    for i, s in enumerate(syllables):
        if s.text != "一" or s.base != "yi" or i + 1 == len(syllables):
            continue
        before, after = (syllables[i - 1].text if i else ""), syllables[i + 1]
        if before and before == after.text:
            changed[i] = s.with_tone(5)  # 看一看
        elif not _is_counting(before, after, s):
            changed[i] = s.with_tone(2 if after.tone == 4 or after.text == "个" else 4)
    return changed


def _is_counting(before: str, after: Syllable, yi: Syllable) -> bool:
    """Whether 一 keeps its first tone: in numbers, dates and ranks, and at the end of a word."""
    if before and before in "十百千万亿":
        return after.text not in "百千万亿"  # 一百一十一, but 一万一千
    if before and before in "第点初周期拜" + _SINGLE_DIGITS:
        return True
    return after.text in "月号日楼层班等级十" + _SINGLE_DIGITS or (after.starts_word and not yi.starts_word)


def _change_bu(syllables: list[Syllable]) -> list[Syllable]:
    changed = list(syllables)
    for i, s in enumerate(syllables[:-1]):
        if s.text == "不" and s.base == "bu":
            is_choice = bool(i) and syllables[i - 1].text == syllables[i + 1].text
            changed[i] = s.with_tone(5) if is_choice else s.with_tone(2 if syllables[i + 1].tone == 4 else 4)
    return changed
