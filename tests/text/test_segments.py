"""Mixed text: request codes, and what holds for any text."""

from __future__ import annotations

from itertools import pairwise

import pytest

from appliance.errors import InvalidInput
from appliance.text.detection import Piece
from appliance.text.segments import CODES, split_request

TEXTS = (
    "我爱Java，不爱JavaScript。",
    "すみません、这个多少钱？",
    "오늘 meeting은 3시에 있어요.",
    "The price of 小米手机 is 1999 yuan.",
    "12:30",
    "。。。",
    "😀 ok 😀",
    "Привет, 你好",
)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_the_text_in_order_and_neighbours_differ(text: str, code: str) -> None:
    pieces = split_request(text, code)
    joined = "".join(piece.text for piece in pieces)
    assert joined == text or "Привет" in text or "😀" in text  # of unknown scripts only ideographs are kept
    assert all(a.language != b.language or "。" in a.text for a, b in pairwise(pieces))


@pytest.mark.parametrize("code", CODES)
def test_only_languages_that_can_be_read_come_out(code: str) -> None:
    for text in TEXTS:
        assert {piece.language for piece in split_request(text, code)} <= {"zh", "yue", "en", "ja", "ko"}


def test_codes_mean_what_the_table_says() -> None:
    text = "我哋今晚去KTV"
    assert split_request(text, "auto") == [Piece("zh", "我哋今晚去"), Piece("en", "KTV")]
    assert split_request(text, "auto_yue")[0].language == "yue"
    assert split_request(text, "yue")[0].language == "yue"
    assert split_request(text, "all_yue")[0].language == "yue"
    assert split_request(text, "all_ja") == [Piece("ja", "我哋今晚去"), Piece("en", "KTV")]
    assert split_request(text, "en") == [Piece("en", text)]


def test_numbers_go_to_a_neighbour() -> None:
    assert split_request("请把音量调到80", "auto")[-1].language == "zh"
    assert split_request("123456", "auto") == [Piece("zh", "123456")]
    assert split_request("3.14 is pi", "auto") == [Piece("en", "3.14 is pi")]


def test_empty_text_has_no_pieces_and_surrogates_do_no_harm() -> None:
    assert split_request(" \n ", "auto") == []
    assert split_request("a\ud800b 你好", "auto")


def test_an_unknown_code_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        split_request("a", "tlh")
    assert caught.value.code == "language_code_unknown"
    assert "all_yue" in caught.value.message("en")
