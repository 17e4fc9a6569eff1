"""Pinyin syllables -> the symbols of the "kokoro" inventory: IPA-like, with an arrow for the tone after the vowel.

Every syllable is followed by a blank and starts with a consonant or a glide: without both, 欢迎 runs together to
something heard as 华宁.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance_plugins.text_zh.pinyin import Syllable

from appliance.text.frontends import Spoken

_INITIALS = {
    "b": "p", "p": "pʰ", "m": "m", "f": "f", "d": "t", "t": "tʰ", "n": "n", "l": "l", "g": "k", "k": "kʰ", "h": "x",
    "j": "ʨ", "q": "ʨʰ", "x": "ɕ", "zh": "ꭧ", "ch": "ꭧʰ", "sh": "ʂ", "r": "ɻ", "z": "ʦ", "c": "ʦʰ", "s": "s",
}  # fmt: skip

# final -> (up to and including the vowel, after it); the tone goes between. er keeps its ɹ before the tone: of the
# spellings tried, əɹ↘ is heard as 二, aɚ↘ as 阿
_FINALS = {
    "a": ("a", ""), "o": ("wo", ""), "e": ("ɤ", ""), "ê": ("ɛ", ""), "ai": ("ai", ""), "ei": ("ei", ""),
    "ao": ("au", ""), "ou": ("ou", ""), "an": ("a", "n"), "en": ("ə", "n"), "ang": ("a", "ŋ"), "eng": ("ə", "ŋ"),
    "ong": ("ʊ", "ŋ"), "er": ("əɹ", ""), "i": ("i", ""), "ia": ("ja", ""), "ie": ("je", ""), "iao": ("jau", ""),
    "iou": ("jou", ""), "io": ("jɔ", ""), "ian": ("jɛ", "n"), "in": ("i", "n"), "iang": ("ja", "ŋ"),
    "ing": ("i", "ŋ"), "iong": ("jʊ", "ŋ"), "u": ("u", ""), "ua": ("wa", ""), "uo": ("wo", ""),
    "uai": ("wai", ""), "uei": ("wei", ""), "uan": ("wa", "n"), "uen": ("wə", "n"), "uang": ("wa", "ŋ"),
    "ueng": ("wə", "ŋ"), "v": ("y", ""), "ve": ("ɥe", ""), "van": ("ɥɛ", "n"), "vn": ("y", "n"),
}  # fmt: skip
_APICAL = ("ɨ", "")  # the vowel of zhi chi shi ri, zi ci si
_SHORT_FINALS = {"iu": "iou", "ui": "uei", "un": "uen"}
_TONES = {1: "→", 2: "↗", 3: "↓", 4: "↘", 5: ""}
_HUMMED = {"m": "m", "n": "n", "ng": "ŋ", "hm": "xm", "hng": "xŋ"}

_MARKS = {
    "，": ", ", "。": ". ", "、": ", ", "；": "; ", "：": ": ", "？": "? ", "！": "! ", "…": "… ", "—": "— ",
    "“": "“", "”": "” ", "（": "(", "）": ") ",
}  # fmt: skip


def spell(syllables: Sequence[Syllable]) -> list[Spoken]:
    """One unit per character, in order. A mark is glued to the character before it and followed by a blank."""
    spelt: list[Spoken] = []
    for index, syllable in enumerate(syllables):
        following = syllables[index + 1] if index + 1 < len(syllables) else None
        if not syllable.pinyin:
            phones = _MARKS.get(syllable.text, "")
            phones = phones if following is not None else phones.rstrip()
        else:
            phones = spell_syllable(syllable.pinyin, is_erhua=following is not None and following.pinyin == "r5")
            if following is not None and _needs_blank(following):
                phones += " "
        spelt.append(Spoken(syllable.text, tuple(phones)))
    return spelt


def spell_syllable(pinyin: str, *, is_erhua: bool = False) -> str:
    """Symbols of one syllable such as "zhong1"; "" for what is no pinyin. With `is_erhua` the coda gives way to 儿."""
    base, tone = pinyin[:-1], _TONES.get(int(pinyin[-1]), "")
    if pinyin == "r5":
        return "ɻ"
    if base in _HUMMED:
        return _HUMMED[base] + tone
    onset, vowel, coda = _split(base)
    if is_erhua:
        coda = "" if coda == "n" else coda
        vowel = vowel[:-1] if vowel[-1:] == "i" and len(vowel) > 1 and vowel[-2] in "ae" else vowel
    return f"{onset}{vowel}{tone}{coda}"


def _needs_blank(following: Syllable) -> bool:
    return following.pinyin != "r5" and (bool(following.pinyin) or following.text in "“（—")


def _split(base: str) -> tuple[str, str, str]:
    """Onset symbols, vowel symbols, coda symbols of a toneless syllable."""
    initial = base[:2] if base[:2] in _INITIALS else base[:1] if base[:1] in _INITIALS else ""
    final = base[len(initial) :]
    onset = _INITIALS.get(initial, "")
    if final == "i" and initial in ("zh", "ch", "sh", "r", "z", "c", "s"):
        return onset, *_APICAL
    if not initial:
        return _split_without_initial(base)
    if initial in ("j", "q", "x") and final.startswith("u"):
        final = "v" + final[1:]
    vowel, coda = _FINALS.get(_SHORT_FINALS.get(final, final), ("", ""))
    return (onset if vowel else ""), vowel, coda


def _split_without_initial(base: str) -> tuple[str, str, str]:
    if base.startswith("yu"):
        final, glide = "v" + base[2:], "ɥ"
    elif base.startswith("yi"):
        final, glide = base[1:], "j"
    elif base == "you":
        final, glide = "iou", "j"
    elif base.startswith("y"):
        final, glide = "i" + base[1:], "j"
    elif base.startswith("wu"):
        final, glide = "u", "w"
    elif base.startswith("w"):
        final, glide = {"wei": "uei", "wen": "uen", "weng": "ueng"}.get(base, "u" + base[1:]), "w"
    else:
        final, glide = base, ""
    vowel, coda = ("ɔ", "") if base == "o" else _FINALS.get(final, ("", ""))
    return ("" if not vowel or vowel.startswith(glide) else glide), vowel, coda
