"""From text to token ids."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from appliance.contracts import TextFrontend
from appliance.engine.embedded.assets import read_vocabulary
from appliance.engine.embedded.phrases import MAX_PHONES, analyse_text, cut_phrases, encode_phrase
from appliance.errors import InvalidInput
from appliance.text.frontends import KOKORO, SYMBOLS

from .conftest import SpellingFrontend, needs_weights


def installed_frontends() -> dict[str, TextFrontend]:
    """The front ends of all installed plugins."""
    found: dict[str, TextFrontend] = {}
    for entry in entry_points(group="voiced"):
        if entry.name.startswith("text_"):
            entry.load().register_frontends(register=lambda name, factory: found.__setitem__(name, factory()))
    return found


SENTENCES = {
    "zh": (
        "欢迎光临，今天全场商品打九折！会员还可以再享受一次抽奖。",
        "请拨打400-800-1234，或访问 www.example.com，截止到2026年11月30日。",
        "“于阿姨”说：一个女儿、两个鸭蛋；嗯，哎哟……呣？",
        "iPhone 15 Pro 售价￥7,999，共5kg，气温-3℃，涨幅12.5%。",
    ),
    "en": (
        "The store closes at 9:30 p.m. on Nov. 22nd; please don't be late!",
        "Xylophonist Zbigniew paid $1,234.56 for 3/4 of it (e.g. C++, B2B & R2-D2)…",
        "Naïve café owners queue — “why?”",
    ),
    "ja": (
        "いらっしゃいませ、本日は全品10%引きです。",
        "ヴァイオリンとチェロ、ファッション、ッと言った！",
        "東京タワーは333mです。",
    ),
}
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


@needs_weights
def test_the_model_has_a_sound_for_every_symbol_that_front_ends_emit() -> None:
    assert set(SYMBOLS[KOKORO]) == set(read_vocabulary())


@needs_weights
@pytest.mark.parametrize("language", sorted(SENTENCES))
def test_every_installed_front_end_speaks_the_models_symbols(language: str) -> None:
    frontends = installed_frontends()
    if language not in frontends:
        pytest.skip(f"no front end for {language} is installed")
    vocabulary = read_vocabulary()
    for sentence in SENTENCES[language]:
        symbols = analyse_text(sentence, language, frontends)
        tokens = encode_phrase(symbols, vocabulary)
        assert tokens.shape[1] > len(sentence) / 4
