"""Words of a sentence with reading and accent, as Open JTalk's dictionary has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_JOINED_KANA = re.compile("[ぁ-ゖァ-ヺーａ-ｚＡ-Ｚ][ぁぃぅぇぉゃゅょァィゥェォャュョ]?")
_FIELDS = 12
FILLER = "フィラー"


@dataclass
class Morph:
    """One word; it changes while numbers, phrases and accents are worked out."""

    string: str
    pos: str
    group1: str = "*"
    group2: str = "*"
    group3: str = "*"
    ctype: str = "*"
    cform: str = "*"
    orig: str = "*"
    read: str = "*"
    pron: str = "*"
    accent: int = 0  # mora after which the pitch falls, 0: it does not
    moras: int = 0
    rule: str = "*"  # how the accent of a phrase changes when this word joins it
    chain: int = -1  # 1: belongs to the phrase before, 0: begins one, -1: undecided

    def set_sound(self, pron: str, accent: int | None, moras: int) -> None:
        self.pron, self.moras = pron, moras
        self.accent = self.accent if accent is None else accent

    def silence(self) -> None:
        self.set_sound("*", 0, 0)

    def as_features(self) -> dict[str, Any]:
        """What pyopenjtalk's `make_label` takes."""
        return {
            "string": self.string, "pos": self.pos, "pos_group1": self.group1, "pos_group2": self.group2,
            "pos_group3": self.group3, "ctype": self.ctype, "cform": self.cform, "orig": self.orig,
            "read": self.read, "pron": self.pron, "acc": self.accent, "mora_size": self.moras,
            "chain_rule": self.rule, "chain_flag": self.chain,
            "is_reading_protected": False, "is_reading_rewritten": False,
        }  # fmt: skip


def parse_feature(line: str) -> Morph:
    """A line of the dictionary: `年,名詞,接尾,助数詞,*,*,*,年,ネン,ネン,1/2,C3`."""
    fields = line.split(",")
    accent, _, moras = fields[10].partition("/")
    chain = int(fields[12]) if len(fields) > _FIELDS else -1
    morph = Morph(*fields[:10])  # type: ignore[arg-type]
    morph.accent, morph.moras, morph.rule, morph.chain = int(accent), int(moras), fields[11], chain
    return morph


def read_morphs(library: Any, text: str) -> list[Morph]:
    """MeCab's words with the dictionary's sounds; words it has not, or has in parts, are left to Open JTalk."""
    morphs: list[Morph] = []
    for line in library.run_mecab(text):
        if re.fullmatch(r"[^:]*,\d+/\d+,[^,:]*(,-?\d)?", line):
            morphs.append(parse_feature(line))
        else:
            morphs += [_from_features(node) for node in library.run_njd_from_mecab([line])]
    morphs = _join_fillers(morph for morph in morphs if morph.pron != "*")
    for before, morph in pairwise(morphs):
        if (morph.pron, morph.pos) == ("ウ", "助動詞") and before.pos in ("動詞", "助動詞") and before.moras:
            morph.pron = "ー"
    return morphs


def _from_features(node: dict[str, Any]) -> Morph:
    chain = -1 if node["pos"] == FILLER or int(node["chain_flag"]) < 0 else int(node["chain_flag"])
    names = ("string", "pos", "pos_group1", "pos_group2", "pos_group3", "ctype", "cform", "orig", "read", "pron")
    morph = Morph(*(str(node[name]) for name in names))  # type: ignore[arg-type]
    morph.accent, morph.moras = int(node["acc"]), int(node["mora_size"])
    morph.rule, morph.chain = str(node["chain_rule"]), chain
    return morph


def _join_fillers(morphs: Iterable[Morph]) -> list[Morph]:
    """Single kana that the dictionary does not know, one behind the other, are one word."""
    joined: list[Morph] = []
    is_open = False
    for morph in morphs:
        is_kana = morph.pos == FILLER and _JOINED_KANA.fullmatch(morph.string) is not None
        if is_open and is_kana:
            joined[-1].string += morph.string
            joined[-1].pron += morph.pron
            joined[-1].moras += morph.moras
        else:
            joined.append(morph)
        is_open = is_kana
    return joined
