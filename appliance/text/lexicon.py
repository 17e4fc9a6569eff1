"""A tenant's own pronunciations: entries for every text, and readings written into one text.

    entry    重庆 -> chong2 qing4             (Mandarin: pinyin with tone digits; Cantonese: Jyutping)
             Siobhan -> shivawn               (other languages: a word that sounds like it)
             Siobhan -> /SH IH0 V AO1 N/      (any language: symbols of the engine's inventory between slashes)
    in text  他姓[单](shan4)。

Only the phones of the word change. The rest of the sentence keeps its reading and the networks see the written
characters, so that context stays what it was. Tones of a reading are taken as they are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from appliance.contracts import TextFrontend, Utterance, WordSpan
from appliance.errors import InvalidInput
from appliance.text.frontends import SYMBOLS
from appliance.text.gpt_sovits_symbols import MARKS

_LONGEST_WORD = 64
_OVERRIDE = re.compile(r"\[([^\[\]()\n]{1,64})\]\(([^\[\]()\n]{1,256})\)")
_FORBIDDEN = re.compile(r"[\[\]\n\r\0]")


@runtime_checkable
class Pronouncer(Protocol):
    """A front end whose readings are syllables, one for each character."""

    def pronounce(self, reading: str, inventory: str) -> list[tuple[str, ...]]:
        """Phones of each syllable of `reading`. Raises InvalidInput("reading_invalid")."""
        ...


@dataclass(frozen=True)
class Entry:
    """A word and how it is read. Raises InvalidInput("lexicon_word_invalid") when made of nothing."""

    word: str
    reading: str
    language: str = ""  # "zh", "en", ..; "" for a word that is the same in every language
    occurrence: int | None = None  # 0 for the first one in the text; None for all

    def __post_init__(self) -> None:
        word = self.word.strip()
        if not word or len(word) > _LONGEST_WORD or _FORBIDDEN.search(word) or not self.reading.strip(" /"):
            raise InvalidInput("lexicon_word_invalid", word=self.word[:_LONGEST_WORD])


class _Match(NamedTuple):
    utterance: int
    first: int  # word span
    end: int  # one past the last


def take_overrides(text: str) -> tuple[str, list[Entry]]:
    """The text as it is written and seen, and the readings that were noted in it, in order."""
    plain = ""
    end = 0
    entries: list[Entry] = []
    for override in _OVERRIDE.finditer(text):
        plain += text[end : override.start()]
        word, reading = override.groups()
        entries.append(Entry(word, reading, occurrence=_count(plain, word)))
        plain += word
        end = override.end()
    return plain + text[end:], entries


def apply_readings(
    utterances: Sequence[Utterance], entries: Sequence[Entry], frontends: Mapping[str, TextFrontend], inventory: str
) -> list[Utterance]:
    """The utterances of one text with the phones of `entries`; longer words win, an occurrence wins over all.

    Raises InvalidInput("reading_invalid" | "reading_length") for a reading that does not fit its word.
    """
    patched = list(utterances)
    taken: set[tuple[int, int]] = set()
    for entry in sorted(entries, key=lambda e: (e.occurrence is None, -len(e.word))):
        for number, match in enumerate(_find(utterances, entry.word)):
            language = utterances[match.utterance].language
            spans = {(match.utterance, span) for span in range(match.first, match.end)}
            is_meant = entry.occurrence in (None, number) and entry.language in ("", language)
            if is_meant and not spans & taken:
                taken |= spans
                phones = _pronounce(entry, match.end - match.first, frontends[language], inventory)
                patched[match.utterance] = _replace(patched[match.utterance], match, phones)
    return patched


def _count(text: str, word: str) -> int:
    """How often `word` is in `text`; an approximation where it also stands inside longer Latin words."""
    is_latin = word.isascii()
    pattern = rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])" if is_latin else re.escape(word)
    return len(re.findall(pattern, text, re.IGNORECASE))


def _find(utterances: Sequence[Utterance], word: str) -> Iterator[_Match]:
    """Where the spans of an utterance together are `word`."""
    wanted = _fold(word)
    for index, utterance in enumerate(utterances):
        parts = [_fold(span.text) for span in utterance.words]
        first = 0
        while first < len(parts):
            end, held = first, ""
            while end < len(parts) and len(held) < len(wanted) and wanted.startswith(held):
                held += parts[end]
                end += 1
            if held == wanted and wanted:
                yield _Match(index, first, end)
                first = end
            else:
                first += 1


def _fold(text: str) -> str:
    return "".join(text.split()).casefold()


def _pronounce(entry: Entry, units: int, frontend: TextFrontend, inventory: str) -> list[tuple[str, ...]]:
    """Phones of each of the `units` word spans."""
    reading = entry.reading.strip()
    if reading.startswith("/") and reading.endswith("/"):
        phones = tuple(reading.strip("/").split())
        unknown = [phone for phone in phones if phone not in SYMBOLS.get(inventory, phones)]
        if unknown:
            raise InvalidInput("reading_invalid", language=frontend.language, reading=reading, part=unknown[0])
        return _spread(entry, phones, units)
    if isinstance(frontend, Pronouncer):
        syllables = frontend.pronounce(reading, inventory)
        if len(syllables) != units:
            raise InvalidInput("reading_length", word=entry.word, characters=units, syllables=len(syllables))
        return syllables
    phones = tuple(phone for phone in frontend.analyse(reading, inventory).phones if phone not in MARKS)
    return _spread(entry, phones, units)


def _spread(entry: Entry, phones: tuple[str, ...], units: int) -> list[tuple[str, ...]]:
    if len(phones) < units:
        raise InvalidInput("reading_length", word=entry.word, characters=units, syllables=len(phones))
    borders = [len(phones) * unit // units for unit in range(units + 1)]
    return [phones[borders[unit] : borders[unit + 1]] for unit in range(units)]


def _replace(utterance: Utterance, match: _Match, replacement: Sequence[tuple[str, ...]]) -> Utterance:
    phones: list[str] = []
    spans: list[WordSpan] = []
    for index, span in enumerate(utterance.words):
        spoken = utterance.phones[span.start : span.end]
        if match.first <= index < match.end:
            separator = spoken[-1:] if spoken[-1:] == (" ",) else ()  # between words, in inventories that have one
            spoken = replacement[index - match.first] + separator
        spans.append(WordSpan(span.text, len(phones), len(phones) + len(spoken)))
        phones += spoken
    return Utterance(utterance.language, utterance.normalized, tuple(phones), tuple(spans))
