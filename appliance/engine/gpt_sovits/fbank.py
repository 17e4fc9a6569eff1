"""Log mel filter banks by Kaldi's conventions, which the speaker network was trained on.

Source: the feature extraction of Kaldi (D. Povey et al., 2011), with its defaults where nothing else is said. The
waveform is within -1 .. 1, not scaled to 16 bits, no noise is added, and the mean over time stays in.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
WINDOW, HOP, N_FFT = 400, 160, 512  # 25 ms, 10 ms
BANDS = 80
LOWEST_HZ = 20.0
EMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)

Samples = NDArray[np.floating]


def log_mel_banks(samples: Samples) -> NDArray[np.float32]:
    """Samples (n,) at 16 kHz -> (frames, 80), natural logarithm of energies; frames = (n - 400) // 160 + 1.

    Only whole windows count. Raises ValueError if there is none.
    """
    if samples.ndim != 1 or len(samples) < WINDOW:
        raise ValueError(f"samples of shape {samples.shape}; one frame takes {WINDOW}")
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), WINDOW)[::HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate((frames[:, :1], frames[:, :-1]), axis=1)  # the first sample is its own predecessor
    spectra = np.fft.rfft((frames - EMPHASIS * before) * _window(), N_FFT)
    energies = (spectra.real**2 + spectra.imag**2) @ _filters().T
    return np.log(np.maximum(energies, FLOOR)).astype(np.float32)


def _window() -> NDArray[np.float64]:
    """Povey's: a Hann window (both ends zero) to the power of 0.85."""
    return np.hanning(WINDOW) ** 0.85


@lru_cache(maxsize=1)
def _filters() -> NDArray[np.float64]:
    """(80, 257): triangles of equal width on the mel scale between 20 Hz and 8 kHz, one half over the next."""
    lowest, highest = _mel(np.array([LOWEST_HZ, SAMPLE_RATE / 2]))
    edges = np.linspace(lowest, highest, BANDS + 2)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    mel = _mel(np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1))[None]
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters


def _mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    mel: NDArray[np.float64] = 1127.0 * np.log1p(hz / 700.0)
    return mel
