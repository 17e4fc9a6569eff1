"""Mixed languages for GPT-SoVITS: who reads what is decided as in the original; so are the phones."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest
from parity_recipe import load_jsonl

from appliance.contracts import TextFrontend
from appliance.text.detection import Piece
from appliance.text.gpt_sovits_symbols import phone_ids
from appliance.text.segments import find_segments, split_request

INVENTORY = "gpt_sovits_v2"
LEAST_SHARE = 0.97
LANGUAGES = ("zh", "yue", "en", "ja", "ko")


def load_frontends() -> dict[str, TextFrontend]:
    """Every front end that knows the inventory."""
    found: dict[str, TextFrontend] = {}

    def register(language: str, factory: Any) -> None:
        frontend = factory()
        if INVENTORY in frontend.inventories:
            found[language] = frontend

    for language in LANGUAGES:
        name = f"appliance_plugins.text_{language}"
        if importlib.util.find_spec(name) is not None and hasattr(
            plugin := importlib.import_module(name), "VOICED_API"
        ):
            plugin.register_frontends(register=register)
    return found


@pytest.fixture(scope="module")
def frontends() -> dict[str, TextFrontend]:
    return load_frontends()


def as_pieces(segments: list[dict[str, Any]]) -> list[Piece]:
    return [Piece(segment["lang"], segment["text"]) for segment in segments]


def spoken_text(case: dict[str, Any]) -> str:
    """The text after the rule for short texts."""
    return f".{case['text']}" if case["short_text_retry"] else str(case["text"])


def test_texts_are_cut_into_languages_as_in_the_original() -> None:
    for case in load_jsonl("frontend_mixed.jsonl"):
        if not case["lang"].startswith("all_"):
            assert find_segments(case["text"]) == as_pieces(case["raw_segments"]), case["text"]
        assert split_request(spoken_text(case), case["lang"]) == as_pieces(case["segments"]), case["text"]


def test_phones_of_each_piece_and_of_the_whole_are_those_of_the_original(frontends: dict[str, TextFrontend]) -> None:
    different, compared = [], 0
    for case in load_jsonl("frontend_mixed.jsonl"):
        for piece in case["segments"]:
            if piece["lang"] not in frontends:
                continue
            compared += 1
            utterance = frontends[piece["lang"]].analyse(piece["text"], INVENTORY)
            if phone_ids(utterance.phones, INVENTORY) != piece["phone_ids"]:
                different.append((piece["lang"], piece["text"]))
            if piece["word2ph"] is not None and piece["lang"] in ("zh", "yue"):
                assert [span.end - span.start for span in utterance.words] == piece["word2ph"]
        assert [phone for piece in case["segments"] for phone in piece["phone_ids"]] == case["phone_ids_v2"]
    assert 1 - len(different) / compared >= LEAST_SHARE, different


def test_short_texts_and_only_those_are_read_again(frontends: dict[str, TextFrontend]) -> None:
    for case in load_jsonl("frontend_mixed.jsonl"):
        pieces = split_request(case["text"], case["lang"])
        if all(piece.language in ("zh", "yue") and piece.language in frontends for piece in pieces):
            phones = sum(len(frontends[piece.language].analyse(piece.text, INVENTORY).phones) for piece in pieces)
            assert (phones < 6) == case["short_text_retry"], case["text"]
