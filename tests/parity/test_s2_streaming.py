"""Streaming of s2 without seams: the parts are the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parity_recipe import golden, load_npz
from parity_s2_files import read_tiny, tensor
from torch import Tensor

from appliance.engine.gpt_sovits.sovits import Synthesizer
from appliance.engine.gpt_sovits.streaming import Piece, StreamState, decode_next


@pytest.fixture(scope="module")
def network() -> Synthesizer:
    torch.set_num_threads(1)
    return Synthesizer.from_tensors(*read_tiny(golden("gptsovits_tiny/s2_v2_tiny.pth"))).folded()


def piece_of(network: Synthesizer, speed: float = 1.0, repeats: int = 3) -> Piece:
    arrays = load_npz("gptsovits_tiny/s2_v2_tiny_infer.npz")
    codes = tensor(arrays["codes"]).repeat(1, 1, repeats)
    ge = network.timbre([tensor(arrays["ref_spec_0"])])
    columns = network.frames(codes.shape[2], speed)
    noise = torch.randn(1, network.config.inter_channels, columns, generator=torch.Generator().manual_seed(3))
    return Piece(codes, tensor(arrays["text"]), ge, noise, speed)


def stream(network: Synthesizer, piece: Piece, cuts: list[int]) -> tuple[list[Tensor], StreamState]:
    state: StreamState | None = None
    parts = []
    for cut in [*cuts, piece.codes.shape[2]]:
        part = piece._replace(codes=piece.codes[:, :, :cut])
        sound, state = decode_next(network, part, state, cut == piece.codes.shape[2])
        parts.append(sound)
    assert state is not None
    return parts, state


def test_one_part_is_decode(network: Synthesizer) -> None:
    piece = piece_of(network)
    whole = network.decode(*piece)
    np.testing.assert_array_equal(stream(network, piece, [])[0][0].numpy(), whole.numpy())


@pytest.mark.parametrize("cuts", [[10, 22, 40], [8, 20, 21, 50], [74], [9, 11, 13, 15, 17, 19, 21, 23]])
def test_parts_are_cut_from_one_waveform(network: Synthesizer, cuts: list[int]) -> None:
    piece = piece_of(network)
    parts, state = stream(network, piece, cuts)
    streamed = torch.cat(parts, dim=2)
    whole = network.voice(state.features, piece.ge, piece.noise)  # the frames of all parts, voiced at once
    assert streamed.shape == whole.shape
    difference, peak = float((streamed - whole).abs().max()), float(whole.abs().max())
    print(f"{cuts}: {difference:.1e} of {peak:.2f}")
    assert difference < 0.01 * peak


@pytest.mark.parametrize("speed", [1.0, 1.3, 0.8, 0.5, 2.0])
@pytest.mark.parametrize("cuts", [[10, 22, 40], [1, 2, 3, 4, 5, 6, 30, 31], [74]])
def test_no_sample_is_lost(network: Synthesizer, speed: float, cuts: list[int]) -> None:
    piece = piece_of(network, speed)
    streamed = torch.cat(stream(network, piece, cuts)[0], dim=2)
    columns = network.frames(piece.codes.shape[2], speed)
    assert streamed.shape[2] == columns * network.config.samples_per_frame
    assert torch.isfinite(streamed).all()


@pytest.mark.parametrize("speed", [1.3, 0.8])
def test_speed_is_that_of_decode(network: Synthesizer, speed: float) -> None:
    piece = piece_of(network, speed)
    whole, streamed = network.decode(*piece), stream(network, piece, [])[0][0]
    likeness = torch.corrcoef(torch.stack([whole[0, 0], streamed[0, 0]]))[0, 1]
    print("correlation at", speed, float(likeness))
    assert likeness > 0.9


def test_first_part_is_early(network: Synthesizer) -> None:
    parts, _ = stream(network, piece_of(network), [10, 22])
    assert parts[0].shape[2] == 12 * network.config.samples_per_frame


def test_parts_do_not_depend_on_what_comes_later(network: Synthesizer) -> None:
    piece = piece_of(network)
    shorter = piece._replace(codes=piece.codes[:, :, :40])
    first = stream(network, piece, [10, 22])[0][0]
    np.testing.assert_array_equal(first.numpy(), stream(network, shorter, [10, 22])[0][0].numpy())
