"""The front end itself: normalisation -> syllables (neutral) -> symbols of the inventory asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance_plugins.text_zh.kokoro_symbols import spell
from appliance_plugins.text_zh.normalisation import normalise
from appliance_plugins.text_zh.pinyin import Lexicon, Syllable, load_lexicon, read_text

from appliance.text.frontends import KOKORO, LibraryFrontend, Reading, Spoken

# another inventory is one more line here: its speller gets the same syllables
SPELLERS: dict[str, Callable[[Sequence[Syllable]], list[Spoken]]] = {KOKORO: spell}


class MandarinFrontend(LibraryFrontend):
    """Mandarin in simplified or traditional characters; one word span per character or mark."""

    language = "zh"
    inventories = tuple(SPELLERS)
    library = "jieba, pypinyin"

    def load_library(self) -> Lexicon:
        return load_lexicon()

    def read(self, library: Lexicon, text: str, inventory: str) -> Reading:
        normalized = normalise(text)
        return Reading(normalized, SPELLERS[inventory](read_text(normalized, library)))
