"""A phrase in windows: where each begins and ends, and how their sounds are joined.

A frame is 12.5 ms of `body`, 300 samples, 60 columns of `harmonics`. A window is computed with `CONTEXT` frames more on
each side than it delivers, about what the generator sees. The first one is short, because its length is the wait
before the first sound; later ones grow, because earlier ones play meanwhile and context costs less beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Samples

FRAME_SAMPLES = 300  # at 24 kHz
FRAME_COLUMNS = 60  # of harmonics; there is one column more than 60 per frame
CONTEXT = 6  # frames on each side; with floats 4 leave an error of 2e-4, 6 none
LENGTHS = (32, 48, 96)  # frames of the first, second and every later window
LEAST = 24  # a last window shorter than this is joined to the one before
FADE = 120  # samples over which one window passes into the next: integers are rounded to each window's own scale


@dataclass(frozen=True)
class Window:
    """Frames [start, end) are delivered, [first, last) are computed."""

    first: int
    start: int
    end: int
    last: int

    def body(self, body: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, C, frames) -> the frames to compute."""
        return np.ascontiguousarray(body[:, :, self.first : self.last])

    def harmonics(self, harmonics: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, 22, 60 frames + 1) -> the columns of the frames to compute."""
        return np.ascontiguousarray(harmonics[:, :, self.first * FRAME_COLUMNS : self.last * FRAME_COLUMNS + 1])


def plan_windows(frames: int) -> Iterator[Window]:
    """Windows that deliver each of `frames` once, in order."""
    start = number = 0
    while start < frames:
        end = start + LENGTHS[min(number, len(LENGTHS) - 1)]
        end = frames if end + LEAST > frames else end
        yield Window(max(0, start - CONTEXT), start, end, min(frames, end + CONTEXT))
        start, number = end, number + 1


class Joiner:
    """Puts the sounds of successive windows together, each passing into the next."""

    def __init__(self) -> None:
        self._ahead: Samples = np.zeros(0, np.float32)  # what the window before says about the beginning of this one

    def join(self, window: Window, samples: NDArray[np.float32]) -> Samples:
        """The samples that `window` delivers, of all that were computed for it."""
        start, end = ((frame - window.first) * FRAME_SAMPLES for frame in (window.start, window.end))
        piece = samples[start:end].copy()
        width = len(self._ahead)
        rising = np.linspace(0.0, 1.0, width, dtype=np.float32)
        piece[:width] = self._ahead * (1.0 - rising) + piece[:width] * rising
        self._ahead = samples[end : end + FADE].copy()
        return piece
