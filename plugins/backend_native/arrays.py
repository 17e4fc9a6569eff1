"""Files of plain arrays by name (safetensors), and that of a decoder, as `decoder_arrays` of the engine writes it.

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
Kind = tuple[type, tuple[int, ...]]  # of an array: its numbers and sizes
HEADS = "heads"  # one number; all other sizes are those of the arrays
MATRICES = ("in_proj", "out_proj", "linear1", "linear2")


class Malformed(ValueError):
    """A file that is not one of these."""


def read(content: bytes) -> tuple[Shape, list[NDArray[Any]]]:
    """The sizes, and the arrays in the order of `names`. Raises Malformed."""
    arrays = parse(content)
    shape = _shape(arrays)
    return shape, check(arrays, dict(names(shape)))


def parse(content: bytes) -> dict[str, NDArray[Any]]:
    """Raises Malformed."""
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise Malformed(str(error)[:80]) from error


def check(arrays: Arrays, expected: Mapping[str, Kind], read: tuple[str, ...] = (HEADS,)) -> list[NDArray[Any]]:
    """Those of `expected` in its order; there are no others but what was `read` already. Raises Malformed."""
    if set(arrays) != {*expected, *read}:
        odd = sorted(set(arrays) ^ {*expected, *read})[0]
        raise Malformed(f"{odd} is missing, or does not belong there")
    for name, (kind, sizes) in expected.items():
        found = arrays[name]
        if found.dtype != kind or found.shape != sizes:
            raise Malformed(f"{name} is {found.dtype}{list(found.shape)} instead of {np.dtype(kind)}{list(sizes)}")
    return [np.ascontiguousarray(arrays[name]) for name in expected]


def sizes_of_layers(arrays: Arrays) -> tuple[int, int, int]:
    """How many layers, their heads, the width of their feed-forward. Raises KeyError, ValueError, TypeError."""
    (inner,) = arrays["layers.0.linear1.bias"].shape
    return sum(name.endswith(".linear1.bias") for name in arrays), int(arrays[HEADS].reshape(())), inner


def _shape(arrays: Arrays) -> Shape:
    try:
        layers, heads, inner = sizes_of_layers(arrays)
        (vocabulary, width), (positions, _) = arrays["embedding"].shape, arrays["positions"].shape
    except (KeyError, ValueError, TypeError) as error:
        raise Malformed(f"its sizes cannot be told: {error}"[:80]) from error
    numbers = arrays.get("predict.numbers")
    if numbers is not None and numbers.ndim != 3:
        raise Malformed("predict.numbers has no groups")
    group = 0 if numbers is None else numbers.shape[2]
    if heads < 1 or (group == 0 and numbers is not None):
        raise Malformed(f"{heads} heads, groups of {group}")
    return Shape(layers, width, heads, inner, vocabulary, positions, group)


def names(shape: Shape) -> Iterator[tuple[str, Kind]]:
    """Name, type and sizes of every array, in the order in which the kernel takes them."""
    yield "embedding", (np.float32, (shape.vocabulary, shape.width))
    yield "positions", (np.float32, (shape.positions, shape.width))
    yield from layer_names(shape.layers, shape.width, shape.inner, shape.group)
    yield from matrix_names("predict", shape.vocabulary, shape.width, shape.group)


def layer_names(layers: int, width: int, inner: int, group: int) -> Iterator[tuple[str, Kind]]:
    """Those of the layers, in the kernel's order."""
    sizes = {"in_proj": (3 * width, width), "out_proj": (width, width), "linear1": (inner, width)}
    sizes["linear2"] = (width, inner)
    for layer in range(layers):
        for name in MATRICES:
            at = f"layers.{layer}.{name}"
            yield from matrix_names(at, *sizes[name], group)
            yield f"{at}.bias", (np.float32, sizes[name][:1])
            if name in ("out_proj", "linear2"):
                norm = f"layers.{layer}.norm{1 if name == 'out_proj' else 2}"
                yield f"{norm}.weight", (np.float32, (width,))
                yield f"{norm}.bias", (np.float32, (width,))


def matrix_names(name: str, outputs: int, inputs: int, group: int) -> Iterator[tuple[str, Kind]]:
    if not group:
        yield f"{name}.halves", (np.float16, (outputs, inputs))
        return
    groups = -(-inputs // group)
    yield f"{name}.numbers", (np.uint8, (outputs, groups, group))
    yield f"{name}.scales", (np.float32, (outputs, groups))
