"""The Korean front end: Latin letters by name, pronunciation, and the letters that GPT-SoVITS knows."""

from __future__ import annotations

import re

from appliance_plugins.text_ko.pronunciation import Korean, load_korean

from appliance.text.frontends import LibraryFrontend, Reading, Spoken
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_SYMBOLS, GPT_SOVITS_V2

_BLANK, _UNKNOWN = "空", "停"
_LATIN = (
    "a에이 b비 c시 d디 e이 f에프 g지 h에이치 i아이 j제이 k케이 l엘 m엠 n엔 o오 p피 q큐 r아르 s에스 t티 u유 v브이 "
    "w더블유 x엑스 y와이 z제트"
)
_LETTER_NAMES = {entry[0]: entry[1:] for entry in _LATIN.split()}
_NAMES = str.maketrans(_LETTER_NAMES | {letter.upper(): name for letter, name in _LETTER_NAMES.items()})
_MARKS = {
    "：": ",", "；": ",", "，": ",", "。": ".", "！": "!", "？": "?", "\n": ".", "·": ",", "、": ",", " ": _BLANK,
}  # fmt: skip

_SYLLABLES, _LAST_SYLLABLE = 0xAC00, 0xD7A3
_ONSETS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
# in the order of the syllables; vowels with a glide are two letters to the inventory
_PARTS_OF_VOWELS = "ㅏ ㅐ ㅣㅏ ㅣㅐ ㅓ ㅔ ㅣㅓ ㅣㅔ ㅗ ㅗㅏ ㅗㅐ ㅗㅣ ㅣㅗ ㅜ ㅜㅓ ㅜㅔ ㅜㅣ ㅣㅜ ㅡ ㅡㅣ ㅣ"
_VOWELS = _PARTS_OF_VOWELS.split()
_CODAS = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
_LETTERS: dict[str, str] = {letter: letter for letter in (*_ONSETS, *_CODAS)} | {
    chr(0x314F + index): parts for index, parts in enumerate(_VOWELS)
}
_AFTER_OBJECT = re.compile("([ㅇㄹ]ㅡㄹ) ㄹ")  # g2pk2 makes ㄹ of a ㄴ behind 을 and 를
_KNOWN = frozenset(GPT_SOVITS_SYMBOLS[GPT_SOVITS_V2])


class KoreanFrontend(LibraryFrontend):
    """Standard Korean as spoken, one phone per letter. One word span per written word, the blank behind it included."""

    language = "ko"
    inventories = (GPT_SOVITS_V2,)
    library = "g2pk2, jamo, mecab-ko"

    def load_library(self) -> Korean:
        return load_korean()

    def read(self, library: Korean, text: str, inventory: str) -> Reading:
        spoken = library.pronounce(text.translate(_NAMES))
        letters = _AFTER_OBJECT.sub(r"\1 ㄴ", "".join(map(_spell, spoken)))
        letters += "." if letters and letters[-1] in _LETTERS else ""
        written, heard = text.split(" "), letters.split(" ")
        if len(written) != len(heard):
            written, heard = [text], [letters]
        last = len(heard) - 1
        units = [
            Spoken(word or " ", tuple(map(_phone, part + ("" if index == last else " "))))
            for index, (word, part) in enumerate(zip(written, heard, strict=True))
        ]
        return Reading(text, units)


def _spell(character: str) -> str:
    """Letters of a syllable ("왜" -> ㅇㅗㅐ); a letter alone and any other character stay (vowels in their parts)."""
    code = ord(character)
    if not _SYLLABLES <= code <= _LAST_SYLLABLE:
        return _LETTERS.get(character, character)
    onset, rest = divmod(code - _SYLLABLES, len(_VOWELS) * len(_CODAS))
    vowel, coda = divmod(rest, len(_CODAS))
    return f"{_ONSETS[onset]}{_VOWELS[vowel]}{_CODAS[coda]}"


def _phone(character: str) -> str:
    phone = _MARKS.get(character, character)
    return phone if phone in _KNOWN else _UNKNOWN
