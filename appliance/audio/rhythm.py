"""The audible label: the rhythm short-long short-short (Morse for "AI"), as GB 45438-2025 describes it for sound."""

from __future__ import annotations

from functools import cache

import numpy as np

from appliance.contracts import Samples

RHYTHM = "·– ··"
UNIT_S = 0.07  # a short tone; a long one has three
PITCH_HZ = 880.0
EDGE_S = 0.008  # raised cosine, so that nothing clicks
PAUSE_S = 0.3  # before the first word


@cache
def rhythm(sample_rate: int, level_dbfs: float) -> Samples:
    """(n,): the label and the pause after it; tones with a peak of `level_dbfs`. Read-only: copies share it."""
    parts: list[Samples] = []
    for letter in RHYTHM.split():
        for sign in letter:
            parts += [_tone(sample_rate, 3 if sign == "–" else 1), _silence(sample_rate, UNIT_S)]
        parts.append(_silence(sample_rate, 2 * UNIT_S))
    parts.append(_silence(sample_rate, PAUSE_S - 3 * UNIT_S))
    label = np.concatenate(parts) * np.float32(10 ** (level_dbfs / 20))
    label.flags.writeable = False
    return label


def _tone(sample_rate: int, units: int) -> Samples:
    count = round(units * UNIT_S * sample_rate)
    tone = np.sin(2 * np.pi * PITCH_HZ * np.arange(count) / sample_rate)
    edge = max(1, round(EDGE_S * sample_rate))
    slope = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    tone[:edge] *= slope
    tone[-edge:] *= slope[::-1]
    return np.asarray(tone, np.float32)


def _silence(sample_rate: int, seconds: float) -> Samples:
    return np.zeros(round(seconds * sample_rate), np.float32)
