"""Networks that read many rows at once as plain arrays by name: the prompt of s1 ("s1_reader"), BERT ("bert_reader").

Layers are those of `layer_arrays` with weights of 8 bits. Before them stand tables, whose rows are added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from appliance.engine.gpt_sovits.decoder_graphs import LONGEST, is_half
from appliance.engine.gpt_sovits.layer_arrays import Array, bert_layers, linear, matrix, norm, s1_layers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.engine.gpt_sovits.bert import Bert
    from appliance.engine.gpt_sovits.t2s import TextToSemantic

PROMPT, BERT = "s1_reader", "bert_reader"  # formats
BITS = 8


def write_prompt_reader(network: TextToSemantic, path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(dict(_prompt_arrays(network)), path, {"network": "gpt_sovits.s1.prefill"})


def write_bert_reader(network: Bert, path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(dict(_bert_arrays(network)), path, {"network": "gpt_sovits.bert"})


def _prompt_arrays(network: TextToSemantic) -> Iterator[tuple[str, Array]]:
    places = torch.zeros(1, LONGEST, network.config.width)
    yield "heads", np.array(network.config.heads, np.int32)
    for name, table, position in (
        ("text", network.ar_text_embedding, network.ar_text_position),
        ("audio", network.ar_audio_embedding, network.ar_audio_position),
    ):
        yield f"{name}.embedding", table.word_embeddings.weight.numpy()
        yield f"{name}.positions", position(places)[0].numpy()
    yield from linear("bert_proj", network.bert_proj, BITS)
    yield from s1_layers(network, BITS)
    yield from matrix("predict", network.ar_predict_layer.weight, BITS)


def _bert_arrays(network: Bert) -> Iterator[tuple[str, Array]]:
    """The kind of sentence is always the first: its row is added to those of the positions."""
    tables = network.embeddings
    words = tables.word_embeddings.weight.numpy()
    yield "heads", np.array(network.config.heads, np.int32)
    yield "epsilon", np.array(network.config.epsilon, np.float32)
    yield "words", words.astype(np.float16) if is_half(words) else words
    yield "positions", (tables.position_embeddings.weight + tables.token_type_embeddings.weight[0]).numpy()
    yield from norm("norm", tables.LayerNorm)
    yield from bert_layers(network, BITS)
