"""Short-time spectra and mel bands, in numpy. Written for measures and embeddings, not for playback."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Samples

Array = NDArray[np.float32]

_LINEAR_HZ_PER_MEL = 200.0 / 3  # Slaney's scale: linear below 1 kHz, 27 steps per factor 6.4 above
_BREAK_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27.0


def power_spectra(samples: Samples, n_fft: int, hop: int) -> Array:
    """(n,) -> (1 + n // hop, n_fft // 2 + 1): squared magnitudes under a Hann window, zeros beyond the ends."""
    padded = np.pad(np.asarray(samples, np.float32), n_fft // 2)
    if len(padded) < n_fft:
        padded = np.pad(padded, (0, n_fft - len(padded)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return (np.abs(np.fft.rfft(frames * window.astype(np.float32), axis=1)) ** 2).astype(np.float32)


@cache
def mel_filters(sample_rate: int, n_fft: int, bands: int, top_hz: float) -> Array:
    """(n_fft // 2 + 1, bands): triangles of equal area on Slaney's mel scale from 0 to `top_hz`."""
    edges = _from_mel(np.linspace(0.0, _to_mel(top_hz), bands + 2))  # (bands + 2,) Hz
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate)[:, None]  # (F, 1)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters = (triangles * (2.0 / (edges[2:] - edges[:-2]))).astype(np.float32)
    filters.setflags(write=False)
    return filters


def _to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return float(_BREAK_HZ / _LINEAR_HZ_PER_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _from_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    edge = _BREAK_HZ / _LINEAR_HZ_PER_MEL
    return np.where(mel < edge, mel * _LINEAR_HZ_PER_MEL, _BREAK_HZ * np.exp(_LOG_STEP * (mel - edge)))


def cepstra(power: Array, filters: Array, count: int) -> Array:
    """(frames, F) power -> (frames, count): mel cepstra 1 .. count (orthonormal DCT-II, without the 0th, loudness)."""
    bands = filters.shape[1]
    logs = np.log(power @ filters + 1e-10)  # (frames, bands)
    angles = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(1, count + 1)
    basis = np.sqrt(2.0 / bands) * np.cos(angles)  # (bands, count)
    return np.asarray(logs @ basis, np.float32)


def speech_frames(power: Array, range_db: float = 35.0) -> NDArray[np.bool_]:
    """(frames, F) -> (frames,) True where the energy is within `range_db` of the loud frames (95th percentile)."""
    level = 10 * np.log10(power.sum(axis=1) + 1e-10)
    return np.asarray(level > np.percentile(level, 95) - range_db)
