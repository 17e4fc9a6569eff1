"""Cantonese for GPT-SoVITS: normalised text, phones and phones per character are those of the original."""

from __future__ import annotations

from appliance_plugins.text_yue.frontend import CantoneseFrontend
from parity_recipe import load_jsonl

from appliance.text.gpt_sovits_symbols import phone_ids

LEAST_SHARE = 0.95


def test_normalised_text_phones_and_spans_are_those_of_the_original() -> None:
    frontend = CantoneseFrontend()
    different = []
    cases = load_jsonl("frontend_yue.jsonl")
    for case in cases:
        utterance = frontend.analyse(case["text"], "gpt_sovits_v2")
        found = (utterance.normalized, list(utterance.phones), [span.end - span.start for span in utterance.words])
        if found != (case["norm_text"], case["phones"], case["word2ph"]):
            different.append(case["text"])
        else:
            assert phone_ids(utterance.phones, "gpt_sovits_v2") == case["phone_ids_v2"]
    assert 1 - len(different) / len(cases) >= LEAST_SHARE, different
