"""From text to token ids."""

from __future__ import annotations

import pytest

from appliance.engine.embedded.phrases import MAX_PHONES, analyse_text, cut_phrases, encode_phrase
from appliance.errors import InvalidInput

from .conftest import SpellingFrontend

FRONTENDS = {language: SpellingFrontend(language) for language in ("zh", "en", "ja")}


def test_languages_are_joined_with_one_blank() -> None:
    assert analyse_text("你好hello世界", "auto", FRONTENDS) == "你好 hello 世界"


def test_a_phrase_is_never_longer_than_the_style_pack_and_loses_nothing() -> None:
    symbols = ("lorem ipsum, dolor sit amet. " * 60).strip()
    phrases = cut_phrases(symbols)
    assert max(map(len, phrases)) <= MAX_PHONES and len(phrases) >= 4
    assert "".join(phrases).replace(" ", "") == symbols.replace(" ", "")
    assert all(phrase.endswith(".") for phrase in phrases)


def test_symbols_without_any_break_are_cut_all_the_same() -> None:
    assert [len(phrase) for phrase in cut_phrases("a" * 1200)] == [510, 510, 180]


def test_tokens_have_a_border_at_both_ends() -> None:
    assert encode_phrase("ab", {"a": 43, "b": 44}).tolist() == [[0, 43, 44, 0]]


def test_an_unknown_symbol_is_reported() -> None:
    with pytest.raises(InvalidInput) as caught:
        encode_phrase("aŁb", {"a": 43, "b": 44})
    assert caught.value.code == "symbol_unknown" and "U+0141" in caught.value.message()
