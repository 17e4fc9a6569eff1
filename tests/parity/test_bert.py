"""Chinese BERT's features against upstream's, from token ids and from text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity_recipe import fill, load_npz, salt

from appliance.engine.gpt_sovits.bert import Bert, BertConfig, ChineseBert, spread

Arrays = dict[str, NDArray[Any]]
# The sizes of the golden network, from the README of the golden files.
CONFIG = {"vocab_size": 500, "num_hidden_layers": 4}
FIRST_IDEOGRAPH = 0x4E00


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    found: Arrays = load_npz("gptsovits_full/bert_wide4.npz")
    return found


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """The tensors that are used, and some of those that a file has beside them."""
    with torch.device("meta"):
        shapes = {f"bert.{name}": t.shape for name, t in Bert(BertConfig.from_dict(CONFIG)).state_dict().items()}
    found = {name: torch.from_numpy(w) for name, w in fill(shapes, salt("bert")).items()}
    beside = ("bert.encoder.layer.3.output.dense.bias", "bert.pooler.dense.bias", "cls.predictions.bias")
    return found | {name: torch.ones(3) for name in beside} | {"bert.embeddings.position_ids": torch.arange(512)[None]}


def test_features_of_tokens(arrays: Arrays, tensors: dict[str, torch.Tensor]) -> None:
    hidden = Bert.from_tensors(tensors, CONFIG)(torch.from_numpy(arrays["input_ids"]))
    assert np.abs(hidden.numpy() - arrays["hidden_m3"]).max() < 1e-4
    found = spread(hidden[0, 1:-1], arrays["word2ph"].tolist())
    assert np.abs(found.numpy() - arrays["phone_features"]).max() < 1e-4


def test_features_of_text(arrays: Arrays, tensors: dict[str, torch.Tensor]) -> None:
    """The same numbers by way of characters: a vocabulary of ideographs, in which the golden ids spell a text."""
    start, *ids, end = arrays["input_ids"][0].tolist()
    vocabulary = [chr(FIRST_IDEOGRAPH + number) for number in range(CONFIG["vocab_size"])]
    spare = next(number for number in range(CONFIG["vocab_size"]) if number not in (start, end, *ids))
    for number, mark in ((start, "[CLS]"), (end, "[SEP]"), (spare, "[UNK]")):
        vocabulary[number] = mark
    bert = ChineseBert.from_tensors(tensors, CONFIG | {"vocabulary": vocabulary})
    text = "".join(chr(FIRST_IDEOGRAPH + number) for number in ids)
    if start in ids or end in ids:
        pytest.skip("the golden ids use a mark as a character")
    found = bert.phone_features(text, arrays["word2ph"].tolist())
    assert np.abs(found.numpy() - arrays["phone_features"]).max() < 1e-4
