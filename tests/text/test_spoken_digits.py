"""Digits are heard however a recogniser writes them."""

from __future__ import annotations

import pytest

from appliance.text.spoken_digits import digits_in, says_digits


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("Today's number is 739, 251.", "739251"),
        ("seven three nine, two five one", "739251"),
        ("今天的号码是七三九二五一", "739251"),
        ("号码 ７３９ 二五幺", "739251"),
        ("no number at all", ""),
    ],
)
def test_digits_of(text, digits):
    assert digits_in(text) == digits


def test_one_digit_may_be_misheard_lost_or_added_and_no_more():
    assert says_digits("I, Anna, agree. 12 days. 7 3 9 2 5 1", "739251")
    assert says_digits("7 3 9 8 5 1", "739251")
    assert says_digits("7 3 9 5 1", "739251")
    assert says_digits("7 3 9 2 2 5 1", "739251")
    assert not says_digits("7 3 8 8 5 1", "739251")
    assert not says_digits("my number", "739251")
