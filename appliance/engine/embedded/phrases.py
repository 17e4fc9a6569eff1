"""Text -> phrases: strings of the model's symbols, each short enough for one run of the graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Pronunciation, TextFrontend, Utterance
from appliance.errors import InvalidInput, Unavailable
from appliance.text.cleaning import clean_text, has_speech
from appliance.text.languages import split_languages
from appliance.text.lexicon import apply_readings
from appliance.text.segments import language_of_code

INVENTORY = "kokoro"
MAX_PHONES = 510  # rows of a style pack, and positions of the model less its two borders
BREAKS = (".!?…", ";:,—", " ")  # where a phrase that is too long is cut, best first
BORDER = 0  # token before and after every phrase


def analyse_text(
    text: str, language: str, frontends: Mapping[str, TextFrontend], lexicon: Sequence[Pronunciation] = ()
) -> str:
    """Symbols of the whole text; languages are read one after the other and joined with a blank.

    Raises InvalidInput (text_not_speakable, and of `lexicon` what `apply_readings` raises),
    Unavailable("frontend_missing").
    """
    clean = clean_text(text)
    if not has_speech(clean):
        raise InvalidInput("text_not_speakable", text=text[:40])
    utterances = [
        _analyse_run(code, run, frontends) for code, run in split_languages(clean, language_of_code(language))
    ]
    read = apply_readings(utterances, lexicon, frontends, INVENTORY)
    parts = ["".join(utterance.phones).strip() for utterance in read]
    symbols = " ".join(part for part in parts if part).strip()
    if not any(symbol.isalpha() for symbol in symbols):
        raise InvalidInput("text_not_speakable", text=text[:40])
    return symbols


def _analyse_run(language: str, run: str, frontends: Mapping[str, TextFrontend]) -> Utterance:
    frontend = frontends.get(language)
    if frontend is None:
        raise Unavailable("frontend_missing", language=language)
    return frontend.analyse(run, INVENTORY)


def cut_phrases(symbols: str, most: int = MAX_PHONES) -> list[str]:
    """Pieces of at most `most` symbols, cut after punctuation if there is some in the second half, else at a blank."""
    phrases = []
    while len(symbols) > most:
        at = _find_break(symbols[:most])
        phrases.append(symbols[:at].strip())
        symbols = symbols[at:].strip()
    return [phrase for phrase in (*phrases, symbols) if phrase]


def _find_break(window: str) -> int:
    for marks in BREAKS:
        at = max(window.rfind(mark) for mark in marks) + 1
        if at > len(window) // 2:
            return at
    return len(window)


def encode_phrase(phrase: str, vocabulary: Mapping[str, int]) -> NDArray[np.int64]:
    """Token ids (1, n + 2) with borders. Raises InvalidInput("symbol_unknown"): nothing is dropped in silence."""
    unknown = sorted(set(phrase) - set(vocabulary))
    if unknown:
        measured: dict[str, Any] = {"symbols": " ".join(f"{symbol} (U+{ord(symbol):04X})" for symbol in unknown)}
        raise InvalidInput("symbol_unknown", **measured)
    return np.array([[BORDER, *(vocabulary[symbol] for symbol in phrase), BORDER]], dtype=np.int64)
