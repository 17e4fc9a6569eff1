"""Batches of pieces, their finish and their joints, against upstream's."""

from __future__ import annotations

import numpy as np
import pytest
from parity_recipe import load_json, load_npz

from appliance.engine.gpt_sovits.joints import BatchRule, Sola, batches, finish_piece, in_text_order, to_int16

OVERLAP, PAUSE_S, RATE = 800, 0.05, 32_000  # of these golden files


def test_batches() -> None:
    cases = load_json("pipeline_batching.json")
    assert cases
    for case in cases:
        rule = BatchRule(case["batch_size"], case["threshold"], case["split_bucket"])
        assert batches(case["lengths"], rule) == case["batches"], case


@pytest.mark.parametrize("name", ["sola", "sola2"])
def test_joints(name: str) -> None:
    arrays = load_npz("pipeline_misc.npz")
    fragments = [arrays[key] for key in sorted(arrays) if key.startswith(f"{name}_in_")]
    found = Sola(OVERLAP).join(fragments)
    assert found.shape == arrays[f"{name}_out"].shape
    np.testing.assert_allclose(found, arrays[f"{name}_out"], atol=1e-5)


def test_finished_pieces() -> None:
    arrays = load_npz("pipeline_misc.npz")
    order: list[list[int]] = []
    done: list[list[np.ndarray]] = []
    flat = iter(arrays["post_batches_flat"].tolist())
    for key in sorted(key for key in arrays if key.startswith("post_in_")):
        batch = int(key.split("_")[2])
        if batch == len(order):
            order.append([])
            done.append([])
        order[batch].append(next(flat))
        done[batch].append(finish_piece(arrays[key], RATE, PAUSE_S))
    whole = in_text_order(done, order)
    wanted = arrays["post_out_int16"]
    overflowed = whole * 32768 >= 32768  # upstream wraps these around; ours is full scale
    assert overflowed.sum() <= sum(len(indices) for indices in order)  # at most the peak of each piece
    np.testing.assert_array_equal(to_int16(whole)[~overflowed], wanted[~overflowed])
    assert (to_int16(whole)[overflowed] == 32767).all()


def test_stream_of_joints_is_the_whole() -> None:
    arrays = load_npz("pipeline_misc.npz")
    fragments = [arrays[f"sola_in_{i}"] for i in range(3)]
    sola, held, played = Sola(OVERLAP), None, []
    for i, fragment in enumerate(fragments):
        sound, held = sola.join_next(held, fragment, i == 2)
        played.append(sound)
    assert held is not None
    assert len(held) == 0
    np.testing.assert_array_equal(np.concatenate(played), sola.join(fragments))


@pytest.mark.parametrize("lengths", [(0,), (5, 0, 3), (900, 10, 900), (800, 800), (2000, 1)])
def test_fragments_of_any_length(lengths: tuple[int, ...]) -> None:
    fragments = [np.full(n, 0.25, np.float32) for n in lengths]
    joined = Sola(OVERLAP).join(fragments)
    assert joined.dtype == np.float32
    np.testing.assert_allclose(joined, 0.25, atol=1e-6)
