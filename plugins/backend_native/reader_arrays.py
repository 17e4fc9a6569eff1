"""Files of readers, as `reader_arrays` of the engine writes them: the layers, what stands before and behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Arrays, Kind, Malformed, check, layer_names, matrix_names, parse, sizes_of_layers
from .reader import GELU, RECTIFIED, ReaderShape

EPSILON = 1e-5  # of the norms in s1


@dataclass(frozen=True)
class ReaderFile:
    """What the kernel takes, in its order, and the tables that stay here."""

    shape: ReaderShape
    arrays: list[NDArray[Any]]
    tables: dict[str, NDArray[Any]]


def read_s1(content: bytes) -> ReaderFile:
    """A prompt of s1: "text" and "audio" tables, features of phones, logits of the last row. Raises Malformed."""
    arrays = parse(content)
    try:
        layers, heads, inner = sizes_of_layers(arrays)
        (phonemes, width), (vocabulary, _) = arrays["text.embedding"].shape, arrays["audio.embedding"].shape
        (places, _), (_, groups, group) = arrays["text.positions"].shape, arrays["bert_proj.numbers"].shape
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise Malformed(f"its sizes cannot be told: {error}"[:80]) from error
    shape = ReaderShape(layers, width, heads, inner, group, groups * group, vocabulary, RECTIFIED, EPSILON)
    tables = {"text.embedding": phonemes, "text.positions": places, "audio.embedding": vocabulary}
    tables["audio.positions"] = places
    expected: dict[str, Kind] = {name: (np.float32, (rows, width)) for name, rows in tables.items()}
    return _file(shape, arrays, expected, dict(_s1_names(shape)))


def read_bert(content: bytes) -> ReaderFile:
    """Chinese BERT: tables of words and positions, and the norm behind their sum. Raises Malformed."""
    arrays = parse(content)
    try:
        layers, heads, inner = sizes_of_layers(arrays)
        (words, width), (places, _) = arrays["words"].shape, arrays["positions"].shape
        group, epsilon = arrays["layers.0.in_proj.numbers"].shape[2], float(arrays["epsilon"].reshape(()))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise Malformed(f"its sizes cannot be told: {error}"[:80]) from error
    shape = ReaderShape(layers, width, heads, inner, group, 0, 0, GELU, epsilon)
    expected: dict[str, Kind] = {"words": (arrays["words"].dtype.type, (words, width))}
    expected |= {"positions": (np.float32, (places, width)), "epsilon": (np.float32, ())}
    expected |= {f"norm.{key}": (np.float32, (width,)) for key in ("weight", "bias")}
    if arrays["words"].dtype not in (np.float16, np.float32):
        raise Malformed(f"words are {arrays['words'].dtype}")
    return _file(shape, arrays, expected, dict(layer_names(layers, width, inner, group)))


def _file(shape: ReaderShape, arrays: Arrays, tables: dict[str, Kind], names: dict[str, Kind]) -> ReaderFile:
    if shape.group < 1:
        raise Malformed(f"groups of {shape.group}")
    found = check(arrays, tables | names)
    kept = dict(zip(tables, found[: len(tables)], strict=True))
    return ReaderFile(shape, found[len(tables) :], kept)


def _s1_names(shape: ReaderShape) -> Iterator[tuple[str, Kind]]:
    yield from matrix_names("bert_proj", shape.width, shape.features, shape.group)
    yield "bert_proj.bias", (np.float32, (shape.width,))
    yield from layer_names(shape.layers, shape.width, shape.inner, shape.group)
    yield from matrix_names("predict", shape.vocabulary, shape.width, shape.group)
