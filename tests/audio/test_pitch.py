"""The pitch tracker against tones whose pitch is known."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.audio.pitch import pitch_statistics, track_pitch
from appliance.contracts import Audio
from appliance.errors import InvalidInput


def voice_like(f0_hz: np.ndarray, sample_rate: int, level: float = 0.1) -> Audio:
    """A sum of overtones that fall off, whose pitch follows `f0_hz` (one value per sample)."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / sample_rate
    sound = sum(np.sin(k * phase) / k for k in range(1, 9))
    return Audio((level * sound).astype(np.float32), sample_rate)


@pytest.mark.parametrize("hz", [75.0, 119.0, 210.0, 390.0])
@pytest.mark.parametrize("sample_rate", [16_000, 48_000])
def test_steady_tone_is_found_within_a_tenth_of_a_semitone(hz: float, sample_rate: int) -> None:
    track = track_pitch(voice_like(np.full(sample_rate, hz), sample_rate))
    voiced = track[track > 0]
    assert len(voiced) > 0.9 * len(track)
    assert np.abs(12 * np.log2(voiced / hz)).max() < 0.1


def test_a_glide_is_followed() -> None:
    f0 = np.geomspace(100.0, 200.0, 32_000)
    track = track_pitch(voice_like(f0, 16_000))[5:-10]
    expected = f0[320::160][5:-8][: len(track)]  # the middle of each 40 ms window
    assert np.abs(12 * np.log2(track[track > 0] / expected[track > 0])).max() < 0.5


def test_missing_fundamental_is_still_heard() -> None:
    time = np.arange(16_000) / 16_000
    sound = sum(np.sin(2 * np.pi * 120 * k * time) for k in (2, 3, 4, 5))
    track = track_pitch(Audio((0.05 * sound).astype(np.float32), 16_000))
    assert np.median(track[track > 0]) == pytest.approx(120, rel=0.01)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(1).standard_normal(16_000).astype(np.float32) * 0.1
    assert (track_pitch(Audio(noise, 16_000)) > 0).mean() < 0.05
    assert not track_pitch(Audio(np.zeros(16_000, np.float32), 16_000)).any()
    assert len(track_pitch(Audio(np.zeros(0, np.float32), 16_000))) == 0


def test_statistics_leave_octave_errors_out() -> None:
    track = np.full(400, 120.0, np.float32)
    track[::2] *= 2 ** (2 / 12)
    track[:6] = 480.0
    track[200:260] = 0.0
    found = pitch_statistics(track)
    assert found.median_hz == pytest.approx(127, abs=8)
    assert found.spread_semitones < 2.1
    assert found.voiced_share == pytest.approx(340 / 400)


def test_statistics_refuse_what_is_hardly_voiced() -> None:
    with pytest.raises(InvalidInput) as caught:
        pitch_statistics(np.zeros(100, np.float32))
    assert caught.value.code == "speech_unvoiced"
    assert "20" in caught.value.message("en") + caught.value.remedy("en")
    assert caught.value.message("zh") != "speech_unvoiced.message"
