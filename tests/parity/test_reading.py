"""Mixed text as the networks get it: phone ids after the rule for short texts, and where the BERT features lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from parity_recipe import load_jsonl

from appliance.contracts import TextFrontend
from appliance.engine.gpt_sovits.reading import Reader, Reading
from appliance.errors import Unavailable
from appliance.plugin_manager import load_plugins
from appliance.settings import PluginSettings

pytest.importorskip("jieba")
LANGUAGES = ("zh", "en", "ja", "ko", "yue")


class Ones:
    """Marks where features would be, and insists on one count per character, as BERT does."""

    def phone_features(self, text: str, word2ph: Sequence[int]) -> torch.Tensor:
        assert len(text) == len(word2ph)
        return torch.ones(1024, sum(word2ph))


@pytest.fixture(scope="module")
def reader() -> Reader:
    factories = load_plugins(PluginSettings()).frontends
    frontends: dict[str, TextFrontend] = {name: factories[name]() for name in LANGUAGES if name in factories}
    return Reader(frontends, "gpt_sovits_v2", Ones)  # type: ignore[arg-type]


def bert_places(row: dict[str, Any]) -> list[float]:
    return [float(part["bert"] == "bert") for part in row["segments"] for _ in part["phone_ids"]]


def test_mixed_text(reader: Reader) -> None:
    rows: list[dict[str, Any]] = load_jsonl("frontend_mixed.jsonl")
    readings: dict[int, Reading] = {}
    for index, row in enumerate(rows):
        try:
            readings[index] = reader.read(row["text"], row["lang"])
        except Unavailable:
            continue  # a language whose library is not installed
    same = [index for index, reading in readings.items() if reading.phones.tolist() == rows[index]["phone_ids_v2"]]
    assert len(readings) >= 50
    # How well each language is read is tested with its front end; here it is what becomes of the readings.
    assert len(same) / len(readings) >= 0.9, [rows[i]["text"] for i in readings if i not in same]
    for index in same:
        reading, places = readings[index], bert_places(rows[index])
        assert reading.bert.shape == (1024, len(reading.phones))
        if not rows[index]["short_text_retry"]:
            assert reading.bert[0].tolist() == places
    assert any(rows[index]["short_text_retry"] for index in same)
