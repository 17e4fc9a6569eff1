"""How much one recording sounds like a voice, by measures that no training loss knows. Numpy only.

Three figures from 20 mel cepstra (25 ms windows, 10 ms steps, speech frames only): the distance of the long-term means,
and the log-likelihood ratio per frame of two small Gaussian mixtures, one of the voice, one of other voices. The ratio
is given twice: as it is, and with the mean of each recording removed, which hides what a microphone, a room or an
equaliser adds and leaves what is finer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from appliance.audio.spectra import cepstra, mel_filters, power_spectra, speech_frames
from appliance.contracts import Audio, JsonDict
from appliance.errors import InvalidInput

Array = NDArray[np.float64]

SAMPLE_RATE = 16_000
N_FFT, HOP, BANDS, COEFFICIENTS = 400, 160, 40, 20
TOP_HZ = 7600.0
COMPONENTS = 16
ROUNDS = 25
VARIANCE_FLOOR = 0.05  # share of the overall variance
_FEWEST_FRAMES = 100


@dataclass(frozen=True)
class LikenessScore:
    """Figures of one recording against one voice."""

    mfcc_distance: float  # 0 = same long-term colour; 1 = one standard deviation of the voice in one dimension
    llr: float  # > 0: nearer to the voice than to the others, in nats per frame
    llr_equalised: float  # the same with each recording's mean removed

    def as_json(self) -> JsonDict:
        return {
            "mfcc_distance": round(self.mfcc_distance, 3),
            "llr": round(self.llr, 3),
            "llr_equalised": round(self.llr_equalised, 3),
        }


class Likeness:
    """A voice to compare with: `target` is speech of it, `background` speech of others (the starter voices, say).

    Raises InvalidInput("speech_too_short") when one of them holds less than a second of speech.
    """

    def __init__(self, target: Audio, background: Sequence[Audio]) -> None:
        voice = speech_cepstra(target)
        others = [speech_cepstra(audio) for audio in background]
        self._mean, self._deviation = voice.mean(axis=0), voice.std(axis=0)
        self._voice = Mixture.fit(voice)
        self._others = Mixture.fit(np.concatenate(others))
        self._voice_equalised = Mixture.fit(_centred(voice))
        self._others_equalised = Mixture.fit(np.concatenate([_centred(other) for other in others]))

    def score(self, audio: Audio) -> LikenessScore:
        """Compare one recording with the voice. Raises InvalidInput("speech_too_short")."""
        frames = speech_cepstra(audio)
        centred = _centred(frames)
        distance = np.linalg.norm((frames.mean(axis=0) - self._mean) / self._deviation)
        ratio = self._voice.log_likelihood(frames) - self._others.log_likelihood(frames)
        equalised = self._voice_equalised.log_likelihood(centred) - self._others_equalised.log_likelihood(centred)
        return LikenessScore(float(distance), float(ratio.mean()), float(equalised.mean()))


def speech_cepstra(audio: Audio) -> Array:
    """(frames, 20) mel cepstra of the frames with speech. Raises InvalidInput("speech_too_short")."""
    samples = np.asarray(audio.samples, np.float32)
    if audio.sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, audio.sample_rate, SAMPLE_RATE)
    power = power_spectra(samples, N_FFT, HOP)
    power = power[speech_frames(power)] if len(samples) else power[:0]
    if len(power) < _FEWEST_FRAMES:
        required = _FEWEST_FRAMES * HOP / SAMPLE_RATE
        raise InvalidInput("speech_too_short", duration_s=round(len(power) * HOP / SAMPLE_RATE, 2), required_s=required)
    return cepstra(power, mel_filters(SAMPLE_RATE, N_FFT, BANDS, TOP_HZ), COEFFICIENTS).astype(np.float64)


def _centred(frames: Array) -> Array:
    return np.asarray(frames - frames.mean(axis=0))


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture with diagonal covariances."""

    log_weights: Array  # (K,)
    means: Array  # (K, D)
    variances: Array  # (K, D)

    @classmethod
    def fit(cls, frames: Array, components: int = COMPONENTS, rounds: int = ROUNDS) -> Mixture:
        """Expectation maximisation from means at even ranks along the main axis: the same data, the same result."""
        overall = frames.var(axis=0) + 1e-6
        axis = np.linalg.eigh(np.cov(frames.T))[1][:, -1]
        ranked = frames[np.argsort(frames @ axis, kind="stable")]
        groups = np.array_split(ranked, components)
        model = cls(
            np.full(components, -np.log(components)),
            np.stack([group.mean(axis=0) for group in groups]),
            np.tile(overall, (components, 1)),
        )
        for _ in range(rounds):
            model = model._improved(frames, overall * VARIANCE_FLOOR)
        return model

    def log_likelihood(self, frames: Array) -> Array:
        """(frames, D) -> (frames,) nats."""
        joint = self._joint(frames)
        top = joint.max(axis=1)
        return np.asarray(top + np.log(np.exp(joint - top[:, None]).sum(axis=1)))

    def _joint(self, frames: Array) -> Array:
        """(frames, K) log of weight x density, by the expanded square."""
        precision = 1.0 / self.variances
        constant = self.log_weights - 0.5 * (
            np.log(2 * np.pi * self.variances).sum(axis=1) + (self.means**2 * precision).sum(axis=1)
        )
        return np.asarray(constant - 0.5 * (frames**2 @ precision.T) + frames @ (self.means * precision).T)

    def _improved(self, frames: Array, floor: Array) -> Mixture:
        joint = self._joint(frames)
        share = np.exp(joint - joint.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)  # (frames, K)
        mass = share.sum(axis=0) + 1e-8
        means = share.T @ frames / mass[:, None]
        variances = np.maximum(share.T @ frames**2 / mass[:, None] - means**2, floor)
        return Mixture(np.log(mass / mass.sum()), means, variances)
