"""English for GPT-SoVITS: numbers and signs in words, sources of a reading in order, spans."""

from __future__ import annotations

import pytest
from appliance_plugins.text_en.frontend import EnglishFrontend

from appliance.contracts import Utterance


@pytest.fixture(scope="module")
def frontend() -> EnglishFrontend:
    return EnglishFrontend()


def read(frontend: EnglishFrontend, text: str) -> Utterance:
    return frontend.analyse(text, "gpt_sovits_v2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Meet at 00:30, 12:05 or 18:00.", "Meet at zero thirty a.m. twelve five p.m. or six o'clock p.m."),
        ("It costs $1 or £2.50 or 3$.", "It costs one dollar or two pounds and fifty pence or three dollars."),
        ("1/4 of 3/2", "one fourth of three halves"),
        ("1105 or 2100", "eleven oh five or twenty-one hundred"),
        ("2003 and 3001.", "two thousand three and three thousand one."),
        ("100km/h, 1h, 2.5L", "one hundred kilometers per hour, one hour, two point five liters"),
        ("1. Go", "first, Go"),
        ("born in 1999. Then", "born in nineteen ninety-nine. Then"),
        ("NASA's iPhone", "N A S A's i Phone"),
        ("well - no", "well - no"),
        ("9 - 4, x - y", "nine minus four, x minus y"),
        ("你好 café！", " cafe!"),
        ("1234567890123456", "one two three four five six seven eight nine zero one two three four five six"),
    ],
)  # fmt: skip
def test_normalised_text(frontend: EnglishFrontend, text: str, words: str) -> None:
    assert read(frontend, text).normalized == words


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("A team", "EY1 T IY1 M"),
        ("a team", "AH0 T IY1 M"),
        ("chatgpt", "CH AE1 T JH IY1 P IY1 T IY1"),  # a word of its own
        ("xqz today", "EH1 K S K Y UW1 Z IY1 T AH0 D EY1"),  # short and unknown: letters
        ("the ai", "DH AH0 EY1 AY1"),
        ("bosses' box's", "B AO1 S IH0 Z - B AA1 K S AH0 Z"),
        ("Aadi left", "AA1 D IY0 L EH1 F T"),  # a name
        ("yellowcarpet", "Y EH1 L OW0 K AA1 R P AH0 T"),  # word parts
        ("to record a record", "T UW1 R IH0 K AO1 R D AH0 R EH1 K ER0 D"),
        ("go", ", G OW1"),
        ("℃", ","),
        ("", ""),
    ],
)
def test_phones(frontend: EnglishFrontend, text: str, phones: str) -> None:
    assert " ".join(read(frontend, text).phones) == phones


def test_unknown_words_are_read_by_the_network(frontend: EnglishFrontend) -> None:
    phones = read(frontend, "zorblaxian").phones
    assert phones[0] == "Z" and phones[-1] == "N" and 7 <= len(phones) <= 12


def test_words_have_their_spans_and_v1_reads_the_same(frontend: EnglishFrontend) -> None:
    utterance = read(frontend, "Hello, world.")
    assert [word.text for word in utterance.words] == ["Hello", ",", "world", "."]
    assert frontend.analyse("Hello, world.", "gpt_sovits_v1") == utterance
