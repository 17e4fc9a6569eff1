"""The front end itself: normalisation -> syllables (neutral) -> symbols of the inventory asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance_plugins.text_zh.gpt_sovits_frontend import GptSovitsMandarin
from appliance_plugins.text_zh.gpt_sovits_symbols import split_reading
from appliance_plugins.text_zh.kokoro_symbols import spell, spell_syllable
from appliance_plugins.text_zh.normalisation import normalise
from appliance_plugins.text_zh.pinyin import Lexicon, Syllable, load_lexicon, read_text

from appliance.contracts import Utterance
from appliance.errors import InvalidInput
from appliance.text.frontends import KOKORO, LibraryFrontend, Reading, Spoken

# an inventory without a history of its own is one more line here: its speller gets the same syllables
SPELLERS: dict[str, Callable[[Sequence[Syllable]], list[Spoken]]] = {KOKORO: spell}


class MandarinFrontend(LibraryFrontend):
    """Mandarin in simplified or traditional characters; one word span per character or mark."""

    language = "zh"
    inventories = (*SPELLERS, *GptSovitsMandarin.inventories)
    library = "jieba, pypinyin"

    def __init__(self) -> None:
        super().__init__()
        self._gpt_sovits = GptSovitsMandarin()

    def analyse(self, text: str, inventory: str) -> Utterance:
        """See `TextFrontend.analyse`; GPT-SoVITS has a normaliser and sandhi of its own."""
        if inventory not in GptSovitsMandarin.inventories:
            return super().analyse(text, inventory)
        utterance: Utterance = self._gpt_sovits.analyse(text, inventory)
        return utterance

    def pronounce(self, reading: str, inventory: str) -> list[tuple[str, ...]]:
        """Phones of each syllable of a reading such as "chong2 qing4". Raises InvalidInput("reading_invalid")."""
        checked: list[tuple[str, ...]] = self._gpt_sovits.pronounce(reading, inventory)
        if inventory != KOKORO:
            return checked
        spelt = [(syllable, tuple(spell_syllable(syllable))) for syllable in split_reading(reading)]
        for syllable, symbols in spelt:
            if not any(symbol.isalpha() for symbol in symbols):  # an initial and a final that Mandarin never joins
                raise InvalidInput("reading_invalid", language="zh", reading=reading, part=syllable)
        return [symbols for _, symbols in spelt]

    def load_library(self) -> Lexicon:
        return load_lexicon()

    def read(self, library: Lexicon, text: str, inventory: str) -> Reading:
        normalized = normalise(text)
        return Reading(normalized, SPELLERS[inventory](read_text(normalized, library)))
