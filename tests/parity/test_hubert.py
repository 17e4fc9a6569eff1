"""HuBERT against upstream's, stage by stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity_recipe import fill, load_json, load_npz, salt

from appliance.engine.gpt_sovits.hubert import Hubert

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    found: Arrays = load_npz("gptsovits_full/hubert_base.npz")
    return found


@pytest.fixture(scope="module")
def network() -> Hubert:
    described = load_json("gptsovits_full/hubert_base_shapes.json")
    tensors = {name: torch.from_numpy(w) for name, w in fill(described["shapes"], salt("hubert")).items()}
    return Hubert.from_tensors(tensors, described["config"])


def test_every_stage(arrays: Arrays, network: Hubert) -> None:
    seen: dict[str, torch.Tensor] = {}
    stages = {
        "conv_features": network.feature_extractor,
        "hidden_0": network.encoder.layer_norm,
        "hidden_1": network.encoder.layers[0],
        "last_hidden_state": network,
    }
    for name, module in stages.items():
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output}))
    features = network.features(torch.from_numpy(arrays["wav16k"]))
    for name, found in seen.items():
        assert np.abs(found.numpy() - arrays[name]).max() < 1e-4, name
    assert len(seen) == len(stages)
    np.testing.assert_array_equal(features.numpy(), seen["last_hidden_state"].transpose(1, 2).numpy())
