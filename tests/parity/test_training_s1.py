"""One training step of s1 against upstream: loss terms, gradients, and eight steps of its optimiser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity_recipe import fill, golden, load_npz, salt

from appliance.engine.gpt_sovits.t2s import NAME_PREFIX, TextPrompt, TextToSemantic, TextToSemanticConfig
from appliance.engine.gpt_sovits.training.optimisers import ScaledAdam
from appliance.engine.gpt_sovits.training.token_steps import TokenLesson, predict, take_token_step, token_losses

LOSS, GRADIENT, WEIGHT = 1e-4, 1e-3, 2e-4
MOST_WEIGHTS = 1e-6  # of 95 % of them: a step is itself smaller than WEIGHT, and signs flip where gradients are ~0
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_network() -> TextToSemantic:
    # Our own reader of checkpoints has tests of its own; this file is trusted.
    checkpoint: dict[str, Any] = torch.load(golden("gptsovits_tiny/s1_tiny.ckpt"), weights_only=True)
    return TextToSemantic.from_tensors(checkpoint["weight"], checkpoint["config"]).requires_grad_(True)


def full_network() -> TextToSemantic:
    with torch.device("meta"):
        network = TextToSemantic(TextToSemanticConfig())
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    tensors = {name: torch.from_numpy(w) for name, w in fill(shapes, salt("s1_full"), prefix="model.").items()}
    network.load_state_dict(tensors, assign=True)
    return network.requires_grad_(True)


def lesson_of(arrays: Arrays) -> TokenLesson:
    """Upstream's layout: phones padded on the right, and the mask hides as many on the left."""
    counts = torch.from_numpy(arrays["phones_len"])
    return TokenLesson(
        phones=torch.from_numpy(arrays["phones"]),
        bert=torch.from_numpy(arrays["bert"]),
        hidden=counts.max() - counts,
        first_position=torch.zeros_like(counts),
        tokens=torch.from_numpy(arrays["semantic"]),
        token_counts=torch.from_numpy(arrays["semantic_len"]),
        rejected=torch.from_numpy(arrays["reject_semantic"]),
        rejected_counts=torch.from_numpy(arrays["reject_semantic_len"]),
    )


def compare(name: str, found: float, wanted: float, tolerance: float) -> None:
    difference = abs(found - wanted) / max(abs(wanted), 1e-12)
    print(f"{name}: {found:.7g}, relative difference {difference:.1e}")
    assert difference <= tolerance, (name, found, wanted)


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_losses_and_gradients(size: str) -> None:
    arrays = load_npz(f"gptsovits_{size}/s1_{size}_train.npz")
    network = tiny_network() if size == "tiny" else full_network()
    lesson = lesson_of(arrays)
    losses = token_losses(network, replace(lesson, rejected=None))
    compare(f"{size} loss_ce", float(losses.total.detach()), float(arrays["loss_ce"]), LOSS)
    assert losses.accuracy == pytest.approx(float(arrays["top3_acc"]), abs=1e-6)
    losses.total.backward()
    names = [name for name in arrays if name.startswith("gradnorm:")]
    assert names
    for name in names:
        gradient = network.get_parameter(name.removeprefix("gradnorm:").removeprefix(NAME_PREFIX)).grad
        assert gradient is not None
        compare(f"{size} {name}", float(gradient.norm()), float(arrays[name]), GRADIENT)
    with torch.no_grad():
        preferred = token_losses(network, lesson)
    compare(f"{size} loss_ce_plus_dpo", float(preferred.total), float(arrays["loss_ce_plus_dpo"]), LOSS)
    assert preferred.accuracy == pytest.approx(float(arrays["dpo_top3_acc"]), abs=1e-6)


def test_scaled_adam() -> None:
    arrays = load_npz("gptsovits_tiny/s1_tiny_train.npz")
    network = tiny_network()
    optimiser = ScaledAdam(network.parameters())
    lesson = replace(lesson_of(arrays), rejected=None)
    for number, wanted in enumerate(arrays["scaledadam_losses"].tolist()):
        losses = take_token_step(network, optimiser, [lesson], dropout=0.0)
        compare(f"scaledadam_losses[{number}]", float(losses[0].total), wanted, LOSS)
    names = [name for name in arrays if name.startswith("after8:")]
    assert names
    for name in names:
        weight = network.get_parameter(name.removeprefix("after8:").removeprefix(NAME_PREFIX)).detach()
        differences = np.abs(weight.flatten()[: arrays[name].size].numpy() - arrays[name])
        print(f"{name}: {differences.max():.1e}")
        assert differences.max() <= WEIGHT, name
        assert np.quantile(differences, 0.95) <= MOST_WEIGHTS, name


def test_our_layout_gives_items_what_they_get_alone() -> None:
    """Upstream's does so only where no text of a batch is shorter; the tokens are padded alike."""
    arrays, network = load_npz("gptsovits_tiny/s1_tiny_train.npz"), tiny_network().requires_grad_(False)
    items = []
    for row in range(2):
        phones, tokens = int(arrays["phones_len"][row]), int(arrays["semantic_len"][row])
        parts = arrays["phones"][row, :phones], arrays["bert"][row, :, :phones], arrays["semantic"][row, :tokens]
        items.append(TextPrompt(*(torch.from_numpy(part) for part in parts)))
    ours, upstreams = (
        worst_difference(network, items, batch) for batch in (TokenLesson.of_items(items), lesson_of(arrays))
    )
    print(f"largest difference of logits: ours {ours:.1e}, upstream's {upstreams:.1e}")
    assert ours < 1e-4 < 1e-1 < upstreams


def worst_difference(network: TextToSemantic, items: list[TextPrompt], batch: TokenLesson) -> float:
    """Of an item's logits in `batch` from those it gets alone."""
    together = predict(network, batch, batch.tokens, batch.token_counts).logits
    worst = 0.0
    for row, item in enumerate(items):
        single = TokenLesson.of_items([item])
        alone = predict(network, single, single.tokens, single.token_counts).logits
        worst = max(worst, float((together[row, : alone.shape[1]] - alone[0]).abs().max()))
    return worst
