"""Cantonese front end without golden files."""

from __future__ import annotations

import pytest
from appliance_plugins.text_yue.frontend import CantoneseFrontend
from appliance_plugins.text_yue.jyutping import spell

from appliance.text.gpt_sovits_symbols import GPT_SOVITS_SYMBOLS


@pytest.fixture(scope="module")
def frontend() -> CantoneseFrontend:
    return CantoneseFrontend()


@pytest.mark.parametrize(
    ("syllable", "symbols"),
    [
        ("gwong2", ("Ygw", "Yong2")), ("ngo5", ("Yng", "Yo5")), ("ngaan4", ("Yng", "Yaan4")), ("m4", ("Ym", "Ym4")),
        ("aa3", ("Yaa", "Ya3")), ("nei5", ("Yn", "Yei5")), (",", (",",)), ("?!", ()), ("", ()), ("hou", ()),
    ],
)  # fmt: skip
def test_syllables_are_two_symbols(syllable: str, symbols: tuple[str, ...]) -> None:
    assert spell(syllable) == symbols


def test_traditional_and_simplified_text_sound_alike(frontend: CantoneseFrontend) -> None:
    traditional = frontend.analyse("今日天氣好好，我哋去飲茶啦！", "gpt_sovits_v2")
    simplified = frontend.analyse("今日天气好好，我哋去饮茶啦！", "gpt_sovits_v2")
    assert traditional == simplified
    assert [w.text for w in traditional.words] == list(traditional.normalized)


def test_numbers_are_read_and_all_phones_are_known(frontend: CantoneseFrontend) -> None:
    utterance = frontend.analyse("嗰間舖頭喺彌敦道328號，平咗12.5%。", "gpt_sovits_v2")
    assert "百分之十二点五" in utterance.normalized
    assert "嗰" in utterance.normalized  # its simplified form is rare and would be deleted
    assert set(utterance.phones) <= set(GPT_SOVITS_SYMBOLS["gpt_sovits_v2"])
    assert "UNK" not in utterance.phones
