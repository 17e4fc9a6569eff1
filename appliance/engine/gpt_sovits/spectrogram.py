"""Spectrograms as GPT-SoVITS computes them, and the road from a reference recording to one.

Axes: B batch, S samples (full scale 1), K bins, T frames. No centring: both ends are mirrored by half of what a
window reaches beyond its hop, so that T = S // hop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from appliance.audio.spectra import mel_filters

SAMPLE_RATE = 32_000
LOG_FLOOR = 1e-5


@dataclass(frozen=True)
class SpectrumSizes:
    """Hop and window of one spectrogram; defaults are those of s2."""

    sample_rate: int = SAMPLE_RATE
    n_fft: int = 2048
    hop: int = 640
    power_floor: float = 1e-8  # added to the squared magnitude, so that its root can be differentiated at 0


@dataclass(frozen=True)
class MelSizes:
    """A mel spectrogram from 0 Hz to half the sample rate, in natural logarithms."""

    spectrum: SpectrumSizes = SpectrumSizes()
    bands: int = 128


MEL_V2 = MelSizes()  # the training loss
MEL_V3 = MelSizes(SpectrumSizes(24_000, 1024, 256, 1e-9), 100)
MEL_V4 = MelSizes(SpectrumSizes(32_000, 1280, 320, 1e-9), 100)


def spectrogram(samples: Tensor, sizes: SpectrumSizes | None = None) -> Tensor:
    """(B, S) -> magnitudes (B, n_fft // 2 + 1, S // hop), periodic Hann window."""
    sizes = sizes or SpectrumSizes()
    edge = (sizes.n_fft - sizes.hop) // 2
    padded = F.pad(samples.unsqueeze(1), (edge, edge), mode="reflect").squeeze(1)
    window = torch.hann_window(sizes.n_fft, dtype=samples.dtype, device=samples.device)
    waves = torch.stft(padded, sizes.n_fft, sizes.hop, window=window, center=False, return_complex=True)
    return torch.sqrt(waves.real.square() + waves.imag.square() + sizes.power_floor)


def mel_from_spectrogram(magnitudes: Tensor, sizes: MelSizes = MEL_V2) -> Tensor:
    """(B, K, T) -> (B, bands, T): ln of triangular bands of equal area on Slaney's scale."""
    spectrum = sizes.spectrum
    filters = mel_filters(spectrum.sample_rate, spectrum.n_fft, sizes.bands, spectrum.sample_rate / 2)  # (K, bands)
    bands = torch.tensor(filters.T, dtype=magnitudes.dtype, device=magnitudes.device) @ magnitudes
    return torch.log(bands.clamp(min=LOG_FLOOR))


def mel_spectrogram(samples: Tensor, sizes: MelSizes = MEL_V2) -> Tensor:
    """(B, S) -> (B, bands, T)."""
    return mel_from_spectrogram(spectrogram(samples, sizes.spectrum), sizes)


# ---------------------------------------------------------------- the reference recording


def reference_waveform(samples: Tensor, sample_rate: int) -> Tensor:
    """A decoded recording (channels, S) at any rate -> (1, S') at 32 kHz, peak-limited.

    Two channels are averaged. Of more channels the first is taken (upstream takes them for a batch).
    """
    mono = samples.mean(dim=0, keepdim=True) if samples.shape[0] == 2 else samples[:1]
    return limit_peak(resample(mono, sample_rate, SAMPLE_RATE))


def limit_peak(samples: Tensor) -> Tensor:
    """Divide by the peak where it is above 1, but at most by 2."""
    peak = float(samples.abs().max()) if samples.numel() else 0.0
    return samples / min(2.0, peak) if peak > 1.0 else samples


def reference_spectrogram(wav32k: Tensor) -> Tensor:
    """(1, S) or (S,) at 32 kHz, as `reference_waveform` gives it -> (1, 1025, S // 640), for `Synthesizer.timbre`."""
    return spectrogram(wav32k.reshape(1, -1))


def resample(samples: Tensor, source: int, target: int, crossings: int = 6, rolloff: float = 0.99) -> Tensor:
    """(B, S) at `source` Hz -> (B, ceil(S * target / source)) at `target` Hz.

    A sinc of `crossings` zero crossings per side under a Hann window, cut off at `rolloff` of the lower Nyquist
    frequency: the defaults of torchaudio's Resample, which upstream uses for reference recordings.
    """
    if source == target:
        return samples
    common = math.gcd(source, target)
    step, phases = source // common, target // common
    cutoff = min(step, phases) * rolloff
    reach = math.ceil(crossings * step / cutoff)
    taps = torch.arange(-reach, reach + step, dtype=torch.float64) / step
    offsets = torch.arange(0, -phases, -1, dtype=torch.float64) / phases
    time = ((taps + offsets[:, None]) * cutoff).clamp(-crossings, crossings)  # (phases, taps)
    kernel = torch.sinc(time) * torch.cos(time * math.pi / crossings / 2).square() * (cutoff / step)
    padded = F.pad(samples, (reach, reach + step)).unsqueeze(1)
    out = F.conv1d(padded, kernel.to(samples).unsqueeze(1), stride=step)  # (B, phases, about S / step)
    length = math.ceil(samples.shape[1] * phases / step)
    return out.transpose(1, 2).flatten(1)[:, :length]
