"""Error rates count what was misheard, not how it is written."""

from __future__ import annotations

import pytest

from appliance.audio.transcripts import (
    character_error_rate,
    edit_distance,
    normalized_words,
    pinyin_error_rate,
    word_error_rate,
)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate"),
    [
        ("It was the best of times.", "it was the BEST of times", 0.0),
        ("one two three four", "one too three four", 0.25),
        ("one two three four", "one three four", 0.25),
        ("one two three four", "one two two three four", 0.25),
        ("don’t panic", "don't panic!", 0.0),
        ("It costs 25 dollars", "it costs twenty-five dollars", 0.0),
        ("Room 105, please", "room one hundred and five please", 0.0),
        ("", "", 0.0),
        ("", "something", 1.0),
        ("word", "", 1.0),
        ("yes", "no no no", 3.0),
        ("二十五元", "25元", 0.0),
        ("两百人", "200人", 0.0),
        ("二零二四年", "2024年", 0.0),
        ("百分之三点五", "3.5%", 0.0),
    ],
)
def test_word_error_rate(reference: str, hypothesis: str, rate: float) -> None:
    assert word_error_rate(reference, hypothesis) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("digits", "spoken"),
    [
        ("0元", "零元"),
        ("10元", "十元"),
        ("110元", "一百一十元"),
        ("1001元", "一千零一元"),
        ("10005元", "一万零五元"),
        ("1050000元", "一百零五万元"),
        ("100000001元", "一亿零一元"),
        ("3.14元", "三点一四元"),
        ("007号", "零零七号"),
    ],
)
def test_chinese_numbers_are_spelt_as_people_say_them(digits: str, spoken: str) -> None:
    assert "".join(normalized_words(digits)) == spoken


def test_homophones_are_forgiven_by_pinyin_only() -> None:
    assert character_error_rate("欢迎光临", "欢迎光林") == pytest.approx(0.25)
    assert pinyin_error_rate("欢迎光临", "欢迎光林", tones=True) == 0.0
    assert pinyin_error_rate("欢迎光临", "环迎光临", tones=True) == pytest.approx(0.25)
    assert pinyin_error_rate("欢迎光临", "环迎光临", tones=False) == 0.0
    assert pinyin_error_rate("欢迎光临", "华宁光临", tones=False) == pytest.approx(0.5)


def test_mixed_text_counts_syllables_and_words() -> None:
    assert pinyin_error_rate("请打开 Wi-Fi 开关", "请打开wi fi开关", tones=True) == 0.0
    assert pinyin_error_rate("请说 hello", "请说 hollow", tones=True) == pytest.approx(1 / 3)


def test_edit_distance_agrees_with_the_textbook() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("abcabc", "abcabc") == 0
    assert edit_distance("intention", "execution") == 5


def test_ten_thousand_digits_are_bounded() -> None:
    assert len(normalized_words("9" * 10_000)) == 10_000
