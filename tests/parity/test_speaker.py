"""Filter banks and the speaker network against upstream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity_recipe import fill, load_json, load_npz, salt

from appliance.engine.gpt_sovits.eres2net import SpeakerNet
from appliance.engine.gpt_sovits.fbank import log_mel_banks

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    found: Arrays = load_npz("gptsovits_tiny/sv_eres2netv2.npz")
    return found


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """All tensors of the official file, the unused head among them."""
    shapes = load_json("gptsovits_tiny/eres2netv2_shapes.json")
    return {name: torch.from_numpy(w) for name, w in fill(shapes, salt("sv")).items()}


@pytest.fixture(scope="module")
def network(tensors: dict[str, torch.Tensor]) -> SpeakerNet:
    return SpeakerNet.from_tensors(tensors)


def relative(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference, in units of the largest number."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_filter_banks(arrays: Arrays) -> None:
    found = log_mel_banks(arrays["wav16k"][0])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, arrays["fbank"], atol=1e-3)


def test_first_stage(arrays: Arrays, network: SpeakerNet) -> None:
    seen: list[torch.Tensor] = []
    hook = network.layer1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(torch.from_numpy(arrays["fbank"])[None])
    hook.remove()
    assert relative(seen[0][:, 0].numpy(), arrays["layer1_ch0"]) < 1e-5


def test_embedding_of_given_bands(arrays: Arrays, network: SpeakerNet) -> None:
    found = network(torch.from_numpy(arrays["fbank"])[None]).numpy()
    assert found.shape == arrays["embedding"].shape == (1, network.config.embedding)
    assert relative(found, arrays["embedding"]) < 1e-4


def test_embedding_of_the_waveform(arrays: Arrays, network: SpeakerNet) -> None:
    waveform = torch.from_numpy(arrays["wav16k"])
    found = network.embed(waveform)
    assert relative(found.numpy(), arrays["embedding"]) < 1e-3
    torch.testing.assert_close(network.embed(waveform[0]), found, rtol=0, atol=0)


def test_a_tensor_too_many_or_too_few(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(RuntimeError, match=r"layer9\.weight"):
        SpeakerNet.from_tensors({**tensors, "layer9.weight": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"conv1\.weight"):
        SpeakerNet.from_tensors({name: tensor for name, tensor in tensors.items() if name != "conv1.weight"})
