"""Loudness follows BS.1770 at any rate; the limiter keeps its ceiling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.audio import files, loudness

BECKETT = Path(__file__).parents[1] / "data" / "beckett.flac"


def tone(frequency: float, rate: int, seconds: float = 5.0, level_dbfs: float = 0.0) -> np.ndarray:
    times = np.arange(int(seconds * rate)) / rate
    return (10 ** (level_dbfs / 20) * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return files.mono_at(files.read_audio(BECKETT), 24_000).samples


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000, 96_000])
def test_full_scale_tone_of_the_standard_reads_minus_three(rate: int) -> None:
    assert loudness.integrated_lufs(tone(997, rate), rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness.integrated_lufs(tone(997, rate, level_dbfs=-20), rate) == pytest.approx(-23.01, abs=0.05)


def test_low_tones_count_less_and_high_tones_more() -> None:
    assert loudness.integrated_lufs(tone(40, 48_000), 48_000) < -8
    assert loudness.integrated_lufs(tone(4_000, 48_000), 48_000) == pytest.approx(0.3, abs=0.3)


def test_pauses_are_gated_out() -> None:
    loud = tone(997, 24_000, 4.0, -20)
    with_pause = np.concatenate([loud, np.zeros(24_000 * 8, np.float32), loud])
    assert loudness.integrated_lufs(with_pause, 24_000) == pytest.approx(-23.0, abs=0.4)


def test_long_sounds_are_measured_in_segments_without_seams() -> None:
    long = tone(997, 16_000, 65.0, -20)
    assert loudness.integrated_lufs(long, 16_000) == pytest.approx(-23.0, abs=0.05)


def test_silence_and_nothing_have_a_floor_and_no_gain() -> None:
    for silent in (np.zeros(24_000, np.float32), np.zeros(0, np.float32)):
        assert loudness.integrated_lufs(silent, 24_000) == loudness.SILENCE_LUFS
        assert loudness.gain_for(silent, 24_000, -18) == 1.0
        assert loudness.true_peak_dbtp(silent, 24_000) == loudness.FLOOR_DB
        assert len(loudness.bring_to(silent, 24_000, -18, -1)) == len(silent)


def test_true_peak_sees_between_the_samples() -> None:
    times = np.arange(48_000) / 48_000
    hidden = np.sin(2 * np.pi * 12_000 * times + np.pi / 4).astype(np.float32)  # samples at .707, crest at 1
    assert loudness.peak_dbfs(hidden) == pytest.approx(-3.01, abs=0.05)
    assert loudness.true_peak_dbtp(hidden, 48_000) == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize(("target", "shortfall"), [(-30.0, 0.1), (-18.0, 0.5), (-12.0, 3.0)])
def test_speech_is_brought_to_its_target(speech: np.ndarray, target: float, shortfall: float) -> None:
    out = loudness.bring_to(
        speech, 24_000, target, -1.0
    )  # where peaks are in the way, the ceiling wins over the target
    assert target - shortfall <= loudness.integrated_lufs(out, 24_000) <= target + 0.1
    assert np.abs(out).max() <= 10 ** (-1 / 20) + 1e-6


@pytest.mark.parametrize("gain", [2.0, 10.0, 1_000.0])
def test_limiter_never_exceeds_its_ceiling(speech: np.ndarray, gain: float) -> None:
    rng = np.random.default_rng(0)
    for sound in (speech * gain, rng.standard_normal(5_000).astype(np.float32) * gain, np.ones(3, np.float32) * gain):
        out = loudness.limit(sound.astype(np.float32), 24_000, -1.0)
        assert len(out) == len(sound)
        assert np.abs(out).max() <= np.float32(10 ** (-1 / 20))
    assert loudness.true_peak_dbtp(loudness.limit(speech * gain, 24_000, -1.0), 24_000) < -0.5


def test_limiter_is_smooth_and_leaves_quiet_sound_alone(speech: np.ndarray) -> None:
    assert np.array_equal(loudness.limit(speech, 24_000, -1.0), speech)
    sound = tone(200, 24_000, 1.0, -12)
    sound[12_000:12_010] = 3.0
    out = loudness.limit(sound, 24_000, -1.0)
    gain = out[:11_990] / np.where(np.abs(sound[:11_990]) < 1e-3, np.nan, sound[:11_990])
    steps = np.abs(np.diff(gain[np.isfinite(gain)]))
    assert steps.max() < 0.03, "the gain must move gradually before the peak"
    assert np.array_equal(out[:11_000], sound[:11_000])
