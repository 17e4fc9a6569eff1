"""English for GPT-SoVITS: normalised text and phones are those of the original."""

from __future__ import annotations

from appliance_plugins.text_en.frontend import EnglishFrontend
from parity_recipe import load_jsonl

from appliance.text.gpt_sovits_symbols import phone_ids

LEAST_SHARE = 0.95


def test_normalised_text_and_phones_are_those_of_the_original() -> None:
    frontend = EnglishFrontend()
    different = []
    cases = load_jsonl("frontend_en.jsonl")
    for case in cases:
        utterance = frontend.analyse(case["text"], "gpt_sovits_v2")
        if (utterance.normalized, list(utterance.phones)) != (case["norm_text"], case["phones"]):
            different.append(case["text"])
        else:
            assert phone_ids(utterance.phones, "gpt_sovits_v2") == case["phone_ids_v2"]
    assert 1 - len(different) / len(cases) >= LEAST_SHARE, different
