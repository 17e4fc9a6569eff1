"""Cleaning, clauses and language runs: what is kept, what is dropped, and how long the worst input takes."""

from __future__ import annotations

import random
import time
import unicodedata

import pytest

from appliance.text.clauses import split_clauses
from appliance.text.cleaning import clean_text, has_speech
from appliance.text.languages import split_languages

N = 100_000
HOSTILE = {
    "digits": "1" * N,
    "emoji": "😀" * N,
    "nul": "\0" * N,
    "lone surrogates": "\ud800" * N,
    "tags": "<b>" * (N // 3),
    "100k SSML tags": '<break time="1s"/>' * N,
    "unclosed tag": "<a" + " x=''" * (N // 5),
    "tag of blanks": "<a" + " " * N,
    "left angles": "<" * N,
    "combining marks": "a" + "\u0301\u0316" * (N // 2),
    "ideographs": "你" * N,
    "kana": "あ" * N,
    "jamo": "\u1100\u1161" * (N // 2),
    "alternating": "你a1。" * (N // 4),
    "letters": "a" * N,
    "dotted letters": "a." * (N // 2),
    "lone dots": ". " * (N // 2),
    "commas": "1," * (N // 2),
    "hyphens": "a" + "-" * N,
    "number hyphens": "1" + "-" * N,
    "slashes": "1/" * (N // 2),
    "quotes": "。" + "”" * N,
    "brackets": "(" * N,
    "newlines": "\n" * N,
    "marks": "!?" * (N // 2),
    "blanks": " " * N,
}


def speakable(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_costs_little_time(name: str) -> None:
    text = HOSTILE[name]
    for function in (clean_text, split_clauses, split_languages, has_speech):
        start = time.process_time()
        function(text)
        seconds = time.process_time() - start
        assert seconds < 1.0 * max(1, len(text) / N), (
            f"{function.__name__} took {seconds:.2f} s"
        )  # 0.2 s on a quiet box


def test_plain_100k_characters_are_split_quickly() -> None:
    text = "你好，欢迎光临！本店将于晚上九点半打烊。It costs $3.14, or 10,000 yen. " * (N // 55)
    best = min(_seconds(lambda: (clean_text(text), split_clauses(text), split_languages(text))) for _ in range(3))
    assert best < 0.6  # three functions at 0.2 s


def _seconds(work) -> float:  # type: ignore[no-untyped-def]
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_speakable_is_lost_from_hostile_text(name: str) -> None:
    text = HOSTILE[name][:5000]
    assert speakable("".join(split_clauses(text))) == speakable(text)
    assert "".join(piece for _, piece in split_languages(text)) == text


def test_random_text_survives_every_function() -> None:
    alphabet = (
        "你好世界，。！？、；：“”（）aB zZ.,!?;:'-/@#$%&*<>=1234567890\n\t…—😀ー日本のカタカナé한\0\ud83d\u200d\u0301"
    )
    dice = random.Random(7)
    for _ in range(400):
        text = "".join(dice.choices(alphabet, k=dice.randint(0, 300)))
        assert speakable("".join(split_clauses(text))) == speakable(text), repr(text)
        assert "".join(piece for _, piece in split_languages(text)) == text, repr(text)
        cleaned = clean_text(text)
        assert clean_text(cleaned) == cleaned, repr(text)
        cleaned.encode()  # no lone surrogate is left
        assert unicodedata.is_normalized("NFC", cleaned)


def test_cleaning_drops_what_cannot_be_spoken_and_keeps_the_rest() -> None:
    assert clean_text("a\0b\u200b\ufeffc\ud800") == "abc"
    assert clean_text("e\u0301te\u0301") == "été"
    assert clean_text("one\r\n\r\n  two\x0bthree") == "one\ntwo\nthree"
    assert clean_text("  a \t b　c ") == "a b c"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ('<speak version="1.1">你好<break time="1s"/>世界</speak>', "你好 世界"),
        ("<p>One</p><!-- hidden -->Two<?xml x?>", "One Two"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("I <3 you", "I <3 you"),
        ("a<b because c>d", "a<b because c>d"),
        ("价格<100元", "价格<100元"),
    ],
)
def test_only_what_looks_like_a_tag_is_removed(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


def test_has_speech() -> None:
    assert all(has_speech(t) for t in ("你", "a", "1", "…あ…"))
    assert not any(has_speech(t) for t in ("", "😀😀", "……！？", " \n", "\0"))


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("欢迎光临！", ["欢迎光临！"]),
        ("您好，本店将于晚上九点半打烊，请您抓紧时间选购。", ["您好，本店将于晚上九点半打烊，", "请您抓紧时间选购。"]),
        ("The price is 3.14 or 10,000 at 12:30.", ["The price is 3.14 or 10,000 at 12:30."]),
        ("Mr. Smith of the U.S. Army left.", ["Mr. Smith of the U.S. Army left."]),
        ("See https://a.com/x?y=1,2!z for more.", ["See https://a.com/x?y=1,2!z for more."]),
        ("We left at 5 p.m. Then we slept.", ["We left at 5 p.m.", "Then we slept."]),
        ("今日はいい天気ですね。明日は雨でしょう。", ["今日はいい天気ですね。", "明日は雨でしょう。"]),
        ("首行\n\n第二行", ["首行", "第二行"]),
        ("他说：“走吧！”然后我们就一起出发了。", ["他说：“走吧！”然后我们就一起出发了。"]),
        ("……", []),
        ("", []),
        ("！！！你好", ["！！！你好"]),
    ],
)
def test_clauses_end_where_a_reader_breathes(text: str, clauses: list[str]) -> None:
    assert split_clauses(text) == clauses


def test_clauses_keep_their_limit_and_start_short() -> None:
    text = "我们公司成立于一九九八年，总部设在上海，在北京、广州、深圳等地设有分公司，员工超过三千人。" * 20
    clauses = split_clauses(text)
    assert len(clauses[0]) <= 22
    assert max(map(len, clauses)) <= 62  # 120 Latin letters are 60 ideographs and their punctuation
    assert sum(map(len, clauses)) / len(clauses) > 15  # not chopped to pieces
    assert max(map(len, split_clauses("word " * 500))) <= 160
    assert {c for clause in split_clauses("hello " * 200) for c in clause.split()} == {"hello"}


@pytest.mark.parametrize(
    ("text", "hint", "runs"),
    [
        ("你好，world。", "auto", [("zh", "你好，"), ("en", "world。")]),
        ("我的 iPhone 15 到了", "auto", [("zh", "我的 "), ("en", "iPhone "), ("zh", "15 到了")]),
        ("共 5kg，MP3 播放", "auto", [("zh", "共 5kg，"), ("en", "MP3 "), ("zh", "播放")]),
        ("3 apples at 12:30", "auto", [("en", "3 apples at 12:30")]),
        ("東京へ行きます。我喜欢北京。", "auto", [("ja", "東京へ行きます。"), ("zh", "我喜欢北京。")]),
        ("東京", "ja", [("ja", "東京")]),
        ("東京", "auto", [("zh", "東京")]),
        ("2024", "zh-CN", [("zh", "2024")]),
        ("2024", "auto", [("en", "2024")]),
        ("他说（bye）", "auto", [("zh", "他说"), ("en", "（bye）")]),
        (
            "打开 www.example.com/a?b=1 看看",
            "auto",
            [("zh", "打开 "), ("en", "www.example.com/a?b=1 "), ("zh", "看看")],
        ),
        ("", "auto", []),
        ("😀", "zh", [("zh", "😀")]),
    ],
)
def test_language_runs(text: str, hint: str, runs: list[tuple[str, str]]) -> None:
    assert split_languages(text, hint) == runs
