"""The front end for the "gpt_sovits_v1" and "gpt_sovits_v2" inventories."""

from __future__ import annotations

from appliance_plugins.text_zh.gpt_sovits_normalisation import normalise
from appliance_plugins.text_zh.gpt_sovits_reading import Readers, load_readers, read_text
from appliance_plugins.text_zh.gpt_sovits_symbols import spell_reading

from appliance.text.frontends import LibraryFrontend, Reading, Spoken
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_V1, GPT_SOVITS_V2, known_phones

# a sign that asks for a pause -> the phone that every comma of such a text becomes; the first that occurs counts
_PAUSES = {"￥": "SP2", "^": "SP3"}


class GptSovitsMandarin(LibraryFrontend):
    """Mandarin as the Chinese models of GPT-SoVITS were trained on it; one word span per character or mark."""

    language = "zh"
    inventories = (GPT_SOVITS_V1, GPT_SOVITS_V2)
    library = "jieba, pypinyin, opencc"

    def load_library(self) -> Readers:
        return load_readers()

    def read(self, library: Readers, text: str, inventory: str) -> Reading:
        sign = next((sign for sign in _PAUSES if sign in text), "")
        if sign:
            text = text.replace(sign, ",")
        normalized = normalise(text, library.simplify, is_reduced=inventory == GPT_SOVITS_V2)
        units = [Spoken(unit.text, known_phones(unit.phones, inventory)) for unit in read_text(normalized, library)]
        if sign:
            units = [Spoken(unit.text, (_PAUSES[sign],)) if unit.phones == (",",) else unit for unit in units]
        return Reading(normalized, units)

    def pronounce(self, reading: str, inventory: str) -> list[tuple[str, ...]]:
        """Phones of each syllable of a reading such as "chong2 qing4"; tones are taken as they are given."""
        return list(spell_reading(reading))
