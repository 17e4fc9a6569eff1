"""The step of s1 as plain arrays by name, for a runtime that knows the network itself ("s1_arrays", safetensors).

Matrices are half floats, or numbers of 8 bits in groups with a scale each (`layer_arrays`); all else is float32. Names
are those of the network's parameters; `embedding` and `positions` are the tables of speech tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from appliance.engine.gpt_sovits.decoder_graphs import LONGEST
from appliance.engine.gpt_sovits.layer_arrays import Array, matrix, s1_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.engine.gpt_sovits.t2s import TextToSemantic

FORMAT = "s1_arrays"


def write_arrays(network: TextToSemantic, path: Path, bits: int) -> None:
    """Weights of 16 or 8 `bits`. Raises OverflowError for weights that are no half floats."""
    from safetensors.numpy import save_file

    save_file(dict(_arrays(network, bits)), path, {"network": "gpt_sovits.s1.step"})


def _arrays(network: TextToSemantic, bits: int) -> Iterator[tuple[str, Array]]:
    width = network.config.width
    yield "heads", np.array(network.config.heads, np.int32)
    yield "embedding", network.ar_audio_embedding.word_embeddings.weight.numpy()
    yield "positions", network.ar_audio_position(torch.zeros(1, LONGEST, width))[0].numpy()
    yield from s1_layers(network, bits)
    yield from matrix("predict", network.ar_predict_layer.weight, bits)
