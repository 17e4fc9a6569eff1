"""Which of a language's sounds a text has: English phonemes without stress, Mandarin initials and finals without tone.

Sounds are counted in the inventory "gpt_sovits_v2", whose symbols name them one by one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appliance.contracts import JsonDict, TextFrontend
from appliance.errors import VoicedError
from appliance.text.segments import split_request

INVENTORY = "gpt_sovits_v2"
_ARPABET = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
_INITIALS = "b p m f d t n l g k h j q x zh ch sh r z c s y w"
_FINALS = (
    "a ai an ang ao e ei en eng er i i0 ia ian iang iao ie in ing iong ir iu o ong ou u ua uai uan uang ui un uo "
    "v van ve vn"
)
ENGLISH = frozenset(_ARPABET.split())
MANDARIN = frozenset((*_INITIALS.split(), *_FINALS.split()))
SOUNDS: dict[str, frozenset[str]] = {"en": ENGLISH, "zh": MANDARIN}
MIXED = "mixed"
_DIGITS = re.compile("[0-9]+$")
_NO_DIGITS_CUT = frozenset({"i0"})


@dataclass(frozen=True)
class Coverage:
    """What texts have of the sounds of one language."""

    language: str
    counts: Mapping[str, int]  # sound -> how often

    @property
    def share(self) -> float:
        """Of the language's sounds that occur at all, 0 .. 1."""
        return len(self.counts) / len(SOUNDS[self.language])

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(sorted(SOUNDS[self.language] - set(self.counts)))

    def as_json(self) -> JsonDict:
        return {"share": round(self.share, 3), "missing": list(self.missing), "counts": dict(self.counts)}


def cover(texts: Iterable[str], language: str, frontends: Mapping[str, TextFrontend]) -> dict[str, Coverage]:
    """By language that occurs in `texts`; `language` "en", "zh" or "mixed". What cannot be read is left out."""
    counts: dict[str, Counter[str]] = {}
    for text in texts:
        for part, run in split_request(text, "en" if language == "en" else "zh"):
            if part in SOUNDS and (found := _sounds(part, run, frontends)):
                counts.setdefault(part, Counter()).update(found)
    return {part: Coverage(part, dict(sorted(found.items()))) for part, found in counts.items()}


def cover_all(texts: Mapping[str, Iterable[str]], frontends: Mapping[str, TextFrontend]) -> JsonDict:
    """Coverage as JSON by language, of texts that are read as English ("en") and others ("mixed") together."""
    counts: dict[str, Counter[str]] = {}
    for language, rows in texts.items():
        for part, coverage in cover(rows, language, frontends).items():
            counts.setdefault(part, Counter()).update(coverage.counts)
    return {part: Coverage(part, dict(sorted(found.items()))).as_json() for part, found in sorted(counts.items())}


def _sounds(language: str, text: str, frontends: Mapping[str, TextFrontend]) -> list[str]:
    frontend = frontends.get(language)
    if frontend is None or INVENTORY not in frontend.inventories:
        return []
    try:
        phones = frontend.analyse(text, INVENTORY).phones
    except VoicedError:
        return []
    plain = (_plain(phone) for phone in phones)
    return [sound for sound in plain if sound in SOUNDS[language]]


def _plain(phone: str) -> str:
    """Without stress or tone: "AH0" is AH, "ing1" ing; the final of si, "i0" with a tone behind, stays i0."""
    stem = phone[:-1] if phone[:2] in _NO_DIGITS_CUT and len(phone) > 2 else phone
    return stem if stem in _NO_DIGITS_CUT else _DIGITS.sub("", stem)
