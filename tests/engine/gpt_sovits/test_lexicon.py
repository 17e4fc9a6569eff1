"""Words that are said the way a tenant wants, with the front ends that are installed and tiny networks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from appliance.contracts import EngineHost, Pronunciation, SpeakTask, TextFrontend, VoiceAssets
from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine
from appliance.engine.gpt_sovits.reading import Reader
from appliance.errors import InvalidInput
from appliance.plugin_manager import load_plugins
from appliance.settings import PluginSettings
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_SYMBOLS

from .conftest import Models, clip

pytest.importorskip("jieba")
ZH = Pronunciation("重庆", "zhong4 qing4", "zh")
CASES = [
    ("zh", "我在重庆。", ZH, "zh ong4 q ing4"),
    ("zh", "单先生来了。", Pronunciation("单", "shan4", "zh"), "sh an4"),
    ("zh", "我去重慶玩。", Pronunciation("重慶", "zhong4 qing4", "zh"), "zh ong4 q ing4"),
    ("zh", "我用Xiaomi手机。", Pronunciation("Xiaomi", "/SH AW1 M IY0/", "en"), "SH AW1 M IY0"),
    ("en", "Ask Siobhan now.", Pronunciation("siobhan", "/SH IH0 V AO1 N/", "en"), "SH IH0 V AO1 N"),
    ("ja", "日本へ行く。", Pronunciation("日本", "にっぽん", "ja"), "cl p o"),
    ("yue", "我好。", Pronunciation("好", "hou3", "yue"), "Yh You3"),
    ("ko", "안녕하세요 서울.", Pronunciation("서울", "써울", "ko"), "ㅆ ㅓ ㅇ ㅜ ㄹ ."),
]


class Ones:
    """Marks where features would be, and insists on one count per character, as BERT does."""

    def phone_features(self, text: str, word2ph: Sequence[int]) -> torch.Tensor:
        assert len(text) == len(word2ph)
        return torch.ones(1024, sum(word2ph))


@pytest.fixture(scope="module")
def frontends() -> dict[str, TextFrontend]:
    return {name: factory() for name, factory in load_plugins(PluginSettings()).frontends.items()}


@pytest.fixture(scope="module")
def reader(frontends: dict[str, TextFrontend]) -> Reader:
    return Reader(frontends, "gpt_sovits_v2", Ones)  # type: ignore[arg-type]


def phones(reader: Reader, text: str, language: str, *lexicon: Pronunciation) -> str:
    symbols = GPT_SOVITS_SYMBOLS["gpt_sovits_v2"]
    reading = reader.read(text, language, lexicon)
    assert reading.bert.shape[1] == len(reading.phones)
    return " ".join(symbols[number] for number in reading.phones.tolist())


@pytest.mark.parametrize(("language", "text", "entry", "wanted"), CASES)
def test_the_word_is_read_as_wanted_and_the_rest_as_before(
    reader: Reader, language: str, text: str, entry: Pronunciation, wanted: str
) -> None:
    plain, changed = phones(reader, text, language), phones(reader, text, language, entry)
    assert wanted in changed
    assert wanted not in plain
    assert plain.split()[:2] == changed.split()[:2] or text.casefold().startswith(entry.word)
    assert plain.split()[-1] == changed.split()[-1]
    inline = replace(entry, language="", occurrence=0)
    assert phones(reader, text, language, inline) == changed
    assert phones(reader, text, language, replace(entry, language="xx")) == plain


def test_a_reading_that_does_not_fit_is_refused(reader: Reader) -> None:
    for reading, code in (
        ("chong2 qinq4", "reading_invalid"),
        ("chong2", "reading_length"),
        ("/Q9/", "reading_invalid"),
    ):
        with pytest.raises(InvalidInput) as caught:
            reader.read("我在重庆。", "zh", [Pronunciation("重庆", reading, occurrence=0)])
        assert caught.value.code == code


def test_the_sound_changes_at_the_place_that_was_meant(
    models: Models, host: EngineHost, frontends: dict[str, TextFrontend]
) -> None:
    networks = {"s1": models.s1(11), "s2": models.s2(12)}
    voice: VoiceAssets = models.voice("lena", networks, models.reference("lena", clip(3.0)), text_split_method="cut5")
    threads = torch.get_num_threads()
    engine = GptSovitsEngine()
    engine.load(EngineHost({}, frontends, host.cache_dir, threads=1))

    def say(*lexicon: Pronunciation) -> bytes:
        task = SpeakTask("单先生，单女士。", voice, "zh", seed=3, lexicon=lexicon)
        parts = [chunk.audio.samples for chunk in engine.speak(task, threading.Event())]
        return np.concatenate(parts).tobytes()

    places = [Pronunciation("单", "shan4", occurrence=number) for number in (0, 1)]
    heard = [say(), say(Pronunciation("单", "shan4", "zh")), *(say(place) for place in places)]
    again = say(*places)
    engine.close()
    torch.set_num_threads(threads)
    assert len(set(heard)) == 4
    assert again == heard[1]  # both places are all places
