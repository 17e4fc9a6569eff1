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
    pointer = ctypes.c_void_p
    found.voiced_level.argtypes = [ctypes.c_char_p]
    found.voiced_level.restype = ctypes.c_char_p
    found.voiced_s1_open.argtypes = [pointer, pointer, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, pointer]
    found.voiced_s1_step.argtypes = [pointer, ctypes.c_int, ctypes.c_int, *[pointer] * 6]
    found.voiced_s1_close.argtypes = [pointer]
    found.voiced_s1_close.restype = None
    found.voiced_voice_level.argtypes = [ctypes.c_char_p]
    found.voiced_voice_level.restype = ctypes.c_char_p
    found.voiced_voice_open.argtypes = [pointer, pointer, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, pointer]
    found.voiced_voice_speak.argtypes = [pointer, pointer, ctypes.c_int, pointer, pointer]
    found.voiced_voice_close.argtypes = [pointer]
    found.voiced_voice_close.restype = None
    return found


def level(wanted: str = "") -> str:
    """The instructions that are used where `wanted` ("avx512", "avx2", "portable"; "" for the best) is asked for; ""
    where this processor lacks them.
    """
    name = library().voiced_level(wanted.encode())
    return name.decode() if name else ""


def given_arrays(arrays: Sequence[NDArray[np.generic]]) -> ctypes.Array[_Array]:
    """As the kernel takes them; good for as long as they live."""
    return (_Array * len(arrays))(*(_Array(array.ctypes.data, array.nbytes) for array in arrays))


class Decoder:
    """An open decoder; its own copy of the weights. One caller at a time."""

    def __init__(self, shape: Shape, arrays: Sequence[NDArray[np.generic]], threads: int, wanted: str = "") -> None:
        """`arrays` in the order of `arrays.names`. Raises KernelError, OSError."""
        self._library = library()
        given = given_arrays(arrays)
        handle = ctypes.c_void_p()
        values, threads = _Shape(*astuple(shape)), max(1, min(threads, 64))
        code = self._library.voiced_s1_open(
            ctypes.byref(values), given, len(arrays), threads, wanted.encode(), ctypes.byref(handle)
        )
        if code:
            raise KernelError(code)
        self._handle: ctypes.c_void_p | None = handle

    @property
    def is_open(self) -> bool:
        return self._handle is not None

    def step(self, rows: int, capacity: int, pointers: Sequence[object]) -> None:
        """`pointers` to tokens, positions, rows, keys, values, logits. Raises KernelError."""
        code = self._library.voiced_s1_step(self._handle, rows, capacity, *pointers)
        if code:
            raise KernelError(code)

    def close(self) -> None:
        """Idempotent."""
        if self._handle is not None:
            self._library.voiced_s1_close(self._handle)
        self._handle = None

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()
