"""English, Japanese and Korean for GPT-SoVITS: normalised text and phones are those of the original."""

from __future__ import annotations

import pytest
from appliance_plugins.text_en.frontend import EnglishFrontend
from appliance_plugins.text_ja.frontend import JapaneseFrontend
from appliance_plugins.text_ko.frontend import KoreanFrontend
from parity_recipe import load_jsonl

from appliance.contracts import TextFrontend
from appliance.text.gpt_sovits_symbols import phone_ids


@pytest.mark.parametrize(
    ("frontend", "file", "least_share"),
    [
        pytest.param(EnglishFrontend(), "frontend_en.jsonl", 0.95, id="en"),
        pytest.param(JapaneseFrontend(), "frontend_ja.jsonl", 0.95, id="ja"),
        pytest.param(KoreanFrontend(), "frontend_ko.jsonl", 0.90, id="ko"),
    ],
)
def test_normalised_text_and_phones_are_those_of_the_original(
    frontend: TextFrontend, file: str, least_share: float
) -> None:
    different = []
    cases = load_jsonl(file)
    for case in cases:
        utterance = frontend.analyse(case["text"], "gpt_sovits_v2")
        if (utterance.normalized, list(utterance.phones)) != (case["norm_text"], case["phones"]):
            different.append(case["text"])
        else:
            assert phone_ids(utterance.phones, "gpt_sovits_v2") == case["phone_ids_v2"]
    assert 1 - len(different) / len(cases) >= least_share, different
