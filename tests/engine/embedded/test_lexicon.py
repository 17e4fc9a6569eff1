"""Words that are said the way a tenant wants: other phones, other sound, nothing else changed."""

from __future__ import annotations

import threading
from importlib.metadata import entry_points

import numpy as np
import pytest
from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend

from appliance.contracts import EngineHost, Pronunciation, SpeakTask, TextFrontend, VoiceAssets
from appliance.engine.embedded.phrases import analyse_text
from appliance.engine.embedded.pipeline import EmbeddedEngine
from appliance.errors import InvalidInput
from appliance.text.marked import split_marked

from .conftest import needs_weights

CASES = [
    ("zh", "我在重庆。", Pronunciation("重庆", "zhong4 qing4", "zh"), "ꭧʰʊ↗ŋ ʨʰi↘ŋ", "ꭧʊ↘ŋ ʨʰi↘ŋ"),
    ("zh", "单先生来了。", Pronunciation("单", "dan1", "zh"), "ʂa↘n", "ta→n"),
    ("en", "Ask Siobhan now.", Pronunciation("siobhan", "shivawn", "en"), "", "ʃˈɪvɔn"),
    ("ja", "日本へ行く。", Pronunciation("日本", "にっぽん", "ja"), "ɲihoɴ", "ɲiʔpoɴ"),
    ("auto", "我用Xiaomi手机", Pronunciation("Xiaomi", "shao mee", "en"), "", "ʃˈW mˈi"),
]


@pytest.fixture(scope="module")
def frontends() -> dict[str, TextFrontend]:
    found: dict[str, TextFrontend] = {}
    for entry in entry_points(group="voiced"):
        if entry.name in ("text_zh", "text_en", "text_ja"):
            entry.load().register_frontends(register=lambda name, factory: found.__setitem__(name, factory()))
    return found


@pytest.mark.parametrize(("language", "text", "entry", "before", "after"), CASES)
def test_only_the_phones_of_the_word_change(
    frontends: dict[str, TextFrontend], language: str, text: str, entry: Pronunciation, before: str, after: str
) -> None:
    plain = analyse_text(text, language, frontends)
    changed = analyse_text(text, language, frontends, [entry])
    assert after in changed
    assert after not in plain
    assert before in plain
    if before:
        assert changed == plain.replace(before, after)


@pytest.mark.parametrize(("language", "text", "entry", "before", "after"), CASES)
def test_a_reading_in_the_text_does_the_same(
    frontends: dict[str, TextFrontend], language: str, text: str, entry: Pronunciation, before: str, after: str
) -> None:
    at = text.casefold().index(entry.word.casefold())
    end = at + len(entry.word)
    (clause,) = split_marked(f"{text[:at]}[{text[at:end]}]({entry.reading}){text[end:]}")
    assert clause.text == text
    said = analyse_text(clause.text, language, frontends, clause.readings)
    assert said == analyse_text(text, language, frontends, [entry])


def test_a_number_may_have_fewer_syllables_than_characters(frontends: dict[str, TextFrontend]) -> None:
    (clause,) = split_marked("拨[110](yao1 yao1 ling2)吧")
    said = analyse_text(clause.text, "zh", frontends, clause.readings)
    assert "".join(said.split()) == "pwo→" + "jau→jau→" + "li↗ŋ" + "pa"


def test_symbols_of_another_engine_change_nothing_here(frontends: dict[str, TextFrontend]) -> None:
    entry = Pronunciation("Siobhan", "/SH IH0 V AO1 N/", "en")
    assert analyse_text("Ask Siobhan.", "en", frontends, [entry]) == analyse_text("Ask Siobhan.", "en", frontends)
    with pytest.raises(InvalidInput) as caught:
        analyse_text("Ask Siobhan.", "en", frontends, [Pronunciation("Siobhan", "/SH IH0 V AO1 N/", occurrence=0)])
    assert (caught.value.code, caught.value.measured["part"]) == ("reading_invalid", "SH")


def test_a_part_of_a_word_is_refused(frontends: dict[str, TextFrontend]) -> None:
    with pytest.raises(InvalidInput) as caught:
        analyse_text("簡単です", "ja", frontends, [Pronunciation("単", "たん", occurrence=0)])
    assert caught.value.code == "override_not_placed"


@needs_weights
@pytest.mark.parametrize(("language", "text", "entry", "before", "after"), CASES[1:4])
def test_the_sound_changes(
    host: EngineHost,
    frontends: dict[str, TextFrontend],
    starters: dict[str, VoiceAssets],
    language: str,
    text: str,
    entry: Pronunciation,
    before: str,
    after: str,
) -> None:
    engine = EmbeddedEngine()
    engine.load(EngineHost({"onnxruntime": OnnxRuntimeBackend()}, frontends, host.cache_dir, threads=2))

    def say(*lexicon: Pronunciation) -> np.ndarray:
        task = SpeakTask(text, starters["jf_alpha"], language, seed=5, lexicon=lexicon)
        return np.concatenate([chunk.audio.samples for chunk in engine.speak(task, threading.Event())])

    plain, changed, again = say(), say(entry), say(entry)
    engine.close()
    assert np.array_equal(changed, again)
    assert not np.array_equal(plain[:20_000], changed[:20_000])
