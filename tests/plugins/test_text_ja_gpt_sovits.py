"""Japanese for GPT-SoVITS: pitch marks, numbers and counters, spans."""

from __future__ import annotations

import pytest
from appliance_plugins.text_ja.frontend import JapaneseFrontend


@pytest.fixture(scope="module")
def frontend() -> JapaneseFrontend:
    return JapaneseFrontend()


@pytest.mark.parametrize(
    ("text", "kana"),
    [
        ("3本", "saNboN"), ("6匹", "roclpiki"), ("8匹", "haclpiki"), ("10個", "juclko"), ("4時", "yoji"),
        ("9時9分", "kujikyuufuN"), ("7月", "shichigatsu"), ("300円", "saNbyakueN"), ("8000円", "haclseNeN"),
        ("600億円", "roclpyakuokueN"), ("1兆", "iclchoo"), ("20000", "nimaN"), ("10000", "ichimaN"),
        ("1人と2人と4人", "hitoritofutaritoyoniN"), ("5月1日", "gogatsutsuitachi"), ("14日", "juuyoclka"),
        ("20日", "hatsuka"), ("24日間", "nijuuyoclkakaN"), ("3日間", "miclkakaN"), ("番号1234", "baNgooichiniisaNyoN"),
        ("090", "zerokyuuzero"), ("50%", "gojuclpaaseNto"), ("行きましょう", "ikimashoo"), ("二棟", "futamune"),
    ],
)  # fmt: skip
def test_numbers_counters_and_long_vowels(frontend: JapaneseFrontend, text: str, kana: str) -> None:
    phones = frontend.analyse(text, "gpt_sovits_v2").phones
    assert "".join(phone for phone in phones if phone not in ("[", "]", "UNK")) == kana


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("橋", "h a [ sh i"),
        ("箸を", "h a ] sh i o"),
        ("山・川", "y a [ m a _ k a [ w a"),
        ("え？！", "e ? !"),
        ("「本」", "UNK h o ] N UNK"),
        ("", ""),
    ],
)
def test_pitch_and_marks(frontend: JapaneseFrontend, text: str, phones: str) -> None:
    assert " ".join(frontend.analyse(text, "gpt_sovits_v2").phones) == phones


def test_v1_has_no_pitch(frontend: JapaneseFrontend) -> None:
    assert frontend.analyse("橋", "gpt_sovits_v1").phones == ("h", "a", "UNK", "sh", "i")


def test_words_have_their_spans(frontend: JapaneseFrontend) -> None:
    utterance = frontend.analyse("橋の端。", "gpt_sovits_v2")
    assert [word.text for word in utterance.words] == ["橋", "の", "端", "。"]
    assert utterance.phones[utterance.words[0].start : utterance.words[0].end] == ("h", "a", "[", "sh", "i", "]")
