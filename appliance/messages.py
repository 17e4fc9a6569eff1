"""Every sentence that people read, in English and Chinese, from one catalogue per language.

A catalogue is the sum of the TOML files in `locale/LANGUAGE/`, one per room, keyed `code.message`, `code.remedy`, or
any dotted key; a test keeps the keys and placeholders of both languages equal.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

LANGUAGES = ("en", "zh")


@cache
def catalogue(language: str) -> dict[str, str]:
    """All sentences of one language, flat: dotted key -> template with `{name}` placeholders."""
    rows: dict[str, str] = {}
    for entry in resources.files("appliance").joinpath(f"locale/{language}").iterdir():
        if entry.name.endswith(".toml"):
            rows.update(_flatten(tomllib.loads(entry.read_text(encoding="utf-8")), ""))
    return rows


def _flatten(table: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        rows += _flatten(value, f"{name}.") if isinstance(value, dict) else [(name, str(value))]
    return rows


class _Blank(dict[str, Any]):
    """A placeholder nobody filled shows as itself: a message must never hide the error it describes."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def text(key: str, language: str = "en", /, **values: Any) -> str:
    """The sentence for `key`, filled in; the key itself when the catalogue lacks it (never an exception)."""
    template = catalogue(language if language in LANGUAGES else "en").get(key)
    if template is None:
        return key
    try:
        return template.format_map(_Blank(values))
    except (ValueError, TypeError):  # a figure that its format does not fit, or a missing one that has a format
        return template


def preferred_language(*hints: str | None) -> str:
    """The first hint (an Accept-Language header, LANG, a `lang=` value) that asks for Chinese or English; else "en"."""
    for hint in hints:
        for part in (hint or "").replace("_", "-").lower().split(","):
            tag = part.split(";")[0].strip()
            if tag.split("-")[0] in LANGUAGES:
                return tag.split("-")[0]
    return "en"
