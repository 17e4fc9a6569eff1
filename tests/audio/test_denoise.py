"""Steady noise goes down, the voice stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.audio.denoise import denoise
from appliance.audio.files import read_audio, resample, to_mono
from appliance.audio.noise import snr_db
from appliance.audio.speech_activity import find_speech
from appliance.contracts import Audio

READER = Path(__file__).parents[2] / "appliance" / "data" / "demo" / "two_cities.flac"
RATE = 24_000


def test_noise_between_the_words_goes_down_and_the_voice_stays() -> None:
    clean = resample(to_mono(read_audio(READER).samples)[: 8 * 48_000], 48_000, RATE)
    noise = np.random.default_rng(2).standard_normal(len(clean)).astype(np.float32)
    noisy = Audio(clean + noise * np.float32(np.std(clean) * 0.1), RATE)
    quieter = denoise(noisy)
    before, after = snr_db(noisy, find_speech(noisy)), snr_db(quieter, find_speech(quieter))
    assert before is not None and after is not None and after > before + 6
    assert len(quieter.samples) == len(clean) and quieter.sample_rate == RATE
    assert np.corrcoef(quieter.samples, clean)[0, 1] > np.corrcoef(noisy.samples, clean)[0, 1]


@pytest.mark.parametrize("seconds", [0.0, 0.05, 3.0])
def test_without_a_pause_nothing_changes(seconds: float) -> None:
    silence = Audio(np.zeros(int(seconds * RATE), np.float32), RATE)
    assert np.array_equal(denoise(silence).samples, silence.samples)
