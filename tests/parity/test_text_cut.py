"""The cut methods give the pieces of the original."""

from __future__ import annotations

from parity_recipe import load_jsonl

from appliance.text.cutting import METHODS, prepare_pieces, reduce_marks


def test_bare_cuts_are_identical() -> None:
    for case in load_jsonl("text_cut.jsonl"):
        if "raw" in case:
            assert METHODS[case["method"]](case["text"]) == case["raw"], case


def test_repeated_marks_are_reduced_alike() -> None:
    for case in load_jsonl("text_cut.jsonl"):
        assert reduce_marks(case["text"]) == case["replace_consecutive"], case


def test_prepared_pieces_are_identical() -> None:
    """Where the original raises, because nothing is left to speak, ours gives no pieces."""
    for case in load_jsonl("text_cut.jsonl"):
        assert prepare_pieces(case["text"], case["lang"], case["method"]) == case.get("pre_seg", []), case
