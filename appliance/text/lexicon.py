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
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

from appliance.contracts import Pronunciation, TextFrontend, Utterance, WordSpan
from appliance.errors import InvalidInput
from appliance.text.frontends import SYMBOLS
from appliance.text.gpt_sovits_symbols import MARKS, UNKNOWN

_LONGEST_WORD = 64
_NOT_COMPARED = str.maketrans("", "", '.,!?;:…。，、！？；：“”"()「」')
_ENDS = frozenset((*MARKS, *' ;:,.!?—…")”', "空", UNKNOWN))
_OVERRIDE = re.compile(r"\[([^\[\]()\n]{1,64})\]\(([^\[\]()\n]{1,256})\)")
_IDEOGRAPHS = re.compile(r"[㐀-䶿一-鿿豈-﫿𠀀-𳎯]+")
_FORBIDDEN = re.compile(r"[\[\]\n\r\0]")


@runtime_checkable
class Pronouncer(Protocol):
    """A front end whose readings are syllables, one for each character."""

    inventories: tuple[str, ...]

    def pronounce(self, reading: str, inventory: str) -> list[tuple[str, ...]]:
        """Phones of each syllable of `reading`. Raises InvalidInput("reading_invalid")."""
        ...


@dataclass(frozen=True)
class Entry(Pronunciation):
    """A pronunciation that was checked. Raises InvalidInput("lexicon_word_invalid") when made of nothing."""

    def __post_init__(self) -> None:
        word = self.word.strip()
        if not word or len(word) > _LONGEST_WORD or _FORBIDDEN.search(word) or not self.reading.strip(" /"):
            raise InvalidInput("lexicon_word_invalid", word=self.word[:_LONGEST_WORD])


class _Match(NamedTuple):
    utterance: int
    first: int  # word span
    end: int  # one past the last


class Override(NamedTuple):
    """A reading that was noted in a text."""

    start: int  # of the word, in the text without readings
    end: int
    reading: str


def find_overrides(text: str) -> tuple[str, list[Override]]:
    """The text as it is written and seen, and the readings that were noted in it, in order. Links stay text."""
    parts: list[str] = []
    end = length = 0
    overrides: list[Override] = []
    for found in _OVERRIDE.finditer(text):
        word, reading = found.groups()
        if "://" in reading:
            continue
        before = text[end : found.start()]
        start = length + len(before)
        length = start + len(word)
        overrides.append(Override(start, length, reading))
        parts += [before, word]
        end = found.end()
    return "".join([*parts, text[end:]]), overrides


def take_overrides(text: str) -> tuple[str, list[Entry]]:
    """The same, with each reading as an entry for one occurrence of its word."""
    plain, overrides = find_overrides(text)
    return plain, [
        Entry(plain[start:end], reading, occurrence=count_word(plain[:start], plain[start:end]))
        for start, end, reading in overrides
    ]


def check_symbols(reading: str) -> None:
    """Raises InvalidInput("reading_invalid") for /symbols/ that no inventory has all of."""
    phones = _symbols(reading)
    if phones is not None and not any(symbols.issuperset(phones) for symbols in SYMBOLS.values()):
        strange = [phone for phone in phones if not any(phone in symbols for symbols in SYMBOLS.values())]
        raise InvalidInput("reading_invalid", language="–", reading=reading, part=(strange or phones)[0])


def read_syllables(entry: Pronunciation, frontend: Pronouncer) -> None:
    """Raises InvalidInput (reading_invalid, reading_length) for a reading that no text could take.

    The number of syllables is only known for words of ideographs.
    """
    pronounced = [frontend.pronounce(entry.reading, inventory) for inventory in frontend.inventories]
    syllables = pronounced[0]
    if _IDEOGRAPHS.fullmatch(entry.word) and len(syllables) != len(entry.word):
        raise InvalidInput("reading_length", word=entry.word, characters=len(entry.word), syllables=len(syllables))


def apply_readings(
    utterances: Sequence[Utterance],
    entries: Sequence[Pronunciation],
    frontends: Mapping[str, TextFrontend],
    inventory: str,
) -> list[Utterance]:
    """The utterances of one text with the phones of `entries`; longer words win, an occurrence wins over all.

    An entry for all occurrences whose symbols are of another inventory is for other engines and changes nothing.
    Raises InvalidInput("reading_invalid" | "reading_length") for a reading that does not fit its word, and
    InvalidInput("override_not_placed") where the front end reads the word only as part of a longer one.
    """
    patched = list(utterances)
    taken: set[tuple[int, int]] = set()
    for entry in sorted(entries, key=lambda e: (e.occurrence is None, -len(e.word))):
        for match in _places(entry, utterances, frontends, inventory):
            spans = {(match.utterance, span) for span in range(match.first, match.end)}
            if not spans & taken:
                taken |= spans
                frontend = frontends[utterances[match.utterance].language]
                phones = _pronounce(entry, match.end - match.first, frontend, inventory)
                patched[match.utterance] = _replace(patched[match.utterance], match, phones)
    return patched


def share_readings(pieces: Sequence[str], entries: Sequence[Pronunciation]) -> list[tuple[Pronunciation, ...]]:
    """The entries for each piece of a text that was cut: an occurrence goes to the piece that it is in.

    Raises InvalidInput("override_not_placed") for one that was torn.
    """
    shared: list[list[Pronunciation]] = [[] for _ in pieces]
    for entry in entries:
        left = entry.occurrence
        for piece, own in zip(pieces, shared, strict=True):
            if left is None:
                own.append(entry)
                continue
            held = count_word(piece, entry.word)
            if 0 <= left < held:
                own.append(replace(entry, occurrence=left))
            left -= held
        if left is not None and left >= 0:
            raise InvalidInput("override_not_placed", word=entry.word)
    return [tuple(own) for own in shared]


def _places(
    entry: Pronunciation, utterances: Sequence[Utterance], frontends: Mapping[str, TextFrontend], inventory: str
) -> list[_Match]:
    phones = _symbols(entry.reading)
    if entry.occurrence is None and not SYMBOLS.get(inventory, frozenset()).issuperset(phones or ()):
        check_symbols(entry.reading)
        return []
    matches = [
        match
        for number, utterance in enumerate(utterances)
        if entry.language in ("", utterance.language) and utterance.words
        for match in _find(number, utterance, entry.word, frontends[utterance.language], inventory)
    ]
    if entry.occurrence is None:
        return matches
    if not matches:
        raise InvalidInput("override_not_placed", word=entry.word)
    # the word may also stand inside longer words, which were counted and are no matches
    return [matches[min(entry.occurrence, len(matches) - 1)]]


def count_word(text: str, word: str) -> int:
    """How often `word` is in `text`; an approximation where it also stands inside longer Latin words."""
    is_latin = word.isascii()
    pattern = rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])" if is_latin else re.escape(word)
    return len(re.findall(pattern, text, re.IGNORECASE))


def _find(number: int, utterance: Utterance, word: str, frontend: TextFrontend, inventory: str) -> Iterator[_Match]:
    """Where the spans of an utterance together are `word`, or what the front end makes of it (simplified, spoken)."""
    matches = list(_match(number, utterance, _fold(word)))
    if not matches:
        written = "".join(span.text for span in frontend.analyse(word, inventory).words)
        matches = list(_match(number, utterance, _fold(written)))
    yield from matches


def _match(number: int, utterance: Utterance, wanted: str) -> Iterator[_Match]:
    parts = [_fold(span.text) for span in utterance.words]
    first = 0
    while first < len(parts):
        end, held = first, ""
        while parts[first] and end < len(parts) and len(held) < len(wanted) and wanted.startswith(held):
            held += parts[end]
            end += 1
        if held == wanted and wanted:
            yield _Match(number, first, end)
            first = end
        else:
            first += 1


def _fold(text: str) -> str:
    """What is compared: some front ends keep the mark after a word in the word's span."""
    return "".join(text.split()).translate(_NOT_COMPARED).casefold()


def _symbols(reading: str) -> tuple[str, ...] | None:
    """What stands between slashes; None for a reading in letters."""
    reading = reading.strip()
    return tuple(reading.strip("/").split()) if reading.startswith("/") and reading.endswith("/") else None


def _pronounce(entry: Pronunciation, units: int, frontend: TextFrontend, inventory: str) -> list[tuple[str, ...]]:
    """Phones of each of the `units` word spans."""
    reading = entry.reading.strip()
    phones = _symbols(reading)
    if phones is not None:
        unknown = [phone for phone in phones if phone not in SYMBOLS.get(inventory, phones)]
        if unknown:
            raise InvalidInput("reading_invalid", language=frontend.language, reading=reading, part=unknown[0])
        return _spread(entry, phones, units)
    if isinstance(frontend, Pronouncer):
        syllables = frontend.pronounce(reading, inventory)
        if len(syllables) == units:
            return syllables
        if _IDEOGRAPHS.fullmatch(entry.word):
            raise InvalidInput("reading_length", word=entry.word, characters=units, syllables=len(syllables))
        return _share_syllables(syllables, units, (" ",) if " " in SYMBOLS.get(inventory, ()) else ())
    phones = tuple(phone for phone in frontend.analyse(reading, inventory).phones if phone not in MARKS)
    return _spread(entry, phones, units)


def _spread(entry: Pronunciation, phones: tuple[str, ...], units: int) -> list[tuple[str, ...]]:
    if len(phones) < units:
        raise InvalidInput("reading_length", word=entry.word, characters=units, syllables=len(phones))
    borders = [len(phones) * unit // units for unit in range(units + 1)]
    return [phones[borders[unit] : borders[unit + 1]] for unit in range(units)]


def _share_syllables(syllables: Sequence[tuple[str, ...]], units: int, blank: tuple[str, ...]) -> list[tuple[str, ...]]:
    """For a number or a name in Latin letters, whose syllables are no matter of its characters."""
    borders = [len(syllables) * unit // units for unit in range(units + 1)]
    shares = [syllables[borders[unit] : borders[unit + 1]] for unit in range(units)]
    return [
        tuple(phone for syllable in share for phone in (*syllable, *blank))[: -len(blank) or None] for share in shares
    ]


def _end_of(spoken: tuple[str, ...]) -> tuple[str, ...]:
    """Blanks, marks and borders of pitch that follow a word in its own span."""
    end = len(spoken)
    while end > 1 and spoken[end - 1] in _ENDS:
        end -= 1
    return spoken[end:]


def _replace(utterance: Utterance, match: _Match, replacement: Sequence[tuple[str, ...]]) -> Utterance:
    phones: list[str] = []
    spans: list[WordSpan] = []
    for index, span in enumerate(utterance.words):
        spoken = utterance.phones[span.start : span.end]
        if match.first <= index < match.end:
            read = replacement[index - match.first]
            spoken = read + _end_of(spoken) if read else ()
        spans.append(WordSpan(span.text, len(phones), len(phones) + len(spoken)))
        phones += spoken
    return Utterance(utterance.language, utterance.normalized, tuple(phones), tuple(spans))
