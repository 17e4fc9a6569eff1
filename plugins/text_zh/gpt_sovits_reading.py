"""Normalised Chinese -> syllables as GPT-SoVITS' Chinese models were trained on them.

jieba's tagged words, joined where a sandhi would cross their border; pypinyin per joined word; then 不, 一, neutral and
third tones, and 儿. The steps, their order and their word lists are part of the trained models. Where they differ from
good Mandarin, `pinyin` has the better reading, for engines without that history.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from appliance_plugins.text_zh.gpt_sovits_symbols import spell
from appliance_plugins.text_zh.gpt_sovits_words import ALWAYS_ERHUA, FULL_TONE, NEUTRAL, NEVER_ERHUA
from appliance_plugins.text_zh.simplification import load_simplifier
from appliance_plugins.text_zh.words import load_words, make_tagger

from appliance.text.frontends import Spoken
from appliance.text.gpt_sovits_symbols import MARKS, UNKNOWN

_AFTER_MARK = re.compile(r"(?<=[!?…,.\-])")
_PARTICLES = "吧呢哈啊呐噻嘛吖嗨呐哦哒额滴哩哟喽啰耶喔诶的地得"
_PAUSES = ",.?!"
_DIRECTIONS = "上下进出回过起开"
_BEFORE_GE = "几有两半多各整每做是"


class Word(NamedTuple):
    text: str
    tag: str  # jieba's part of speech


@dataclass(frozen=True)
class Readers:
    """The libraries, loaded."""

    tag: Callable[[str], list[Word]]
    cut_for_search: Callable[[str], list[str]]
    read_initials: Callable[[str], list[str]]
    read_finals: Callable[[str], list[str]]
    simplify: Callable[[str], str]


def load_readers() -> Readers:
    """jieba with its tagger, pypinyin and OpenCC's characters; costs about a second. No cache file is used."""
    from pypinyin import Style, lazy_pinyin

    tagger = make_tagger(load_words())

    def read(word: str, style: Any) -> list[str]:
        return list(lazy_pinyin(word, style=style, neutral_tone_with_five=True))

    return Readers(
        tag=lambda text: [Word(pair.word, pair.flag) for pair in tagger.lcut(text)],
        cut_for_search=lambda text: list(tagger.tokenizer.cut_for_search(text)),
        read_initials=lambda word: read(word, Style.INITIALS),
        read_finals=lambda word: [final or "?" for final in read(word, Style.FINALS_TONE3)],  # 呣 has none
        simplify=load_simplifier(),
    )


def read_text(text: str, readers: Readers) -> list[Spoken]:
    """One unit per character or mark of normalised text, in order: two phones, or one for a mark."""
    spoken: list[Spoken] = []
    for clause in _AFTER_MARK.split(text):
        for word in join_words(readers.tag(clause), readers):
            spoken += _read_word(word, readers)
    return spoken


def _read_word(word: Word, readers: Readers) -> list[Spoken]:
    initials, finals = readers.read_initials(word.text), readers.read_finals(word.text)
    if len(finals) != len(word.text) or len(initials) != len(finals):  # pypinyin lumps characters without a reading
        return [Spoken(character, (character if character in MARKS else UNKNOWN,)) for character in word.text]
    finals = speak_tones(word, finals, readers)
    return [
        Spoken(character, _spell(character, initial, final))
        for character, initial, final in zip(word.text, initials, finals, strict=True)
    ]


def _spell(character: str, initial: str, final: str) -> tuple[str, ...]:
    if character in MARKS:
        return (character,)
    return spell(initial, final) or (UNKNOWN,)


# ---------------------------------------------------------------- words


def join_words(words: Sequence[Word], readers: Readers) -> list[Word]:
    """Words joined where a change of tone would cross their border."""
    joined = _join_reduplications(_join_yi(_join_bu(words)))
    joined = _join_third_tones(joined, readers, lambda before, after: _are_third(before) and _are_third(after))
    joined = _join_third_tones(joined, readers, lambda before, after: before[-1][-1] == "3" == after[0][-1])
    return _join_er(joined)


def _join_bu(words: Sequence[Word]) -> list[Word]:
    joined: list[Word] = []
    holds_bu = False
    for word in words:
        text = f"不{word.text}" if holds_bu else word.text
        holds_bu = text == "不"
        if not holds_bu:
            joined.append(Word(text, word.tag))
    return [*joined, Word("不", "d")] if holds_bu else joined


def _join_yi(words: Sequence[Word]) -> list[Word]:
    """听, 一, 听 -> 听一听; then 一 and the word after it. Two such verbs in one clause: nothing is joined."""
    starts = [i for i in range(len(words) - 2) if _is_tried_verb(words[i : i + 3])]
    if len(starts) > 1:  # the front end of the training texts gave up there
        return list(words)
    doubled = list(words)
    for start in starts:
        verb = words[start]
        doubled[start : start + 3] = [Word(f"{verb.text}一{verb.text}", verb.tag)]
    joined: list[Word] = []
    for word in doubled:
        if joined and joined[-1].text == "一":
            joined[-1] = Word(f"一{word.text}", joined[-1].tag)
        else:
            joined.append(word)
    return joined


def _is_tried_verb(words: Sequence[Word]) -> bool:
    first, middle, last = words
    return middle.text == "一" and first == last and first.tag == "v"


def _join_reduplications(words: Sequence[Word]) -> list[Word]:
    joined: list[Word] = []
    for word in words:
        if joined and joined[-1].text == word.text:
            joined[-1] = Word(word.text * 2, joined[-1].tag)
        else:
            joined.append(word)
    return joined


def _join_third_tones(
    words: Sequence[Word], readers: Readers, is_joined: Callable[[list[str], list[str]], bool]
) -> list[Word]:
    """Neighbours of together at most three characters whose tones satisfy `is_joined`; never three words into one."""
    finals = [readers.read_finals(word.text) for word in words]
    joined: list[Word] = []
    joined_last = False
    for index, word in enumerate(words):
        before = words[index - 1].text if index else ""
        joins = (
            bool(before)
            and not joined_last
            and is_joined(finals[index - 1], finals[index])
            and not (len(before) == 2 and before[0] == before[1])
            and len(before) + len(word.text) <= 3
        )
        if joins:
            joined[-1] = Word(joined[-1].text + word.text, joined[-1].tag)
        else:
            joined.append(word)
        joined_last = joins
    return joined


def _join_er(words: Sequence[Word]) -> list[Word]:
    joined: list[Word] = []
    for word in words:
        if joined and word.text == "儿":
            joined[-1] = Word(f"{joined[-1].text}儿", joined[-1].tag)
        else:
            joined.append(word)
    return joined


# ---------------------------------------------------------------- tones


def speak_tones(word: Word, finals: Sequence[str], readers: Readers) -> list[str]:
    """Finals ("ong1") of one joined word with the tones that are spoken."""
    parts = split_word(word.text, readers)
    spoken = _change_yi(word.text, _change_bu(word.text, list(finals)))
    spoken = _make_neutral(word, spoken, parts)
    return _change_er(word, _change_third(spoken, len(parts[0])))


def split_word(word: str, readers: Readers) -> tuple[str, str]:
    """The shortest word inside `word` (jieba's search mode), and the rest: (before, after), one may be empty."""
    shortest = min(readers.cut_for_search(word), key=len)
    if word.startswith(shortest):
        return shortest, word[len(shortest) :]
    return word[: -len(shortest)], shortest


def _with_tone(final: str, tone: int) -> str:
    return f"{final[:-1]}{tone}"


def _are_third(finals: Sequence[str]) -> bool:
    return all(final[-1] == "3" for final in finals)


def _change_bu(word: str, finals: list[str]) -> list[str]:
    if len(word) == 3 and word[1] == "不":  # 看不懂
        return [finals[0], _with_tone(finals[1], 5), finals[2]]
    return [
        _with_tone(final, 2) if word[i] == "不" and finals[i + 1 : i + 2] and finals[i + 1][-1] == "4" else final
        for i, final in enumerate(finals)
    ]


def _change_yi(word: str, finals: list[str]) -> list[str]:
    if "一" not in word or all(character.isnumeric() for character in word):
        return finals
    if len(word) == 3 and word[1] == "一" and word[0] == word[2]:
        return [finals[0], _with_tone(finals[1], 5), finals[2]]
    if word.startswith("第一"):
        return [finals[0], _with_tone(finals[1], 1), *finals[2:]]
    changed = list(finals)
    for i, character in enumerate(word[:-1]):
        if character == "一" and word[i + 1] not in _PAUSES:
            changed[i] = _with_tone(finals[i], 2 if changed[i + 1][-1] == "4" else 4)
    return changed


def _make_neutral(word: Word, finals: list[str], parts: tuple[str, str]) -> list[str]:
    text, tag = word
    changed = list(finals)
    if tag[:1] in ("n", "v", "a") and text not in FULL_TONE:
        for i in range(1, len(text)):
            if text[i] == text[i - 1]:
                changed[i] = _with_tone(changed[i], 5)
    neutral = _find_neutral(text, tag)
    if neutral is not None:
        changed[neutral] = _with_tone(changed[neutral], 5)
    for part, end in zip(parts, (len(parts[0]), len(text)), strict=True):
        if part[-2:] in NEUTRAL:
            changed[end - 1] = _with_tone(changed[end - 1], 5)
    return changed


def _find_neutral(text: str, tag: str) -> int | None:
    """Index of the character that its word makes neutral. The first rule that knows the last character decides."""
    last, before = text[-1], text[-2:-1]
    ge = text.find("个")
    if last in _PARTICLES or (text in ("了", "着", "过") and tag in ("ul", "uz", "ug")):
        return len(text) - 1
    if before and last in "们子" and tag in ("r", "n") and text not in FULL_TONE:
        return len(text) - 1
    if before and last in "上下里" and tag in ("s", "l", "f"):
        return len(text) - 1
    if before and last in "来去" and before in _DIRECTIONS:
        return len(text) - 1
    if text == "个" or (ge >= 1 and (text[ge - 1].isnumeric() or text[ge - 1] in _BEFORE_GE)):
        return ge
    return len(text) - 1 if text[-2:] in NEUTRAL else None


def _change_third(finals: list[str], first_part: int) -> list[str]:
    """Third before third becomes second, in words of two to four syllables; `first_part` of them in the first half."""
    changed = list(finals)
    if len(finals) == 2 and _are_third(finals):
        changed[0] = _with_tone(finals[0], 2)
    elif len(finals) == 3 and _are_third(finals):  # 蒙古 + 包, 纸 + 老虎
        for i in {2: (0, 1), 1: (1,)}.get(first_part, ()):
            changed[i] = _with_tone(finals[i], 2)
    elif len(finals) == 3:
        changed = _change_halves(finals, first_part)
    elif len(finals) == 4:
        for start in (0, 2):
            if _are_third(finals[start : start + 2]):
                changed[start] = _with_tone(finals[start], 2)
    return changed


def _change_halves(finals: list[str], first_part: int) -> list[str]:
    first, second = list(finals[:first_part]), list(finals[first_part:])
    if len(first) == 2 and _are_third(first):  # 所有 + 人
        first[0] = _with_tone(first[0], 2)
    if len(second) == 2 and _are_third(second):
        second[0] = _with_tone(second[0], 2)
    elif first and second and not _are_third(second) and second[0][-1] == "3" == first[-1][-1]:  # 好 + 喜欢
        first[-1] = _with_tone(first[-1], 2)
    return first + second


def _change_er(word: Word, finals: list[str]) -> list[str]:
    """A suffixed 儿 stays a syllable of its own, on the tone of the syllable before it."""
    text = word.text
    if text[-1] != "儿":
        return finals
    changed = [*finals[:-1], "er2" if finals[-1] == "er1" else finals[-1]]
    is_suffix = text in ALWAYS_ERHUA or (text not in NEVER_ERHUA and word.tag not in ("a", "j", "nr"))
    if is_suffix and len(text) > 1 and changed[-1] in ("er2", "er5") and text[-2:] not in NEVER_ERHUA:
        changed[-1] = "er" + changed[-2][-1]
    return changed
