"""Text of one language on its way to an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class WordSpan:
    """One written unit (a word, or a Chinese character) and the phones it became."""

    text: str
    start: int  # first phone of this word in Utterance.phones
    end: int  # one past its last phone

    # GPT-SoVITS' word2ph is `end - start` per character.


@dataclass(frozen=True)
class Utterance:
    """Text of one language, ready for an engine."""

    language: str
    normalized: str  # numbers, dates and signs spoken out
    phones: tuple[str, ...]  # symbols of the inventory that was asked for
    words: tuple[WordSpan, ...] = ()


class TextFrontend(ABC):
    """Text of one language -> phones of a named inventory. Stateless after construction, safe across threads."""

    language: str
    inventories: tuple[str, ...]  # e.g. ("kokoro",), later ("kokoro", "gpt_sovits_v2")

    @abstractmethod
    def analyse(self, text: str, inventory: str) -> Utterance:
        """Normalise `text` and turn it into phones. Raises InvalidInput("inventory_unknown") for another inventory."""
