"""Katakana pronunciations -> the symbols the "kokoro" inventory has for Japanese."""

from __future__ import annotations

_VOWELS = "aiɯeo"
_ROWS = """
アイウエオ - - - - -|カキクケコ k kʲ k k k|ガギグゲゴ ɡ ɡʲ ɡ ɡ ɡ|サシスセソ s ɕ s s s|ザジズゼゾ ʣ ʥ z ʣ ʣ
タチツテト t ʨ ʦ t t|ダヂヅデド d ʥ z d d|ナニヌネノ n ɲ n n n|ハヒフヘホ h ç ɸ h h|バビブベボ b bʲ b b b
パピプペポ p pʲ p p p|マミムメモ m mʲ m m m|ラリルレロ ɾ ɾʲ ɾ ɾ ɾ|ヷヸヴヹヺ v vʲ v v v|ァィゥェォ - - - - -
"""
_SINGLE = {"ヤ": "ja", "ユ": "jɯ", "ヨ": "jo", "ワ": "βa", "ヲ": "o", "ヰ": "i", "ヱ": "e", "ヮ": "βa",
           "ヵ": "ka", "ヶ": "ke", "ャ": "ja", "ュ": "jɯ", "ョ": "jo"}  # fmt: skip
_CENTRAL = {"ス": "sɨ", "ズ": "zɨ", "ツ": "ʦɨ", "ヅ": "zɨ"}  # ɯ is fronted after s, z, ts
_PALATAL = {"キ": "kʲ", "ギ": "ɡʲ", "シ": "ɕ", "ジ": "ʥ", "チ": "ʨ", "ヂ": "ʥ", "ニ": "ɲ", "ヒ": "ç", "ビ": "bʲ",
            "ピ": "pʲ", "ミ": "mʲ", "リ": "ɾʲ", "テ": "tʲ", "デ": "dʲ", "フ": "ɸʲ", "ヴ": "bʲ"}  # fmt: skip
_LOAN = {
    "イェ": "je", "ウィ": "βi", "ウェ": "βe", "ウォ": "βo", "シェ": "ɕe", "ジェ": "ʥe", "チェ": "ʨe",
    "ツァ": "ʦa", "ツィ": "ʦʲi", "ツェ": "ʦe", "ツォ": "ʦo", "ティ": "tʲi", "ディ": "dʲi", "トゥ": "tɯ",
    "ドゥ": "dɯ", "ファ": "ɸa", "フィ": "ɸʲi", "フェ": "ɸe", "フォ": "ɸo", "ヴァ": "va", "ヴィ": "vʲi",
    "ヴェ": "ve", "ヴォ": "vo", "クァ": "kᵝa", "クィ": "kᵝi", "クェ": "kᵝe", "クォ": "kᵝo", "グァ": "ɡᵝa",
    "グィ": "ɡᵝi", "グェ": "ɡᵝe", "グォ": "ɡᵝo", "ニェ": "ɲe", "ヒェ": "çe", "キェ": "kʲe", "スィ": "si",
    "ズィ": "zi",
}  # fmt: skip
_YA = {"ャ": "a", "ュ": "ɨ", "ョ": "o"}


def _build_moras() -> dict[str, str]:
    moras = dict(_SINGLE)
    for row in filter(None, _ROWS.replace("\n", "|").split("|")):
        kana, *onsets = row.split()
        for character, onset, vowel in zip(kana, onsets, _VOWELS, strict=True):
            moras[character] = onset.replace("-", "") + vowel
    moras.update(_CENTRAL)
    moras.update({k + small: onset + vowel for k, onset in _PALATAL.items() for small, vowel in _YA.items()})
    moras.update(_LOAN)
    return moras


MORAS = _build_moras()


def spell(kana: str) -> str:
    """Symbols of a katakana pronunciation ("トーキョー" -> toːkʲoː); other characters are left out.

    ッ is a glottal stop, ー a length mark, ン takes the place of the consonant after it.
    """
    spelt = ""
    index = 0
    while index < len(kana):
        pair, character = kana[index : index + 2], kana[index]
        if len(pair) == 2 and pair in MORAS:
            spelt += MORAS[pair]
            index += 2
            continue
        if character == "ン":
            spelt += _nasal_before(MORAS.get(kana[index + 1 : index + 2], ""))
        elif character == "ッ":
            spelt += "ʔ" if spelt or index + 1 < len(kana) else ""
        elif character == "ー":
            spelt += "ː" if spelt and not spelt.endswith("ː") else ""
        else:
            spelt += MORAS.get(character, "")
        index += 1
    return spelt


def _nasal_before(following: str) -> str:
    for onsets, nasal in (("mpb", "m"), ("kɡ", "ŋ"), ("ɲʨʥ", "ɲ"), ("ntdɾzʣʦ", "n")):
        if following and following[0] in onsets:
            return nasal
    return "ɴ"
