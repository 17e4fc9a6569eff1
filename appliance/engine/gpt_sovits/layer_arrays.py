"""Layers of transformers as plain arrays by name: what the files for a runtime that knows the networks share.

A matrix (outputs, inputs) is half floats, or numbers of 8 bits around 128 in groups (outputs, groups, GROUP) with a
scale each; all else is float32. A layer has `in_proj` (queries, keys and values), `out_proj`, `norm1`, `linear1`,
`linear2` and `norm2`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from appliance.engine.gpt_sovits.bert import Layer
from appliance.engine.gpt_sovits.decoder_graphs import quantize
from appliance.engine.gpt_sovits.t2s import Block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from appliance.engine.gpt_sovits.bert import Bert
    from appliance.engine.gpt_sovits.t2s import TextToSemantic

GROUP = 128  # weights that share one scale; integers are summed exactly, so the size does not change with the batch

Array = NDArray[Any]


def s1_layers(network: TextToSemantic, bits: int) -> Iterator[tuple[str, Array]]:
    for index, module in enumerate(network.h.layers):
        block, at = cast(Block, module), f"layers.{index}"
        attention = block.self_attn
        yield from matrix(f"{at}.in_proj", attention.in_proj_weight, bits)
        yield f"{at}.in_proj.bias", attention.in_proj_bias.numpy()
        yield from linear(f"{at}.out_proj", attention.out_proj, bits)
        yield from _feed_forward(at, (block.linear1, block.linear2), (block.norm1, block.norm2), bits)


def bert_layers(network: Bert, bits: int) -> Iterator[tuple[str, Array]]:
    for index, module in enumerate(network.encoder.layer):
        layer, at = cast(Layer, module), f"layers.{index}"
        parts = [getattr(layer.attention.self, name) for name in ("query", "key", "value")]
        yield from matrix(f"{at}.in_proj", torch.cat([part.weight for part in parts]), bits)
        yield f"{at}.in_proj.bias", torch.cat([part.bias for part in parts]).numpy()
        yield from linear(f"{at}.out_proj", layer.attention.output.dense, bits)
        linears = layer.intermediate.dense, layer.output.dense
        yield from _feed_forward(at, linears, (layer.attention.output.LayerNorm, layer.output.LayerNorm), bits)


def _feed_forward(
    at: str, linears: tuple[nn.Linear, nn.Linear], norms: tuple[nn.LayerNorm, nn.LayerNorm], bits: int
) -> Iterator[tuple[str, Array]]:
    for number, (module, layer_norm) in enumerate(zip(linears, norms, strict=True), 1):
        yield from linear(f"{at}.linear{number}", module, bits)
        yield from norm(f"{at}.norm{number}", layer_norm)


def norm(name: str, module: nn.LayerNorm) -> Iterator[tuple[str, Array]]:
    yield f"{name}.weight", module.weight.numpy()
    yield f"{name}.bias", module.bias.numpy()


def linear(name: str, module: nn.Linear, bits: int) -> Iterator[tuple[str, Array]]:
    yield from matrix(name, module.weight, bits)
    yield f"{name}.bias", module.bias.numpy()


def matrix(name: str, weight: Tensor, bits: int) -> Iterator[tuple[str, Array]]:
    """Of 16 or 8 `bits`. Raises OverflowError for weights that are no half floats."""
    if bits == 8:
        numbers, scales = quantize(weight.numpy(), GROUP)
        yield f"{name}.numbers", numbers
        yield f"{name}.scales", scales.reshape(numbers.shape[:2])
        return
    with np.errstate(over="ignore"):
        halves = weight.numpy().astype(np.float16)
    if not np.isfinite(halves).all():
        raise OverflowError(f"{name} has weights beyond half floats")
    yield f"{name}.halves", halves
