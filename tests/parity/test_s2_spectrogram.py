"""Spectrograms and mel bands against upstream's; the resampler by what a resampler must do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from parity_recipe import load_npz
from torch import Tensor

from appliance.engine.gpt_sovits.spectrogram import (
    MEL_V2,
    MEL_V3,
    MEL_V4,
    MelSizes,
    limit_peak,
    mel_from_spectrogram,
    mel_spectrogram,
    reference_spectrogram,
    reference_waveform,
    resample,
)

FILE = "gptsovits_tiny/spectrogram.npz"


def test_spectrogram() -> None:
    arrays = load_npz(FILE)
    found = reference_spectrogram(torch.from_numpy(arrays["wav32k"])).numpy()
    wanted = arrays["spec"]
    print("spec", np.abs(found - wanted).max(), (np.abs(found - wanted) / np.abs(wanted)).max())
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_mel_of_a_spectrogram() -> None:
    arrays = load_npz(FILE)
    found = mel_from_spectrogram(torch.from_numpy(arrays["spec"])).numpy()
    np.testing.assert_allclose(found, arrays["mel128_from_spec"], atol=1e-3)


@pytest.mark.parametrize(
    ("wave", "name", "sizes"),
    [("wav32k", "mel128_from_wav", MEL_V2), ("wav24k", "mel_v3", MEL_V3), ("wav32k", "mel_v4", MEL_V4)],
)
def test_mel(wave: str, name: str, sizes: MelSizes) -> None:
    arrays = load_npz(FILE)
    found = mel_spectrogram(torch.from_numpy(arrays[wave]), sizes).numpy()
    print(name, np.abs(found - arrays[name]).max())
    assert found.shape == arrays[name].shape
    np.testing.assert_allclose(found, arrays[name], atol=1e-3)


def test_tiny_reference_spectrograms() -> None:
    arrays = load_npz("gptsovits_tiny/s2_v2_tiny_infer.npz")
    for i in range(2):
        found = reference_spectrogram(torch.from_numpy(arrays[f"ref_wav_{i}"])).numpy()
        np.testing.assert_allclose(found, arrays[f"ref_spec_{i}"], rtol=1e-4, atol=1e-5)


def _tone(rate: int, hz: float, seconds: float = 0.5) -> Tensor:
    return torch.sin(torch.arange(int(rate * seconds)) * (2 * math.pi * hz / rate)).unsqueeze(0)


@pytest.mark.parametrize(("source", "target"), [(44_100, 32_000), (48_000, 32_000), (16_000, 32_000), (32_000, 16_000)])
def test_resampled_tones_stay_tones(source: int, target: int) -> None:
    found = resample(_tone(source, 1000.0), source, target)
    assert found.shape[1] == math.ceil(source // 2 * target / source)
    inner = slice(200, -200)
    np.testing.assert_allclose(found[0, inner], _tone(target, 1000.0)[0, : found.shape[1]][inner], atol=2e-3)


def test_resampling_removes_what_does_not_fit() -> None:
    assert resample(_tone(32_000, 12_000.0), 32_000, 16_000)[0, 200:-200].abs().max() < 0.01


def test_reference_waveform() -> None:
    left, right = _tone(32_000, 440.0)[0] * 3, torch.zeros(16_000)
    averaged = reference_waveform(torch.stack([left, right]), 32_000)
    np.testing.assert_allclose(averaged.abs().max(), 1.0, atol=1e-4)
    np.testing.assert_allclose(limit_peak(left * 2).abs().max(), 3.0, atol=1e-3)  # at most halved
    assert reference_waveform(torch.stack([left, right, right]), 32_000).shape == (1, 16_000)
