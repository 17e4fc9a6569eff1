"""Korean as it is spoken: g2pk2's rules, applied in its order.

Of g2pk2 only the rules are used. Its own entry point downloads a dictionary when it is imported and installs MeCab by
itself, so the modules beside it are loaded without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

Rule = Callable[[str], str]
Tag = Callable[[str], Sequence[tuple[str, str]]]

_SPECIAL = (
    "jyeo", "ye", "consonant_ui", "josa_ui", "vowel_ui", "jamo", "rieulgiyeok", "rieulbieub", "verb_nieun", "balb",
    "palatalize", "modifying_rieul",
)  # fmt: skip
_LINKS = ("link1", "link2", "link3", "link4")
_COUNTED = re.compile(r"([0-9][0-9,]*)([ㄱ-힣]+)/B")
_DIGITS = str.maketrans("0123456789", "영일이삼사오육칠팔구")
_NOTES = re.compile("/[PJEB]")
_loading = threading.Lock()


@dataclass(frozen=True)
class Korean:
    """The rules and the dictionary, loaded. `tag` gives words with their part of speech, blanks left out."""

    tag: Tag
    idioms: Sequence[tuple[re.Pattern[str], str]]
    annotate: Callable[[str, Any], str]
    count: Callable[..., str]
    counters: str  # units that take native numerals
    decompose: Rule
    special: Sequence[Rule]
    table: Sequence[tuple[re.Pattern[str], str]]
    links: Sequence[Rule]
    compose: Rule

    def pos(self, text: str) -> list[tuple[str, str]]:
        """What `annotate` asks of MeCab."""
        return list(self.tag(text))

    def pronounce(self, text: str) -> str:
        """Text -> Hangul syllables as spoken, numbers in words: "3개를" -> 세개를."""
        for pattern, spoken in self.idioms:
            text = pattern.sub(spoken, text)
        letters = self.decompose(self._speak_numbers(self.annotate(text, self)))
        for rule in self.special:
            letters = rule(letters)
        letters = _NOTES.sub("", letters)
        for pattern, spoken in self.table:
            letters = pattern.sub(spoken, letters)
        for rule in self.links:
            letters = rule(letters)
        return self.compose(letters)

    def _speak_numbers(self, text: str) -> str:
        """Counted things by value (native numerals for some units), all other digits one by one.

        One pass from the left: g2pk2 replaces in the order of a set, which differs from run to run.
        """

        def speak(match: re.Match[str]) -> str:
            number, unit = match[1], match[2]
            if len(number.replace(",", "")) > _LONGEST_NUMBER:
                return match[0]
            return f"{self.count(number, sino=unit not in self.counters)}{unit}/B"

        return _COUNTED.sub(speak, text).translate(_DIGITS)


_LONGEST_NUMBER = 16  # digits that have names


def load_korean() -> Korean:
    """Import the rules and open the dictionary, about 0.3 s; ImportError when a package is missing."""
    import jamo
    import mecab_ko

    special, regular = _load_rules("special"), _load_rules("regular")
    numerals, rules = _load_rules("numerals"), _load_rules("utils")
    tagger = mecab_ko.Tagger()
    lock = threading.Lock()

    def tag(text: str) -> list[tuple[str, str]]:
        with lock:
            return _read_nodes(tagger.parseToNode(text))

    return Korean(
        tag=tag,
        idioms=_parse_idioms(),
        annotate=rules.annotate,
        count=numerals.process_num,
        counters=numerals.BOUND_NOUNS,
        decompose=jamo.h2j,
        special=[getattr(special, name) for name in _SPECIAL],
        table=[(re.compile(written), spoken) for written, spoken, _ in rules.parse_table()],
        links=[getattr(regular, name) for name in _LINKS],
        compose=rules.compose,
    )


def _load_rules(name: str) -> ModuleType:
    """A module of g2pk2 without running the package's __init__."""
    with _loading:
        if "g2pk2" not in sys.modules:
            spec = importlib.util.find_spec("g2pk2")
            if spec is None:
                raise ImportError("no package g2pk2")
            sys.modules["g2pk2"] = importlib.util.module_from_spec(spec)
        return importlib.import_module(f"g2pk2.{name}")


def _parse_idioms() -> list[tuple[re.Pattern[str], str]]:
    from importlib.resources import files

    lines = (line.split("#")[0].strip() for line in (files("g2pk2") / "idioms.txt").read_text("utf-8").splitlines())
    pairs = (line.split("===") for line in lines if "===" in line)
    return [(re.compile(written), spoken) for written, spoken in pairs]


def _read_nodes(node: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    while node:
        if node.surface:
            found.append((node.surface, node.feature.split(",", 1)[0]))
        node = node.next
    return found
