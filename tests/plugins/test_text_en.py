"""English: what is read out where hibari alone would not, and how whole sentences are spelt."""

from __future__ import annotations

import time

import pytest
from appliance_plugins.text_en.frontend import EnglishFrontend
from appliance_plugins.text_en.normalisation import normalise


@pytest.fixture(scope="module")
def frontend() -> EnglishFrontend:
    return EnglishFrontend()


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        (
            "Visit https://www.example.com/a?b=1.",
            "Visit W. W. W. dot example dot com slash A. question mark B. equals 1.",
        ),
        ("mail info@example.com", "mail info at example dot com"),
        ("Call +1 (415) 555-0100", "Call plus one, four one five, five five five, zero one zero zero"),
        ("version 2.0.1", "version 2 point 0 point 1"),
        ("Order 12345678901", "Order one two three four, five six seven eight, nine zero one"),
        ("10 x 20", "10 by 20"),
        ("100km/h", "100km per hour"),
        ("5 m/s", "5 meters per second"),
        ("C# and C++", "C sharp and C++"),
        ("50-60%", "50 to 60%"),
        ("（ok）。", "(ok)."),
        ("[x](/y/)", "(x)(/y/)"),
        ("hi😀你好", "hi"),
        ("wow!!!!!", "wow!"),
        ("3.14 and 10,000 at 9:30", "3.14 and 10,000 at 9:30"),
    ],
)
def test_normalisation(written: str, spoken: str) -> None:
    assert normalise(written) == spoken


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("Welcome to our store.", "wˈɛlkəm tʊ ˌWəɹ stˈɔɹ."),
        ("It costs $3.14.", "ˌɪt kˈɔsts θɹˈi dˈɑləɹz ænd fˌɔɹtˈin sˈɛnts."),
        ("NASA and the FBI", "nˈæsə ænd ði ˌɛfbˌiˈI"),
        ("Dr. Smith at 9:30 a.m.", "dˈɑktəɹ smˈɪθ æt nˈIn θˈɜɹTi ˌAˈɛm."),
        ("15% off, 2nd floor", "fˌɪftˈin pəɹsˈɛnt ˈɔf, sˈɛkənd flˈɔɹ"),
        ("Plan A, or a plan", "plˈæn ˈA, ɔɹ ɐ plˈæn"),
        ("A", "ˈA"),
    ],
)
def test_sentences(frontend: EnglishFrontend, text: str, phones: str) -> None:
    assert "".join(frontend.analyse(text, "kokoro").phones).rstrip(".") == phones.rstrip(".")


def test_unknown_words_are_read_too(frontend: EnglishFrontend) -> None:
    utterance = frontend.analyse("Voicedbox zyxglorp", "kokoro")
    assert [word.text for word in utterance.words] == ["Voicedbox", "zyxglorp"]


@pytest.mark.parametrize("unit", ["a-", "a/", "aA", "1,", "a@", "xq7-", "A", "1:", "'", "hello world, "])
def test_a_long_clause_without_blanks_stays_cheap(frontend: EnglishFrontend, unit: str) -> None:
    frontend.analyse("warm", "kokoro")
    start = time.process_time()
    frontend.analyse(unit * (1000 // len(unit)), "kokoro")
    assert time.process_time() - start < 4.0
