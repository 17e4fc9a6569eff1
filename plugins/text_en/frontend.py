"""The English front end: normalisation, then hibari's tokens with their phones; GPT-SoVITS has a reader of its own."""

from __future__ import annotations

from typing import Any

from appliance_plugins.text_en.gpt_sovits_frontend import GptSovitsEnglish
from appliance_plugins.text_en.normalisation import normalise

from appliance.contracts import Utterance
from appliance.text.frontends import KOKORO, LibraryFrontend, Reading, Spoken

_LETTER_A = "ˈA"  # the letter's name, where hibari takes a lone capital for the article


class EnglishFrontend(LibraryFrontend):
    """American English. One word span per token; unknown words go through hibari's letter-to-sound network."""

    language = "en"
    inventories = (KOKORO, *GptSovitsEnglish.inventories)
    library = "hibari-tts"

    def __init__(self) -> None:
        super().__init__()
        self._gpt_sovits = GptSovitsEnglish()

    def analyse(self, text: str, inventory: str) -> Utterance:
        """See `TextFrontend.analyse`; GPT-SoVITS has a normaliser and a dictionary of its own."""
        if inventory not in GptSovitsEnglish.inventories:
            return super().analyse(text, inventory)
        utterance: Utterance = self._gpt_sovits.analyse(text, inventory)
        return utterance

    def load_library(self) -> Any:
        """hibari's G2P with its network loaded too, so that no thread loads it later; costs about 1 s."""
        from hibari.g2p import G2P

        reader = G2P()
        reader.oov("voiced")
        return reader

    def read(self, library: Any, text: str, inventory: str) -> Reading:
        from hibari.g2p import normalize

        normalized = normalize(normalise(text))
        tokens = library.phonemize_tokens(library.tokenize(normalized))
        units: list[Spoken] = []
        for index, token in enumerate(tokens):
            phones = token.phonemes or ""
            if token.text == "A" and (index + 1 == len(tokens) or not tokens[index + 1].text[:1].isalnum()):
                phones = _LETTER_A
            blank = " " if token.whitespace and index + 1 < len(tokens) else ""
            units.append(Spoken(token.text, tuple(phones + blank)))
        return Reading(normalized, units)
