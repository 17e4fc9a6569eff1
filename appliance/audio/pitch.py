"""The pitch of a voice: a YIN tracker in numpy (de Cheveigné and Kawahara, 2002) and robust statistics of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from appliance.contracts import Audio, Samples
from appliance.errors import InvalidInput

Array = NDArray[np.float32]

SAMPLE_RATE = 16_000
HOP = 160  # 10 ms
WINDOW = 640  # 40 ms: two periods of the lowest pitch
LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
DIP = 0.15  # a lag whose normalised difference is below this is taken as the period
UNVOICED = 0.30  # above this at the best lag, the frame has no pitch
QUIET_DB = 35.0  # below the loud frames: silence
REFERENCE_HZ = 100.0
_BLOCK = 512  # frames at a time, to bound memory
_FEWEST_FRAMES = 20


@dataclass(frozen=True)
class PitchStatistics:
    """Where a voice lies and how far it moves."""

    median_hz: float
    spread_semitones: float  # standard deviation around the median, octave errors left out
    voiced_share: float  # of all frames


def track_pitch(audio: Audio) -> Array:
    """Mono sound -> (frames,) Hz every 10 ms, 0 where unvoiced."""
    samples = np.asarray(audio.samples, np.float32)
    if audio.sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, audio.sample_rate, SAMPLE_RATE)
    longest = int(SAMPLE_RATE / LOWEST_HZ) + 2
    padded = np.pad(samples, (0, WINDOW + longest))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW + longest)[: len(samples) : HOP]
    if not len(frames):
        return np.zeros(0, np.float32)
    level = 10 * np.log10(np.mean(frames[:, :WINDOW] ** 2, axis=1) + 1e-12)
    blocks = [_periods(frames[start : start + _BLOCK], longest) for start in range(0, len(frames), _BLOCK)]
    lag, dip = (np.concatenate(part) for part in zip(*blocks, strict=True))
    is_voiced = (dip < UNVOICED) & (level > np.percentile(level, 95) - QUIET_DB) & (level > -70.0)
    return _without_blips(np.where(is_voiced, SAMPLE_RATE / lag, 0.0).astype(np.float32))


def pitch_statistics(f0_hz: Array) -> PitchStatistics:
    """Statistics of a track (Hz, 0 = unvoiced). Raises InvalidInput("speech_unvoiced") when hardly any is voiced."""
    voiced = f0_hz[f0_hz > 0]
    if len(voiced) < _FEWEST_FRAMES:
        raise InvalidInput("speech_unvoiced", voiced_frames=len(voiced), required_frames=_FEWEST_FRAMES)
    semitones = to_semitones(voiced)
    median = float(np.median(semitones))
    near = semitones[np.abs(semitones - median) < 10.0]
    spread = float(np.sqrt(np.mean((near - median) ** 2)))
    return PitchStatistics(float(np.median(voiced)), spread, len(voiced) / len(f0_hz))


def to_semitones(f0_hz: Array) -> Array:
    """Hz -> semitones above 100 Hz."""
    return np.asarray(12 * np.log2(f0_hz / REFERENCE_HZ), np.float32)


def _periods(frames: Samples, longest: int) -> tuple[Array, Array]:
    """(B, WINDOW + longest) -> the period in samples (B,) and how deep its dip is (B,), 0 = perfectly periodic."""
    difference = _difference(frames, longest)  # (B, longest)
    steps = np.arange(1, longest)
    normalised = np.ones_like(difference)
    normalised[:, 1:] = difference[:, 1:] * steps / (np.cumsum(difference[:, 1:], axis=1) + 1e-9)
    first = int(SAMPLE_RATE / HIGHEST_HZ)
    inner = normalised[:, first:-1]
    is_valley = (inner <= normalised[:, first - 1 : -2]) & (inner <= normalised[:, first + 1 :])
    good = is_valley & (inner < DIP)
    # The first deep valley is the period; later ones are its multiples. Without one, take the deepest point.
    lag = np.where(good.any(axis=1), good.argmax(axis=1), inner.argmin(axis=1)) + first
    return _refine(normalised, lag)


def _difference(frames: Samples, longest: int) -> Array:
    """Squared difference of each frame's window with itself, shifted by 0 .. longest - 1 samples."""
    size = 1 << int(np.ceil(np.log2(frames.shape[1] + WINDOW)))
    head = np.fft.rfft(frames[:, :WINDOW], size)
    product = np.fft.irfft(np.fft.rfft(frames, size) * head.conj(), size)[:, :longest]
    energy = np.cumsum(np.pad(frames.astype(np.float64) ** 2, ((0, 0), (1, 0))), axis=1)
    shifted = energy[:, WINDOW : WINDOW + longest] - energy[:, :longest]
    return np.asarray(np.maximum(0.0, shifted[:, :1] + shifted - 2 * product), np.float32)


def _refine(curve: Array, lag: NDArray[np.intp]) -> tuple[Array, Array]:
    """A parabola through the valley and its neighbours gives the period between samples."""
    rows = np.arange(len(curve))
    left, middle, right = curve[rows, lag - 1], curve[rows, lag], curve[rows, lag + 1]
    bend = left - 2 * middle + right
    shift = np.where(np.abs(bend) > 1e-9, 0.5 * (left - right) / np.where(bend == 0, 1, bend), 0.0)
    return np.asarray(lag + np.clip(shift, -1, 1), np.float32), np.asarray(middle, np.float32)


def _without_blips(f0_hz: Array) -> Array:
    """A median over five voiced frames; a voiced run shorter than three frames is no voice."""
    if len(f0_hz) < 5:
        return f0_hz
    is_voiced = f0_hz > 0
    around = np.lib.stride_tricks.sliding_window_view(np.pad(is_voiced, 2), 5)
    values = np.lib.stride_tricks.sliding_window_view(np.pad(np.where(is_voiced, f0_hz, np.nan), 2, mode="edge"), 5)
    keep = is_voiced & (around.sum(axis=1) >= 3)
    result = np.zeros_like(f0_hz)
    result[keep] = np.nanmedian(values[keep], axis=1)
    return result
