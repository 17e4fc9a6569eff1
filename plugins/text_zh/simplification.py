"""Traditional -> simplified characters, one by one: phrases are left alone, so that indices stay."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

# as the training texts had it, where OpenCC's first choice differs
_EXCEPTIONS = {"鍾": "锺"}
_LAST_COMMON = "龥"  # what is simplified to a rarer character (嗰) would be deleted by the normaliser


def load_simplifier() -> Callable[[str], str]:
    """A function from text to text of the same length. Imports OpenCC."""
    import opencc

    convert = opencc.OpenCC("t2s").convert

    @lru_cache(maxsize=20_000)
    def simplify(character: str) -> str:
        simplified = _EXCEPTIONS.get(character) or convert(character)
        return simplified if "一" <= simplified <= _LAST_COMMON else character

    return lambda text: "".join(map(simplify, text))
