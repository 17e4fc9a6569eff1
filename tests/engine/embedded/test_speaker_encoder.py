"""The speaker encoder in PyTorch against the one that serves, and that a loss can reach through it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="cloning libraries are not installed")
pytest.importorskip("onnx")

from appliance.audio import speaker_embedding as reference  # noqa: E402
from appliance.engine.embedded.speaker_encoder import SpeakerEncoder, load_speaker_encoder, to_16k  # noqa: E402


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    torch.set_num_threads(1)
    return load_speaker_encoder()


def buzz(sample_rate: int, seconds: float) -> np.ndarray:
    time = np.arange(int(sample_rate * seconds)) / sample_rate
    phase = 2 * np.pi * 120 * time + 5 * np.sin(2 * np.pi * 3 * time)  # 120 Hz with a wobble
    return (0.03 * sum(np.sin(k * phase) / k for k in range(1, 20))).astype(np.float32)


def test_one_window_embeds_as_the_reference_does(encoder: SpeakerEncoder) -> None:
    sound = buzz(16_000, 1.59)
    levelled = sound * np.float32(10 ** (reference.LOUDNESS_DBFS / 20) / np.sqrt(np.mean(sound**2)))
    theirs = reference.load_speaker_encoder().embed_16k(levelled)
    ours = encoder.embed_mel(encoder.mel(torch.from_numpy(sound)[None]))[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.linalg.norm(ours) == pytest.approx(1.0, abs=1e-4)


def test_resampling_keeps_what_lies_below_8_khz() -> None:
    edge = np.hanning(12_000).astype(np.float32)  # the transform is circular: no step where the ends meet
    fine, coarse = (
        buzz(24_000, 0.5) * edge,
        buzz(16_000, 0.5) * np.interp(np.arange(8_000) * 1.5, np.arange(12_000), edge),
    )
    ours = to_16k(torch.from_numpy(fine)[None])[0].numpy()
    assert len(ours) == len(coarse)
    assert np.abs(ours - coarse).max() < 0.002


def test_gradient_reaches_the_samples(encoder: SpeakerEncoder) -> None:
    sound = torch.from_numpy(buzz(24_000, 0.8))[None].requires_grad_(True)
    encoder(sound)[0, :8].sum().backward()
    assert sound.grad is not None and torch.isfinite(sound.grad).all() and sound.grad.abs().sum() > 0
