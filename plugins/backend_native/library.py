"""The kernel's C interface, see `kernel/decoder.cpp` and `kernel/level.cpp`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("kernel.so")
MOST_ROWS = 16  # answers in one step
MOST_CAPACITY = 4096  # rows of keys and values of one answer
MOST_THREADS = 64
ERRORS = (
    "",
    "its sizes are not ones that the kernel computes",
    "its arrays do not have the sizes that its shape demands",
    "this processor does not have these instructions",
    "there is not enough memory",
    "a token, a position or a row is out of range",
    "no more threads can be started",
)
NO_MEMORY, NO_THREADS = 4, 6


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder; `group` weights share a scale, 0 where weights are half floats."""

    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    group: int

    @property
    def head_size(self) -> int:
        return self.width // self.heads


class KernelError(Exception):
    """What the kernel refuses, and its number."""

    def __init__(self, number: int) -> None:
        super().__init__(ERRORS[number])
        self.number = number


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in Shape.__dataclass_fields__]


class _Array(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("bytes", ctypes.c_uint64)]


@cache
def library() -> ctypes.CDLL:
    """Raises OSError where it has not been built, or was built for another kind of machine."""
    found = ctypes.CDLL(str(FILE))
    for name in ("voiced_level", "voiced_voice_level"):
        function = getattr(found, name)
        function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_char_p
    return found


def level(wanted: str = "") -> str:
    """The instructions that are used where `wanted` ("avx512", "avx2", "portable"; "" for the best) is asked for; ""
    where this processor lacks them.
    """
    name = library().voiced_level(wanted.encode())
    return name.decode() if name else ""


class Network:
    """An open network of the kernel; its own copy of the weights. One caller at a time.

    A kind of network has three functions, "voiced_KIND_open", …_close, and one that computes.
    """

    kind: str
    computes: str  # name of the third
    takes: tuple[type, ...]  # its arguments behind the handle

    def __init__(
        self, shape: ctypes.Structure, arrays: Sequence[NDArray[np.generic]], threads: int, wanted: str = ""
    ) -> None:
        """`arrays` in the order in which the kernel takes them. Raises KernelError, OSError."""
        opens, self._closes, self._computes = (
            getattr(library(), f"voiced_{self.kind}_{name}") for name in ("open", "close", self.computes)
        )
        pointer = ctypes.c_void_p
        opens.argtypes = [pointer, pointer, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, pointer]
        self._closes.argtypes, self._closes.restype = [pointer], None
        self._computes.argtypes = [pointer, *self.takes]
        given = (_Array * len(arrays))(*(_Array(array.ctypes.data, array.nbytes) for array in arrays))
        handle, threads = ctypes.c_void_p(), max(1, min(threads, MOST_THREADS))
        _check(opens(ctypes.byref(shape), given, len(arrays), threads, wanted.encode(), ctypes.byref(handle)))
        self._handle: ctypes.c_void_p | None = handle

    @property
    def is_open(self) -> bool:
        return self._handle is not None

    def _compute(self, *arguments: object) -> None:
        """Raises KernelError."""
        _check(self._computes(self._handle, *arguments))

    def close(self) -> None:
        """Idempotent."""
        if self._handle is not None:
            self._closes(self._handle)
        self._handle = None

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()


def _check(code: int) -> None:
    if code:
        raise KernelError(code)


class Decoder(Network):
    """Steps of s1."""

    kind, computes = "s1", "step"
    takes = (ctypes.c_int, ctypes.c_int, *[ctypes.c_void_p] * 6)

    def __init__(self, shape: Shape, arrays: Sequence[NDArray[np.generic]], threads: int, wanted: str = "") -> None:
        """`arrays` in the order of `arrays.names`. Raises KernelError, OSError."""
        super().__init__(_Shape(*astuple(shape)), arrays, threads, wanted)

    def step(self, rows: int, capacity: int, pointers: Sequence[object]) -> None:
        """`pointers` to tokens, positions, rows, keys, values, logits. Raises KernelError."""
        self._compute(rows, capacity, *pointers)
