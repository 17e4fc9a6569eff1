"""Logits -> the next speech token, in the order of operations that the official service uses.

Penalty for repetition, top-p, temperature, top-k, softmax, then the draw argmax(p / q) with q exponential. The order
matters: top-p looks at logits before the temperature, and drops the token that crosses the threshold.

A step of the network has just read more memory than the caches hold, so that every function is slow for being new to
the processor: few and small ones of NumPy here, and noise is drawn ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Noise = Callable[[int], Floats]  # count -> (count,) exponential numbers with rate 1
AHEAD = 11  # rows of noise: as many as come before an answer may end (`generation.FEWEST_TOKENS`), all of one length


@dataclass(frozen=True)
class SamplingSettings:
    """How freely tokens are drawn; the defaults are the official service's."""

    top_k: int = 15  # 0 keeps all
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.35


def penalise(logits: Floats, seen: NDArray[np.bool_], penalty: float) -> Floats:
    """Make tokens that were there before less likely, each once: (v,) logits, (v,) bool."""
    if penalty == 1.0:
        return logits
    return np.where(seen, np.where(logits < 0, logits * penalty, logits / penalty), logits)


def probabilities(logits: Floats, settings: SamplingSettings) -> Floats:
    """Penalised logits (v,) -> what to draw from, (v,)."""
    if settings.top_p < 1.0:
        logits = _keep_likely(logits, settings.top_p)
    if settings.temperature != 1.0:
        logits = logits / max(settings.temperature, 1e-5)
    if 0 < settings.top_k < len(logits):
        least = np.partition(logits, -settings.top_k)[-settings.top_k]
        logits = np.where(logits < least, -np.inf, logits)  # ties stay
    return _softmax(logits)


def draw(likely: Floats, noise: Floats) -> int:
    """A token with probability `likely` (v,), decided by exponential `noise` (v,)."""
    return int(np.argmax(likely / noise))


def seeded_noise(seed: int) -> Noise:
    """Noise of one request, from a generator of its own: who else speaks does not change it."""
    return _NoiseAhead(seed)


class _NoiseAhead:
    """Rows are drawn ahead; whoever asks for another length gets what would have come if they had not been."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._rows: deque[Floats] = deque()  # of `_count` numbers, drawn from `_before` on
        self._count = 0
        self._before = self._generator.get_state()

    def __call__(self, count: int) -> Floats:
        if not self._rows or count != self._count:
            self._draw_ahead(count)
        return self._rows.popleft()

    def _draw_ahead(self, count: int) -> None:
        if self._rows:
            self._generator.set_state(self._before)
            for _ in range(AHEAD - len(self._rows)):
                self._draw(self._count)
        self._before, self._count = self._generator.get_state(), count
        self._rows = deque(self._draw(count) for _ in range(AHEAD))

    def _draw(self, count: int) -> Floats:
        row: Floats = torch.empty(count).exponential_(1.0, generator=self._generator).numpy()
        return row


def _softmax(logits: Floats) -> Floats:
    grown: Floats = np.exp(logits - logits.max())
    grown /= grown.sum()
    return grown


def _keep_likely(logits: Floats, top_p: float) -> Floats:
    order: NDArray[Any] = np.argsort(-logits, kind="stable")
    is_beyond = np.cumsum(_softmax(logits[order])) > top_p
    is_beyond[0] = False
    kept = logits.copy()
    kept[order[is_beyond]] = -np.inf
    return kept
