"""The front end itself: the number reader of `text_zh`, ToJyutping, symbols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance_plugins.text_yue.jyutping import spell
from appliance_plugins.text_zh.gpt_sovits_normalisation import speak_clauses, write_marks
from appliance_plugins.text_zh.simplification import load_simplifier

from appliance.errors import InvalidInput
from appliance.text.frontends import LibraryFrontend, Reading, Spoken
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_V2, UNKNOWN, known_phones

# quotes and brackets become ' on the way, which is then deleted
_MARKS = {
    "：": ",", "；": ",", "，": ",", "。": ".", "！": "!", "？": "?", "\n": ".", "·": ",", "、": ",", "...": "…",
    "$": ".", "—": "-", "～": "-", "~": "-",
}  # fmt: skip


@dataclass(frozen=True)
class Jyutping:
    """The two libraries, loaded."""

    read: Callable[[str], list[tuple[str, str | None]]]  # each character with its syllable
    simplify: Callable[[str], str]


class CantoneseFrontend(LibraryFrontend):
    """Cantonese in traditional or simplified characters; one word span per character or mark."""

    language = "yue"
    inventories = (GPT_SOVITS_V2,)
    library = "ToJyutping, opencc"

    def load_library(self) -> Jyutping:
        import ToJyutping

        return Jyutping(ToJyutping.get_jyutping_list, load_simplifier())

    def read(self, library: Jyutping, text: str, inventory: str) -> Reading:
        clauses = speak_clauses(text, library.simplify)
        normalized = "".join(write_marks(clause, _MARKS, {}) for clause in clauses)
        units = [
            Spoken(character, known_phones(_spell(character, syllable), inventory))
            for character, syllable in library.read(normalized)
        ]
        return Reading(normalized, units)

    def pronounce(self, reading: str, inventory: str) -> list[tuple[str, ...]]:
        """Phones of each syllable of a reading such as "gwong2 dung1". Raises InvalidInput("reading_invalid")."""
        spelt = []
        for syllable in reading.lower().split():
            phones = spell(syllable)
            if len(phones) != 2 or UNKNOWN in known_phones(phones, inventory):
                raise InvalidInput("reading_invalid", language="yue", reading=reading, part=syllable)
            spelt.append(phones)
        return spelt


def _spell(character: str, syllable: str | None) -> tuple[str, ...]:
    return spell(syllable.split()[0] if syllable else character) or (UNKNOWN,)
