"""The chime before an announcement: two bell tones, synthesised.

A falling major third (E5, C5), each tone a few partials of a struck bar, decaying; 0.9 s, then a breath of silence. Its
level follows the speech that comes after it, so that a quiet message has a quiet chime.
"""

from __future__ import annotations

import numpy as np

from appliance.contracts import Audio, Samples

TONES_HZ = (659.26, 523.25)  # E5, C5
ONSETS_S = (0.0, 0.35)
LENGTH_S = 1.1
PAUSE_S = 0.25  # between chime and speech
_PARTIALS = ((1.0, 1.0, 0.38), (2.0, 0.30, 0.22), (2.76, 0.18, 0.12), (4.1, 0.06, 0.06))  # (ratio, level, decay in s)
_ATTACK_S = 0.004
_BELOW_SPEECH = 10 ** (-3.0 / 20)  # bells carry further than voices of the same energy
_PEAK = 0.8


def make_chime(sample_rate: int, loudness: float) -> Samples:
    """The chime with its pause at `sample_rate`, its loudest 0.4 s at RMS `loudness` (but never a peak above 0.8)."""
    time = np.arange(round(LENGTH_S * sample_rate)) / sample_rate
    sound = np.zeros(len(time))
    for pitch, onset in zip(TONES_HZ, ONSETS_S, strict=True):
        since = np.maximum(time - onset, 0.0)
        attack = np.minimum(since / _ATTACK_S, 1.0)
        for ratio, level, decay_s in _PARTIALS:
            if pitch * ratio < 0.45 * sample_rate:
                sound += attack * level * np.exp(-since / decay_s) * np.sin(2 * np.pi * pitch * ratio * since)
    release = np.minimum((LENGTH_S - time) / 0.08, 1.0)
    sound *= release
    sound *= min(loudness / active_rms(sound, sample_rate), _PEAK / np.max(np.abs(sound)))
    return np.concatenate([sound, np.zeros(round(PAUSE_S * sample_rate))]).astype(np.float32)


def active_rms(samples: Samples | np.ndarray, sample_rate: int) -> float:
    """RMS of the loudest 0.4 s windows (their 90th percentile): the level while something sounds; above zero."""
    window = max(1, round(0.4 * sample_rate))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    step = max(1, window // 4)
    starts = np.arange(0, max(1, len(samples) - window + 1), step)
    ends = np.minimum(starts + window, len(samples))
    means = (energy[ends] - energy[starts]) / np.maximum(ends - starts, 1)
    return float(np.sqrt(np.percentile(means, 90))) + 1e-9


def with_chime(speech: Audio) -> Audio:
    """The chime, a pause, then `speech`, as one sound."""
    loudness = _BELOW_SPEECH * active_rms(speech.samples, speech.sample_rate)
    chime = make_chime(speech.sample_rate, loudness)
    return Audio(np.concatenate([chime, speech.samples]), speech.sample_rate)
