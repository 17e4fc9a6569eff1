"""Words -> ARPAbet, with the sources in the order of GPT-SoVITS.

Homographs by part of speech, dictionary, names, letters of short words, word parts, network.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files

_SPELLED = ("ae", "ai", "ar", "ios", "hud", "os")  # the dictionary has other words under these letters
_ADDED = {"chatgpt": "CH AE1 T JH IY1 P IY1 T IY1", "json": "JH EY1 S AH0 N", "conda": "K AA1 N D AH0"}
_VOICELESS = frozenset(("P", "T", "K", "F", "TH", "HH"))
_SIBILANT = frozenset(("S", "Z", "SH", "ZH", "CH", "JH"))
_GENITIVE = re.compile(r"([a-z]+)'s")
_LONGEST_ACRONYM = 3
_NAME_OF_A = ("EY1",)  # the article is AH0


@dataclass(frozen=True)
class Homograph:
    """Reading `first` for tags that begin with `tag`, else `second`."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    tag: str

    def choose(self, tag: str) -> tuple[str, ...]:
        return self.first if tag and (tag.startswith(self.tag) or self.tag.startswith(tag)) else self.second


def load_dictionary() -> dict[str, str]:
    """CMUdict 0.7b, the first reading of each word: "word" -> "W ER1 D". About 0.2 s."""
    words = _unpack("cmudict.txt.xz")
    for word in _SPELLED:
        words.pop(word, None)
    return words | _ADDED


def load_names() -> dict[str, str]:
    """People's names that CMUdict has not."""
    return _unpack("names.txt.xz")


def _unpack(name: str) -> dict[str, str]:
    packed = (files(__package__) / "data" / name).read_bytes()
    return dict(line.split(" ", 1) for line in lzma.decompress(packed).decode("ascii").splitlines())


def parse_homographs(text: str) -> dict[str, Homograph]:
    """Lines `HEADWORD|READING|READING|TAG` of g2p-en's homographs.en; two entries are put right as upstream does."""
    homographs = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, first, second, tag = line.strip().split("|")
            homographs[word.lower()] = Homograph(tuple(first.split()), tuple(second.split()), tag)
    homographs["read"] = Homograph(("R", "IY1", "D"), ("R", "EH1", "D"), "VBP")
    homographs["complex"] = Homograph(
        ("K", "AH0", "M", "P", "L", "EH1", "K", "S"), ("K", "AA1", "M", "P", "L", "EH0", "K", "S"), "JJ"
    )
    return homographs


@dataclass(frozen=True)
class Pronouncer:
    """Everything needed to read a word. `segment` cuts "openai" into known words, `predict` reads any letters."""

    words: dict[str, str]
    names: dict[str, str]
    homographs: dict[str, Homograph]
    segment: Callable[[str], Sequence[str]]
    predict: Callable[[str], list[str]]

    def read(self, written: str, tag: str) -> tuple[str, ...]:
        """Phones of a token with its Penn Treebank tag; a token without letters is its own phone."""
        word = written.lower()
        if not re.search("[a-z]", word):
            return (written,)
        if len(word) == 1:
            return _NAME_OF_A if written == "A" else tuple(self.words[word].split())
        if word in self.homographs:
            return self.homographs[word].choose(tag)
        if written.istitle() and word in self.names and word not in self.words:
            return tuple(self.names[word].split())
        return tuple(self.read_word(word))

    def read_word(self, word: str) -> list[str]:
        """Phones of a lower-case word, whatever its part of speech."""
        if len(word) > 1 and word in self.words:
            return self.words[word].split()
        if len(word) <= _LONGEST_ACRONYM:
            return [phone for letter in word for phone in self._read_letter(letter)]
        if genitive := _GENITIVE.fullmatch(word):
            return _add_s(self.read_word(genitive[1]))
        parts = self.segment(word)
        if len(parts) < 2:
            return self.predict(word)
        return [phone for part in parts for phone in self.read_word(part)]

    def _read_letter(self, letter: str) -> list[str]:
        if letter == "a":
            return ["EY1"]
        return self.words[letter].split() if letter.isalpha() else [letter]


def _add_s(phones: list[str]) -> list[str]:
    if phones[-1] in _VOICELESS:
        return [*phones, "S"]
    return [*phones, "AH0", "Z"] if phones[-1] in _SIBILANT else [*phones, "Z"]
