"""Prompt sheets: what a speaker reads, about a minute and a half per language, rich in the language's sounds."""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources

from appliance.contracts import JsonDict
from appliance.errors import InvalidInput

LANGUAGES = ("zh", "en", "mixed")
HAN_PER_S, WORDS_PER_S = 4.5, 2.5  # calm reading
PAUSE_S = 0.5  # beside the words of a line
_HAN = re.compile("[\u4e00-\u9fff]")
_WORD = re.compile("[A-Za-z]+")


@dataclass(frozen=True)
class Prompt:
    """One line to read."""

    id: str  # "zh-1.03"
    language: str  # "zh" | "en" | "mixed"
    text: str

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        return round(
            len(_HAN.findall(self.text)) / HAN_PER_S + len(_WORD.findall(self.text)) / WORDS_PER_S + PAUSE_S, 1
        )

    def as_json(self) -> JsonDict:
        return asdict(self) | {"seconds": self.seconds}

    @classmethod
    def from_json(cls, record: JsonDict) -> Prompt:
        return cls(record["id"], record["language"], record["text"])


@dataclass(frozen=True)
class Sheet:
    """All lines of a language. `name` changes whenever a line does."""

    name: str
    prompts: tuple[Prompt, ...]


@cache
def prompt_sheet(language: str) -> Sheet:
    """Raises InvalidInput("prompt_language_unknown")."""
    if language not in LANGUAGES:
        raise InvalidInput("prompt_language_unknown", language=language[:20], known=", ".join(LANGUAGES))
    content = resources.files("appliance").joinpath(f"data/prompts/{language}.toml").read_text(encoding="utf-8")
    sheet = tomllib.loads(content)
    name, lines = str(sheet["name"]), enumerate(sheet["lines"], start=1)
    return Sheet(name, tuple(Prompt(f"{name}.{number:02d}", language, line) for number, line in lines))
