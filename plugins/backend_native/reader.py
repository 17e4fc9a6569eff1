"""The kernel's reader: a stack of layers over all rows of a prompt, see `kernel/reader.cpp`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .library import Network

MOST_ROWS = 4096  # of one prompt
RECTIFIED, GELU = 0, 1  # what stands between the two linear maps of the feed-forward


@dataclass(frozen=True)
class ReaderShape:
    """Sizes of a reader; `group` weights share a scale."""

    layers: int
    width: int
    heads: int
    inner: int
    group: int
    features: int  # width of what is added to the first rows through a matrix of its own; 0: nothing
    vocabulary: int  # logits of the last row; 0: all rows of the last layer are wanted instead
    activation: int
    epsilon: float

    @property
    def head_size(self) -> int:
        return self.width // self.heads


@dataclass
class Prompt:
    """What is read, and where the results go. All arrays are contiguous."""

    x: NDArray[np.float32]  # (rows, width), overwritten: by the result where all rows are wanted
    features: NDArray[np.float32] | None = None  # (featured, features)
    mask: NDArray[np.float32] | None = None  # (rows, rows), added to scores
    tables: NDArray[np.float16] | None = None  # (layers, 2, heads, rows, head_size) <- keys and values
    logits: NDArray[np.float32] | None = None  # (vocabulary,) <-


class _Shape(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_float if name == "epsilon" else ctypes.c_int32) for name in ReaderShape.__dataclass_fields__
    ]


class _Reading(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.c_int32),
        ("featured", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("x", "features", "mask", "keys", "values", "logits")),
    ]


class Reader(Network):
    """A stack of layers over all rows of a prompt."""

    kind, computes, takes = "reader", "read", (ctypes.c_void_p,)

    def __init__(self, shape: ReaderShape, arrays: Sequence[NDArray[Any]], threads: int, wanted: str = "") -> None:
        """`arrays` in the order of `reader_arrays`. Raises KernelError, OSError."""
        super().__init__(_Shape(*astuple(shape)), arrays, threads, wanted)
        self.shape = shape

    def read(self, prompt: Prompt) -> None:
        """Raises KernelError, ValueError for arrays of other sizes: the kernel believes what it is told."""
        rows, shape = len(prompt.x), self.shape
        featured = 0 if prompt.features is None else len(prompt.features)
        tables = (shape.layers, 2, shape.heads, rows, shape.head_size)
        _expect(prompt.x, np.float32, (rows, shape.width))
        _expect(prompt.features, np.float32, (featured, shape.features))
        _expect(prompt.mask, np.float32, (rows, rows))
        _expect(prompt.tables, np.float16, tables)
        _expect(prompt.logits, np.float32, (shape.vocabulary,))
        if (prompt.logits is None) == bool(shape.vocabulary):
            raise ValueError("logits")
        reading = _Reading(rows, featured, *(_address(found) for found in (prompt.x, prompt.features, prompt.mask)))
        if prompt.tables is not None:
            reading.keys, reading.values = (
                ctypes.cast(_addresses(prompt.tables[:, kind]), ctypes.c_void_p) for kind in range(2)
            )
        reading.logits = _address(prompt.logits)
        self._compute(ctypes.byref(reading))


def _expect(array: NDArray[Any] | None, kind: type, sizes: tuple[int, ...]) -> None:
    if array is not None and (array.dtype != kind or array.shape != sizes or not array.flags.c_contiguous):
        raise ValueError(f"{array.dtype}{list(array.shape)} instead of {np.dtype(kind)}{list(sizes)}")


def _address(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data


def _addresses(tables: NDArray[np.float16]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tables))(*(table.ctypes.data for table in tables))
