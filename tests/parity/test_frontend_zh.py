"""Mandarin for GPT-SoVITS: normalised text, phones and phones per character are those of the original."""

from __future__ import annotations

import pytest
from appliance_plugins.text_zh.frontend import MandarinFrontend
from appliance_plugins.text_zh.gpt_sovits_reading import Readers, load_readers
from appliance_plugins.text_zh.gpt_sovits_symbols import spell_reading
from parity_recipe import load_json, load_jsonl

from appliance.text.gpt_sovits_symbols import GPT_SOVITS_SYMBOLS, phone_ids

LEAST_SHARE = 0.97


@pytest.fixture(scope="module")
def frontend() -> MandarinFrontend:
    return MandarinFrontend()


@pytest.fixture(scope="module")
def readers() -> Readers:
    return load_readers()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_symbols_have_the_ids_of_the_original(version: str) -> None:
    assert list(GPT_SOVITS_SYMBOLS[f"gpt_sovits_{version}"]) == load_json(f"symbols_{version}.json")


def test_every_syllable_is_spelt_as_in_the_original() -> None:
    table = load_json("pinyin_to_symbols.json")
    for pinyin, (onset, final) in table.items():
        if pinyin not in ("lue", "nue"):  # the same sound as lve, nve, which is how pypinyin writes it
            assert spell_reading(f"{pinyin}3") == [(onset, f"{final}3")]


def test_normalised_text_phones_and_spans_are_those_of_the_original(frontend: MandarinFrontend) -> None:
    different = []
    cases = load_jsonl("frontend_zh.jsonl")
    for case in cases:
        utterance = frontend.analyse(case["text"], "gpt_sovits_v2")
        assert utterance.normalized == case["norm_text"]
        found = (list(utterance.phones), [span.end - span.start for span in utterance.words])
        if found != (case["phones"], case["word2ph"]):
            different.append(case["text"])
        else:
            assert phone_ids(utterance.phones, "gpt_sovits_v2") == case["phone_ids_v2"]
    assert 1 - len(different) / len(cases) >= LEAST_SHARE, different


def test_words_and_their_tags_are_those_of_the_original(readers: Readers) -> None:
    for case in load_jsonl("frontend_zh.jsonl"):
        for clause in case["jieba"]:
            text = "".join(word for word, _ in clause)
            assert [list(word) for word in readers.tag(text)] == clause
