"""Cut methods: what holds for any text, and the rules around them."""

from __future__ import annotations

import time

import pytest

from appliance.errors import InvalidInput
from appliance.text.cutting import METHODS, SPLITTERS, prepare_pieces, reduce_marks

LONG = "今天天气很好，我们去公园，看花，看鸟，吃饭，喝茶，写字，然后回家。" * 40


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_spoken_character_is_in_exactly_one_piece(method: str) -> None:
    for text in (LONG, "Hello there. It costs 3.5 dollars, doesn't it? Yes!", "一\n二\n三三三三三三\n\n四"):
        pieces = prepare_pieces(text, "zh", method)
        spoken = [character for character in "".join(pieces) if character.isalnum()]
        assert spoken == [character for character in text if character.isalnum()]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_pieces_stay_below_the_limit_and_the_text_ends_in_a_mark(method: str) -> None:
    for text in (LONG, LONG.replace("。", "，"), "短句", "长" * 2000):
        pieces = prepare_pieces(text, "zh", method)
        assert all(len(piece) <= 510 for piece in pieces)
        assert pieces[-1][-1] in SPLITTERS


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("text", ["", "\n\n", "...", "。！？", " , . ", "😀"])
def test_text_without_words_gives_no_pieces(method: str, text: str) -> None:
    assert prepare_pieces(text, "zh", method) == []


def test_a_short_opening_gets_a_pause_of_its_language() -> None:
    assert prepare_pieces("你好", "zh", "cut0") == ["。你好。"]
    assert prepare_pieces("Hi", "en", "cut0") == [".Hi."]
    assert prepare_pieces("Hello", "en", "cut0") == ["Hello."]


def test_marks_are_reduced_only_where_that_is_asked() -> None:
    assert reduce_marks("what?!... -- no") == "what? - no"
    assert prepare_pieces("Really?!! Yes it is", "en", "cut0", is_reduced=False) == ["Really?!! Yes it is."]


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        prepare_pieces("你好", "zh", "cut9")
    assert caught.value.code == "cut_method_unknown"
    assert "cut9" in caught.value.message("en")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_megabyte_takes_seconds_at_most(method: str) -> None:
    for text in (LONG * 400, "。" * 300_000, "a" * 300_000, "1." * 150_000):
        started = time.monotonic()
        prepare_pieces(text, "zh", method)
        assert time.monotonic() - started < 10
