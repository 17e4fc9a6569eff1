"""How pieces of one answer are batched, finished and joined. Numpy only; samples are (n,) at 32 kHz, full scale 1.

The rules are upstream's, so that its numbers can be compared; where upstream is at fault the docstring says what we do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Samples

SAMPLES_PER_TOKEN = 1280
PAUSE_S = 0.3  # silence after every piece, also after the last

# ---------------------------------------------------------------- batches of pieces


@dataclass(frozen=True)
class BatchRule:
    """Pieces of similar length go together; a batch is as long as its longest piece."""

    size: int = 1
    threshold: float = 0.75  # smallest median / mean of the lengths in one batch
    is_sorted: bool = True  # False keeps the order of the text (streaming, other speeds than 1)


def batches(lengths: Sequence[int], rule: BatchRule) -> list[list[int]]:
    """Indices of pieces per batch. Sorted: each batch is the longest run of sorted pieces within size and threshold."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i]) if rule.is_sorted else list(range(len(lengths)))
    found = []
    while order:
        count = min(rule.size, len(order))
        while rule.is_sorted and count > 1 and not _is_even([lengths[i] for i in order[:count]], rule.threshold):
            count -= 1
        found.append(order[:count])
        order = order[count:]
    return found


def _is_even(lengths: list[int], threshold: float) -> bool:
    """`lengths` ascending; of an even number the upper middle one is the median."""
    mean = sum(lengths) / len(lengths)
    return lengths[len(lengths) // 2] >= threshold * mean


# ---------------------------------------------------------------- finishing pieces


def finish_piece(samples: Samples, sample_rate: int, pause_s: float = PAUSE_S) -> Samples:
    """Divided by its peak where that is above 1, and a pause after it."""
    peak = float(np.abs(samples).max(initial=0.0))
    level = samples / np.float32(peak) if peak > 1.0 else samples
    pause = np.zeros(int(sample_rate * pause_s), np.float32)
    return np.concatenate([level, pause]).astype(np.float32, copy=False)


def in_text_order(done: Sequence[Sequence[Samples]], order: Sequence[Sequence[int]]) -> Samples:
    """Finished pieces per batch, with the indices that `batches` gave -> one waveform in the order of the text."""
    by_index: dict[int, Samples] = {}
    for indices, pieces in zip(order, done, strict=True):
        by_index.update(zip(indices, pieces, strict=True))
    if not by_index:
        return np.zeros(0, np.float32)
    return np.concatenate([by_index[i] for i in sorted(by_index)])


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """Toward zero, as upstream; but +1.0 becomes 32767, where upstream's wraps around to a click."""
    return np.asarray(np.clip(np.trunc(samples * np.float32(32768.0)), -32768, 32767), np.int16)


# ---------------------------------------------------------------- joining overlapping fragments


@dataclass(frozen=True)
class Sola:
    """Synchronised overlap-add: shift the next fragment to where it fits best, then cross-fade."""

    overlap: int  # samples in which neighbours say the same
    search: int = 320  # samples by which the next fragment may be shifted

    @classmethod
    def for_tokens(cls, overlap_tokens: int = 2, speed: float = 1.0) -> Sola:
        """For fragments of `decode_stream` that overlap by so many tokens."""
        return cls(math.ceil(overlap_tokens * SAMPLES_PER_TOKEN / speed))

    def join_next(self, held: Samples | None, fragment: Samples, is_last: bool) -> tuple[Samples, Samples]:
        """What was held back and the next fragment -> what can be played, and what is held back now.

        The last fragment is joined like all others; upstream's last joint is a hard cut.
        """
        joined = fragment if held is None else self._fade(held, fragment)
        keep = 0 if is_last else min(self.overlap, len(joined))
        return joined[: len(joined) - keep], joined[len(joined) - keep :]

    def join(self, fragments: Sequence[Samples]) -> Samples:
        """All fragments of one piece -> its waveform."""
        played, held = [], None
        for i, fragment in enumerate(fragments):
            sound, held = self.join_next(held, fragment, i + 1 == len(fragments))
            played.append(sound)
        return np.concatenate(played) if played else np.zeros(0, np.float32)

    def _fade(self, held: Samples, fragment: Samples) -> Samples:
        overlap = min(len(held), len(fragment))
        if overlap == 0:
            return np.concatenate([held, fragment])
        lead, tail = held[: len(held) - overlap], held[len(held) - overlap :]
        shifted = fragment[self._best_shift(tail, fragment) :]
        angle = np.arange(overlap, dtype=np.float32) * np.float32(np.pi / (2 * overlap))
        rising, falling = np.square(np.sin(angle)), np.square(np.cos(angle))  # the halves of a Hann window
        mixed = shifted[:overlap] * rising + tail * falling
        return np.concatenate([lead, mixed, shifted[overlap:]]).astype(np.float32, copy=False)

    def _best_shift(self, tail: Samples, fragment: Samples) -> int:
        """The shift with the highest correlation, normalised by the energy of what it meets."""
        near = fragment[: len(tail) + self.search].astype(np.float64)
        likeness = np.correlate(near, tail.astype(np.float64), mode="valid")
        sums = np.concatenate([[0.0], np.cumsum(np.square(near))])
        energy = np.maximum(sums[len(tail) :] - sums[: len(sums) - len(tail)], 0.0)
        return int(np.argmax(likeness / np.sqrt(energy + 1e-8)))
