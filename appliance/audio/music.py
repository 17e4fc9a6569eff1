"""Music behind or instead of a voice, told by tones that stand still.

The partials of a speaking voice glide; those of an instrument keep their frequency until the next note. Counted are
moments at which two spectral lines or more have stood in one place for at least HOLD_S. A line that stands through
half of the recording is hum, which the distance to the noise judges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.audio.files import resample
from appliance.contracts import Audio

RATE = 16_000  # Hz
WINDOW, HOP = 1024, 256  # 64 ms, every 16 ms
LOWEST_BIN, BINS = 6, 320  # 94 Hz .. 5 kHz
PROMINENCE_DB = 12.0  # above the median of the neighbourhood
REACH = 10  # bins to each side of it
RANGE_DB = 60.0  # below the loudest line, nothing counts
HOLD_S = 0.4
HUM_SHARE = 0.5  # of all frames; a melody moves on before
LINES = 2
_BLOCK = 512  # frames at a time, to bound memory


def music_share(audio: Audio) -> float:
    """Share of the time, 0 .. 1, with steady tones together. Speech: 0.0; music 10 to 15 dB below it: 0.12 to 0.4."""
    samples = resample(audio.samples, audio.sample_rate, RATE)
    if len(samples) < WINDOW:
        return 0.0
    standing = _in_long_runs(_lines(samples), int(HOLD_S * RATE / HOP))
    return float(np.mean(standing.sum(axis=1) >= LINES))


def _lines(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(frames, BINS): where a spectral line stands out."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    window = np.hanning(WINDOW).astype(np.float32)
    blocks = [_levels(frames[start : start + _BLOCK] * window) for start in range(0, len(frames), _BLOCK)]
    loudest = max(float(block.max()) for block in blocks)
    lines = np.concatenate([_prominent(block) & (block > loudest - RANGE_DB) for block in blocks])
    lines[:, :LOWEST_BIN] = False
    lines[:, lines.mean(axis=0) > HUM_SHARE] = False
    return lines


def _levels(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    spectra = np.abs(np.fft.rfft(frames, axis=1))[:, :BINS]
    return np.asarray(20 * np.log10(spectra + 1e-7), np.float32)


def _prominent(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(levels, ((0, 0), (REACH, REACH)), mode="edge"), 2 * REACH + 1, axis=1
    )
    beside = np.pad(levels, ((0, 0), (1, 1)), mode="edge")
    is_peak = (levels >= beside[:, :-2]) & (levels >= beside[:, 2:])
    return np.asarray(is_peak & (levels > np.median(around, axis=-1) + PROMINENCE_DB))


def _in_long_runs(mask: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """(frames, BINS): the part of each column that lies in runs of at least `least`."""
    edges = np.diff(np.pad(mask.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)  # (BINS, frames + 1)
    kept = np.zeros(mask.shape, bool)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    for row, start, end in zip(rows, starts, ends, strict=True):
        if end - start >= least:
            kept[start:end, row] = True
    return kept
