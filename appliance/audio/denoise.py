"""Steady noise turned down: each spectral line by as much as the noise of the pauses has of it (spectral subtraction).

For recordings that pass the checks with a fan or a fridge behind the voice. What is not steady (music, other people,
echo) stays. Nothing is taken below FLOOR, so that no musical tones appear.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.audio.speech_activity import find_speech
from appliance.contracts import Audio, Samples

WINDOW_S = 0.032
OVERLAP = 4  # windows over each sample
OVERSUBTRACTION = 1.5
FLOOR = 0.25  # -12 dB
MARGIN_S = 0.1  # around speech: breath is no noise
SHORTEST_PAUSE_S = 0.3  # of pauses altogether; with less the noise is not known

Spectra = NDArray[np.complex128]  # (frames, bins)


def denoise(audio: Audio) -> Audio:
    """The same sound with its steady noise about 12 dB lower; unchanged where there is no pause to learn it from."""
    size = 1 << int(np.ceil(np.log2(WINDOW_S * audio.sample_rate)))
    hop = size // OVERLAP
    spectra = _analyse(audio.samples, size, hop)
    is_pause = _pauses(audio, len(spectra), hop)
    if is_pause.sum() * hop < SHORTEST_PAUSE_S * audio.sample_rate:
        return audio
    power = np.abs(spectra) ** 2
    noise = power[is_pause].mean(axis=0)
    gain = np.clip(1.0 - OVERSUBTRACTION * noise / np.maximum(_smooth(power), 1e-20), FLOOR, 1.0)
    return Audio(_synthesise(spectra * gain, size, hop, len(audio.samples)), audio.sample_rate)


def _analyse(samples: Samples, size: int, hop: int) -> Spectra:
    padded = np.pad(samples.astype(np.float64), (size, size + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.asarray(np.fft.rfft(frames * np.hanning(size + 1)[:-1], axis=1))


def _synthesise(spectra: Spectra, size: int, hop: int, count: int) -> Samples:
    """Overlap and add; the squared Hann windows sum to 1.5 at four windows over each sample."""
    frames = np.fft.irfft(spectra, size, axis=1) * np.hanning(size + 1)[:-1] / 1.5
    sound = np.zeros(hop * (len(frames) - 1) + size)
    for index, frame in enumerate(frames):
        sound[index * hop : index * hop + size] += frame
    return np.asarray(sound[size : size + count], np.float32)


def _pauses(audio: Audio, frames: int, hop: int) -> NDArray[np.bool_]:
    times = (np.arange(frames) * hop - hop * OVERLAP / 2) / audio.sample_rate  # middles; the padding is before 0
    is_pause = (times > 0) & (times < audio.duration_s)
    for start, end in find_speech(audio).segments:
        is_pause &= (times < start - MARGIN_S) | (times > end + MARGIN_S)
    return np.asarray(is_pause)


def _smooth(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over three frames and three bins: single lines flicker."""
    padded = np.pad(power, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9.0)
