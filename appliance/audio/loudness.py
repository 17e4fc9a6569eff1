"""Loudness after ITU-R BS.1770-5, true peak, gain to a target, and a limiter that keeps its ceiling.

Everything is mono float32, full scale 1.0. Filters work in the frequency domain, so any sample rate has the same curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import soxr
from numpy.typing import NDArray

from appliance.contracts import Samples

SILENCE_LUFS = -70.0  # the absolute gate of BS.1770: what is below is not programme
FLOOR_DB = -120.0  # stands for the level of digital silence, so that figures stay finite
BLOCK_S = 0.4
STEP_S = 0.1
RELATIVE_GATE_LU = 10.0
OFFSET_LU = -0.691

SEGMENT_S = 20.0  # filtered at a time, to bound memory
PREROLL_S = 0.5  # the filters' memory: the 38 Hz high-pass has died away by then

# Analogue prototypes of the two K-weighting stages (BS.1770 gives them as 48 kHz coefficients; these reproduce those).
SHELF_HZ, SHELF_Q = 1681.974450955533, 0.7071752369554196
SHELF_GAIN_DB, SHELF_EXPONENT = 3.999843853973347, 0.4996667741545416
HIGHPASS_HZ, HIGHPASS_Q = 38.13547087602444, 0.5003270373238773

LIMITER_REACH_S = 0.004  # how long before and after a peak the gain moves
OVERSAMPLING = 4


def decibels(ratio: float) -> float:
    """Amplitude ratio -> dB, never below FLOOR_DB."""
    return max(FLOOR_DB, 20.0 * math.log10(ratio)) if ratio > 0 else FLOOR_DB


def integrated_lufs(samples: Samples, sample_rate: int) -> float:
    """Gated loudness of the whole sound in LUFS, at least SILENCE_LUFS; shorter than 0.4 s counts as one block."""
    return loudness_of_parts((samples,), sample_rate)


def loudness_of_parts(parts: Iterable[Samples], sample_rate: int) -> float:
    """The same of a sound that comes in long parts; the few blocks across their seams are left out."""
    powers = np.concatenate([np.zeros(0), *(_block_powers(part, sample_rate) for part in parts)])
    gated = powers[_loudness(powers) > SILENCE_LUFS]
    if gated.size == 0:
        return SILENCE_LUFS
    threshold = float(_loudness(gated.mean())) - RELATIVE_GATE_LU
    gated = gated[_loudness(gated) > threshold]
    return float(_loudness(gated.mean()))


def _loudness(power: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(OFFSET_LU + 10.0 * np.log10(np.maximum(power, 1e-12)))


def _block_powers(samples: Samples, sample_rate: int) -> NDArray[np.float64]:
    """Mean square of the K-weighted sound in blocks of 400 ms, every 100 ms."""
    if len(samples) == 0:
        return np.zeros(0)
    energy = np.concatenate([np.square(part) for part in _k_weighted(samples, sample_rate)])
    running = np.concatenate([[0.0], np.cumsum(energy)])
    block, step = int(BLOCK_S * sample_rate), max(1, int(STEP_S * sample_rate))
    block = min(block, len(energy))
    starts = np.arange(0, len(energy) - block + 1, step)
    return np.asarray((running[starts + block] - running[starts]) / block)


def _k_weighted(samples: Samples, sample_rate: int) -> Iterator[NDArray[np.float64]]:
    """The sound through both K-weighting stages, segment by segment."""
    segment, preroll = int(SEGMENT_S * sample_rate), int(PREROLL_S * sample_rate)
    for start in range(0, len(samples), segment):
        begin = max(0, start - preroll)
        part = samples[begin : start + segment].astype(np.float64)
        size = 1 << (len(part) + preroll - 1).bit_length()  # zeros behind it keep the circular filter from wrapping
        spectrum = np.fft.rfft(part, size) * _k_response(size, sample_rate)
        yield np.fft.irfft(spectrum, size)[start - begin : len(part)]


@lru_cache(maxsize=8)
def _k_response(size: int, sample_rate: int) -> NDArray[np.complex128]:
    """Frequency response of both stages (bilinear transform of the prototypes) on the bins of an rfft of `size`."""
    z1 = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    warped = math.tan(math.pi * SHELF_HZ / sample_rate)
    high = 10.0 ** (SHELF_GAIN_DB / 20.0)
    middle = high**SHELF_EXPONENT
    slope = middle * warped / SHELF_Q
    shelf_b = (high + slope + warped**2, 2 * (warped**2 - high), high - slope + warped**2)
    shelf = _biquad(z1, shelf_b, _denominator(warped, SHELF_Q))
    warped = math.tan(math.pi * HIGHPASS_HZ / sample_rate)
    low = _denominator(warped, HIGHPASS_Q)
    # BS.1770 leaves this stage unnormalised: its numerator is 1, -2, 1 over a denominator that starts with 1
    highpass = _biquad(z1, (low[0], -2 * low[0], low[0]), low)
    return np.asarray(shelf * highpass)


def _denominator(warped: float, q: float) -> tuple[float, float, float]:
    return (1 + warped / q + warped**2, 2 * (warped**2 - 1), 1 - warped / q + warped**2)


def _biquad(
    z1: NDArray[np.complex128], b: tuple[float, float, float], a: tuple[float, float, float]
) -> NDArray[np.complex128]:
    return np.asarray((b[0] + b[1] * z1 + b[2] * z1**2) / (a[0] + a[1] * z1 + a[2] * z1**2))


# ---------------------------------------------------------------- peaks and gain


def peak_dbfs(samples: Samples) -> float:
    """Greatest sample in dB relative to full scale, at least FLOOR_DB."""
    return decibels(float(np.max(np.abs(samples)))) if len(samples) else FLOOR_DB


def true_peak_dbtp(samples: Samples, sample_rate: int) -> float:
    """Greatest value between the samples too (4x oversampled), dBTP, at least FLOOR_DB."""
    step, overlap = int(SEGMENT_S * sample_rate), 256
    parts = (samples[max(0, start - overlap) : start + step + overlap] for start in range(0, len(samples), step))
    return decibels(max((float(_peaks_between(part).max()) for part in parts), default=0.0))


def _peaks_between(samples: Samples) -> NDArray[np.float32]:
    """(n,) -> (n,): the greatest absolute value at or just after each sample, 4x oversampled."""
    fine = np.abs(soxr.resample(samples, 1, OVERSAMPLING, quality="HQ"))
    fine = np.pad(fine, (0, max(0, OVERSAMPLING * len(samples) - len(fine))))[: OVERSAMPLING * len(samples)]
    peaks = fine.reshape(len(samples), OVERSAMPLING).max(axis=1)
    return np.asarray(np.maximum(peaks, np.abs(samples)), np.float32)


def gain_for(samples: Samples, sample_rate: int, target_lufs: float, *, max_gain_db: float = 24.0) -> float:
    """Factor that brings the sound to `target_lufs`; 1.0 for silence; never more than `max_gain_db`."""
    return gain_between(integrated_lufs(samples, sample_rate), target_lufs, max_gain_db=max_gain_db)


def gain_between(measured_lufs: float, target_lufs: float, *, max_gain_db: float = 24.0) -> float:
    """Factor from a measured loudness to a target; 1.0 for silence; never more than `max_gain_db`."""
    if measured_lufs <= SILENCE_LUFS:
        return 1.0
    return float(10.0 ** (min(target_lufs - measured_lufs, max_gain_db) / 20.0))


def limit(samples: Samples, sample_rate: int, ceiling_dbfs: float) -> Samples:
    """Turn peaks down, smoothly and in time, so that no sample exceeds the ceiling; quieter sound passes unchanged.

    The gain at each sample is the mean, over the reach of the limiter, of the least gain any neighbour within that
    reach needs: an average of numbers that are all small enough for this sample, hence small enough itself.
    """
    ceiling = 10.0 ** (ceiling_dbfs / 20.0)
    if len(samples) == 0:
        return samples
    peaks = _peaks_between(samples)
    if float(peaks.max()) <= ceiling:
        return samples
    needed = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9)).astype(np.float64)
    reach = max(1, int(LIMITER_REACH_S * sample_rate))
    window = np.hanning(2 * reach + 3)[1:-1]
    least = np.pad(_rolling_minimum(needed, reach), reach, mode="edge")
    gain = np.convolve(least, window / window.sum(), mode="valid")
    limited = (samples * gain).astype(np.float32)
    return np.clip(limited, -ceiling, ceiling)  # only rounding is left to clip


def _rolling_minimum(values: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Minimum over [i - reach, i + reach] for each i, in linear time (two running minima per block of the window)."""
    width = 2 * reach + 1
    padded_size = -(-(len(values) + 2 * reach) // width) * width
    padded = np.full(padded_size, np.inf)
    padded[reach : reach + len(values)] = values
    blocks = padded.reshape(-1, width)
    ahead = np.minimum.accumulate(blocks, axis=1).ravel()
    behind = np.minimum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    return np.minimum(behind[: len(values)], ahead[width - 1 : width - 1 + len(values)])


def bring_to(samples: Samples, sample_rate: int, target_lufs: float, ceiling_dbfs: float) -> Samples:
    """Gain to `target_lufs`, then the limiter: what every finished answer gets."""
    louder = (samples * gain_for(samples, sample_rate, target_lufs)).astype(np.float32)
    return limit(louder, sample_rate, ceiling_dbfs)
