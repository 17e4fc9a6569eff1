"""The file of a decoder: plain arrays by name (safetensors), as `decoder_arrays` of the engine writes them.

Read whole, looked at once and refused with what is wrong: what goes on to the kernel has the sizes that it is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from .library import Shape

Arrays = Mapping[str, NDArray[Any]]
HEADS = "heads"  # one number; all other sizes are those of the arrays
MATRICES = ("in_proj", "out_proj", "linear1", "linear2")


class Malformed(ValueError):
    """A file that is not one of these."""


def read(content: bytes) -> tuple[Shape, list[NDArray[Any]]]:
    """The sizes, and the arrays in the order of `names`. Raises Malformed."""
    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise Malformed(str(error)[:80]) from error
    shape = _shape(arrays)
    expected = dict(names(shape))
    if set(arrays) != {*expected, HEADS}:
        odd = sorted(set(arrays) ^ {*expected, HEADS})[0]
        raise Malformed(f"{odd} is missing, or does not belong there")
    for name, (kind, sizes) in expected.items():
        found = arrays[name]
        if found.dtype != kind or found.shape != sizes:
            raise Malformed(f"{name} is {found.dtype}{list(found.shape)} instead of {np.dtype(kind)}{list(sizes)}")
    return shape, [np.ascontiguousarray(arrays[name]) for name in expected]


def _shape(arrays: Arrays) -> Shape:
    try:
        heads = int(arrays[HEADS].reshape(()))
        vocabulary, width = arrays["embedding"].shape
        (positions, _), (inner,) = arrays["positions"].shape, arrays["layers.0.linear1.bias"].shape
    except (KeyError, ValueError, TypeError) as error:
        raise Malformed(f"its sizes cannot be told: {error}"[:80]) from error
    layers = sum(name.endswith(".linear1.bias") for name in arrays)
    numbers = arrays.get("predict.numbers")
    if numbers is not None and numbers.ndim != 3:
        raise Malformed("predict.numbers has no groups")
    group = 0 if numbers is None else numbers.shape[2]
    if heads < 1 or (group == 0 and numbers is not None):
        raise Malformed(f"{heads} heads, groups of {group}")
    return Shape(layers, width, heads, inner, vocabulary, positions, group)


def names(shape: Shape) -> Iterator[tuple[str, tuple[type, tuple[int, ...]]]]:
    """Name, type and sizes of every array, in the order in which the kernel takes them."""
    width, inner = shape.width, shape.inner
    sizes = {"in_proj": (3 * width, width), "out_proj": (width, width), "linear1": (inner, width)}
    sizes["linear2"] = (width, inner)
    yield "embedding", (np.float32, (shape.vocabulary, width))
    yield "positions", (np.float32, (shape.positions, width))
    for layer in range(shape.layers):
        for name in MATRICES:
            at = f"layers.{layer}.{name}"
            yield from _matrix(at, *sizes[name], shape.group)
            yield f"{at}.bias", (np.float32, sizes[name][:1])
            if name in ("out_proj", "linear2"):
                norm = f"layers.{layer}.norm{1 if name == 'out_proj' else 2}"
                yield f"{norm}.weight", (np.float32, (width,))
                yield f"{norm}.bias", (np.float32, (width,))
    yield from _matrix("predict", shape.vocabulary, width, shape.group)


def _matrix(name: str, outputs: int, inputs: int, group: int) -> Iterator[tuple[str, tuple[type, tuple[int, ...]]]]:
    if not group:
        yield f"{name}.halves", (np.float16, (outputs, inputs))
        return
    groups = -(-inputs // group)
    yield f"{name}.numbers", (np.uint8, (outputs, groups, group))
    yield f"{name}.scales", (np.float32, (outputs, groups))
