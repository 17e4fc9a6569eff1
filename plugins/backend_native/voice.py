"""Flow and vocoder on the kernel: its C interface, see `kernel/voice.cpp`, and the session."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernel_session import KernelSession
from .library import Network, library

MOST_KINDS = 8  # stages, blocks of a stage, convolutions of a block
MOST_FRAMES = 4096  # in one call
FASTEST = "avx512_bf16"


@dataclass(frozen=True)
class VoiceShape:
    """Sizes of flow and vocoder."""

    latent: int
    hidden: int
    timbre: int
    couplings: int
    layers: int
    wave_taps: int
    initial: int
    rates: tuple[int, ...]
    kernels: tuple[int, ...]
    taps: tuple[int, ...]  # of the blocks of every stage
    dilations: tuple[tuple[int, ...], ...]  # of each block

    @property
    def samples_per_frame(self) -> int:
        return math.prod(self.rates)


class _Shape(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("latent", "hidden", "timbre", "couplings", "layers", "wave_taps")),
        *((name, ctypes.c_int32) for name in ("initial", "stages", "blocks", "pairs")),
        *((name, ctypes.c_int32 * MOST_KINDS) for name in ("rates", "kernels", "taps")),
        ("dilations", ctypes.c_int32 * MOST_KINDS**2),
    ]


def _as_struct(shape: VoiceShape) -> _Shape:
    sizes = (shape.latent, shape.hidden, shape.timbre, shape.couplings, shape.layers, shape.wave_taps, shape.initial)
    counts = (len(shape.rates), len(shape.taps), len(shape.dilations[0]))
    rows = [(*row, *[0] * (MOST_KINDS - len(row))) for row in shape.dilations]
    flat = [number for row in rows for number in row]
    return _Shape(*sizes, *counts, tuple(shape.rates), tuple(shape.kernels), tuple(shape.taps), tuple(flat))


def voice_level(wanted: str = "") -> str:
    """The instructions that flow and vocoder are computed with where `wanted` is asked for ("" for the best); "" where
    this processor lacks them. Raises OSError.
    """
    name = library().voiced_voice_level(wanted.encode())
    return name.decode() if name else ""


def is_worthwhile(wanted: str = "") -> bool:
    """Whether the processor multiplies bf16 itself; without, this kernel is there to compare with, on request."""
    try:
        level = voice_level(wanted)
    except OSError:
        return False
    return level == FASTEST or (level != "" and level == wanted)


class Voice(Network):
    """Flow and vocoder."""

    kind, computes = "voice", "speak"
    takes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

    def __init__(self, shape: VoiceShape, arrays: Sequence[NDArray[Any]], threads: int, wanted: str = "") -> None:
        """`arrays` in the order of `voice_arrays.names`. Raises KernelError, OSError."""
        super().__init__(_as_struct(shape), arrays, threads, wanted)

    def speak(self, latent: NDArray[np.float32], timbre: NDArray[np.float32], sound: NDArray[np.float32]) -> None:
        """latent (channels, frames), timbre (t,) -> sound (samples,). Raises KernelError."""
        self._compute(latent.ctypes.data, latent.shape[1], timbre.ctypes.data, sound.ctypes.data)


class VoiceSession(KernelSession):
    """Latent frames and a timbre to sound, as many as there are."""

    inputs = ("latent", "timbre")
    outputs = ("sound",)

    def __init__(self, shape: VoiceShape, voice: Voice, backend: str) -> None:
        super().__init__(voice, backend)
        self._shape = shape
        self._voice = voice

    @property
    def prepares_lengths(self) -> bool:
        return False

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Execute once. Raises Unavailable("backend_unavailable") for other sizes than the network's, and
        ("session_closed") after `close`.
        """
        shape = self._shape
        latent, timbre = (np.ascontiguousarray(feeds[name], np.float32) for name in self.inputs)
        frames = latent.shape[-1]
        if latent.shape != (1, shape.latent, frames) or timbre.shape != (1, shape.timbre, 1):
            raise self._refused(f"latent {list(latent.shape)}, timbre {list(timbre.shape)}")
        if not 1 <= frames <= MOST_FRAMES:
            raise self._refused(f"{frames} frames, {MOST_FRAMES} at most")
        sound = np.empty((1, 1, frames * shape.samples_per_frame), np.float32)
        with self._turn():
            self._voice.speak(latent[0], timbre, sound)
        return {"sound": sound}
