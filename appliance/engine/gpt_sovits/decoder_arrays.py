"""The step of s1 as plain arrays by name, for a runtime that knows the network itself ("s1_arrays", safetensors).

Matrices are half floats, or numbers of 8 bits in groups with a scale each; all else is float32. Names are those of the
network's parameters; `embedding` and `positions` are the tables of speech tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from appliance.engine.gpt_sovits.decoder_graphs import LONGEST, quantize
from appliance.engine.gpt_sovits.t2s import Block, TextToSemantic

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = "s1_arrays"
GROUP = 128  # weights that share one scale; integers are summed exactly, so the size does not change with the batch

Array = NDArray[Any]


def write_arrays(network: TextToSemantic, path: Path, bits: int) -> None:
    """Weights of 16 or 8 `bits`. Raises OverflowError for weights that are no half floats."""
    from safetensors.numpy import save_file

    save_file(dict(_arrays(network, bits)), path, {"network": "gpt_sovits.s1.step"})


def _arrays(network: TextToSemantic, bits: int) -> Iterator[tuple[str, Array]]:
    width = network.config.width
    yield "heads", np.array(network.config.heads, np.int32)
    yield "embedding", network.ar_audio_embedding.word_embeddings.weight.numpy()
    yield "positions", network.ar_audio_position(torch.zeros(1, LONGEST, width))[0].numpy()
    for index, module in enumerate(network.h.layers):
        block, at = cast(Block, module), f"layers.{index}"
        attention = block.self_attn
        yield from _linear(f"{at}.in_proj", attention.in_proj_weight, attention.in_proj_bias, bits)
        for name, linear in (
            ("out_proj", attention.out_proj),
            ("linear1", block.linear1),
            ("linear2", block.linear2),
        ):
            yield from _linear(f"{at}.{name}", linear.weight, linear.bias, bits)
        for name in ("norm1", "norm2"):
            for key in ("weight", "bias"):
                yield f"{at}.{name}.{key}", getattr(getattr(block, name), key).numpy()
    yield from _linear("predict", network.ar_predict_layer.weight, None, bits)


def _linear(name: str, weight: torch.Tensor, bias: torch.Tensor | None, bits: int) -> Iterator[tuple[str, Array]]:
    matrix = weight.numpy()
    if bits == 8:
        numbers, scales = quantize(matrix, GROUP)
        yield f"{name}.numbers", numbers
        yield f"{name}.scales", scales.reshape(numbers.shape[:2])
    else:
        yield f"{name}.halves", _halves(name, matrix)
    if bias is not None:
        yield f"{name}.bias", bias.numpy()


def _halves(name: str, matrix: Array) -> Array:
    with np.errstate(over="ignore"):
        found = matrix.astype(np.float16)
    if not np.isfinite(found).all():
        raise OverflowError(f"{name} has weights beyond half floats")
    return found
