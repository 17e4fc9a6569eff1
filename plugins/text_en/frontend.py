"""The English front end: normalisation, then hibari's tokens with their phones."""

from __future__ import annotations

from typing import Any

from appliance_plugins.text_en.normalisation import normalise

from appliance.text.frontends import LibraryFrontend, Reading, Spoken

_LETTER_A = "ˈA"  # the letter's name, where hibari takes a lone capital for the article


class EnglishFrontend(LibraryFrontend):
    """American English. One word span per token; unknown words go through hibari's letter-to-sound network."""

    language = "en"
    library = "hibari-tts"

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
