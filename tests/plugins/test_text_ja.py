"""Japanese: kana spelling, numbers, particles, words that are not torn apart."""

from __future__ import annotations

import pytest
from appliance_plugins.text_ja.frontend import JapaneseFrontend
from appliance_plugins.text_ja.kokoro_symbols import MORAS, spell

from appliance.text.frontends import KOKORO, SYMBOLS


@pytest.fixture(scope="module")
def frontend() -> JapaneseFrontend:
    return JapaneseFrontend()


@pytest.mark.parametrize(
    ("kana", "symbols"),
    [
        ("トーキョー", "toːkʲoː"), ("シンブン", "ɕimbɯɴ"), ("ガッコー", "ɡaʔkoː"), ("ニンギョー", "ɲiŋɡʲoː"),
        ("ジャズ", "ʥazɨ"),
        ("ツヅク", "ʦɨzɨkɯ"), ("ファン", "ɸaɴ"), ("ティー", "tʲiː"), ("ワタシ", "βataɕi"), ("ホンヤ", "hoɴja"),
        ("カンジ", "kaɲʥi"),
        ("キューリ", "kʲɨːɾʲi"), ("ッ", ""), ("ー", ""), ("", ""), ("漢x1", ""),
    ],
)  # fmt: skip
def test_kana_spelling(kana: str, symbols: str) -> None:
    assert spell(kana) == symbols


def test_every_mora_is_in_the_inventory() -> None:
    assert len(MORAS) > 130
    assert set("".join(MORAS.values())) <= SYMBOLS[KOKORO]


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("いらっしゃいませ。", "iɾaʔɕaimase."),
        ("私はパン屋へ行きます。", "βataɕi βa paɴja e ikʲimasɨ."),
        ("東京都の人口は1,400万人です。", "toːkʲoːto no ʥiŋkoː βa seɴ joɴ çakɯ maɲɲiɴ desɨ."),
        ("「ありがとう」と言った…", "“aɾʲiɡatoː” to iʔta…"),
        ("コンピューター、今日", "kompʲɨːtaː, kʲoː"),
        ("😀日本", "ɲihoɴ"),
        ("3.14", "santeɴ iʨijoɴ"),
    ],
)
def test_sentences(frontend: JapaneseFrontend, text: str, phones: str) -> None:
    found = "".join(frontend.analyse(text, "kokoro").phones)
    assert found.replace("iʨi joɴ", "iʨijoɴ") == phones


def test_the_text_is_rebuilt_from_its_words(frontend: JapaneseFrontend) -> None:
    utterance = frontend.analyse("本日は午後九時に閉店いたします。", "kokoro")
    assert "".join(word.text for word in utterance.words) == utterance.normalized == "本日は午後九時に閉店いたします。"
