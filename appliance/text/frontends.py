"""What text front ends have in common: the phone inventories, loading a library once, and building an `Utterance`."""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import Any, NamedTuple

from appliance.contracts import TextFrontend, Utterance, WordSpan
from appliance.errors import InvalidInput, Unavailable
from appliance.text.cleaning import clean_text
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_SYMBOLS

KOKORO = "kokoro"

# One symbol is one code point. A capital letter stands for an English diphthong (A "day", I "my", O "go", Q British
# "go", W "now", Y "boy") or flap (T); an arrow is a Mandarin tone (→ 1, ↗ 2, ↓ 3, ↘ 4) and follows the vowel.
SYMBOLS: dict[str, frozenset[str]] = {
    KOKORO: frozenset(
        ';:,.!?—…"()“” \u0303'
        "ʣʥʦʨᵝꭧAIOQSTWYᵊ"
        "abcdefhijklmnopqrstuvwxyz"
        "ɑɐɒæβɔɕçɖðʤəɚɛɜɟɡɥɨɪʝɯɰŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔ"
        "ˈˌːʰʲ↓→↗↘ᵻ"
    ),
    **{name: frozenset(symbols) for name, symbols in GPT_SOVITS_SYMBOLS.items()},
}


class Spoken(NamedTuple):
    """A written unit and its phones; blanks and marks between words belong to the unit before them or stand alone."""

    text: str
    phones: tuple[str, ...]


class Reading(NamedTuple):
    """What a front end found out: the text with numbers and signs spoken out, and its units in order."""

    normalized: str
    units: list[Spoken]


class LibraryFrontend(TextFrontend):
    """A front end on top of a heavy library, which is imported at the first `analyse`, once, under a lock."""

    inventories: tuple[str, ...] = (KOKORO,)
    library: str  # for the error message

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: Any = None

    @abstractmethod
    def load_library(self) -> Any:
        """Import and construct what reading needs; anything but None. Writes no file, opens no connection."""

    @abstractmethod
    def read(self, library: Any, text: str, inventory: str) -> Reading:
        """Read clean text aloud in the phones of `inventory`. Called from several threads at once."""

    def analyse(self, text: str, inventory: str) -> Utterance:
        """See `TextFrontend.analyse`; raises Unavailable("frontend_library_missing") when the library is not there."""
        if inventory not in self.inventories:
            known = ", ".join(self.inventories)
            raise InvalidInput("inventory_unknown", language=self.language, inventory=inventory, known=known)
        clean = clean_text(text)
        if inventory in GPT_SOVITS_SYMBOLS:  # a blank at the border of two languages is a phone of Korean
            clean = " " * text[:1].isspace() + clean + " " * text[-1:].isspace() if clean else clean
        reading = self.read(self._library(), clean, inventory)
        return assemble(self.language, reading, SYMBOLS.get(inventory))

    def _library(self) -> Any:
        if self._loaded is None:
            with self._lock:
                if self._loaded is None:
                    try:
                        self._loaded = self.load_library()
                    except (ImportError, OSError) as problem:
                        raise Unavailable(
                            "frontend_library_missing",
                            language=self.language,
                            library=self.library,
                            detail=str(problem),
                        ) from problem
        return self._loaded


def assemble(language: str, reading: Reading, symbols: frozenset[str] | None) -> Utterance:
    """Lay the units end to end: the spans cover all phones in order, and a phone outside `symbols` is dropped."""
    phones: list[str] = []
    spans: list[WordSpan] = []
    for unit in reading.units:
        start = len(phones)
        phones += [phone for phone in unit.phones if symbols is None or phone in symbols]
        if len(phones) > start:
            spans.append(WordSpan(unit.text, start, len(phones)))
    return Utterance(language, reading.normalized, tuple(phones), tuple(spans))
