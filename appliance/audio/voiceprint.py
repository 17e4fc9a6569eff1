"""How alike two voices are, as a figure that means the same for every voice and every room.

A cosine of two embeddings depends on the voices (some resemble everybody) and on the sound (noise moves all of them the
same way). So a voice is kept in three conditions, as it came, with noise, and as a telephone carries it, and the best
agreement counts; and from each cosine a share of what the two reach against a cohort is taken: synthetic speakers at
several pitches, who are nobody (adaptive symmetric normalisation after Matejka et al. 2017, shrunk, because the cohort
is small). docs/voiceprints.md has the error rates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from io import BytesIO

import numpy as np
import soxr
from numpy.typing import NDArray

from appliance.audio.speaker_embedding import SAMPLE_RATE, WEIGHTS_SHA256, load_speaker_encoder, prepare
from appliance.contracts import Audio, Samples
from appliance.errors import InvalidInput

Array = NDArray[np.float32]

MODEL = f"ge2e:{WEIGHTS_SHA256[:12]}"  # prints of different models are never compared
PIECE_S = 6.0  # a recording gives one embedding for each so many seconds: a voice is a cloud, not a point
MAX_PIECES = 12
NEIGHBOURS = 10  # of the cohort
SHARE = 0.5  # of their mean that is taken off
NOISE_DB = -15.0  # of the noisy condition, relative to the sound
TELEPHONE_HZ = 8_000
COHORT_FILE = "data/speaker_encoder/cohort.npy"


Embed = Callable[[Samples], Array]  # speech (n,) at 16 kHz -> (width,), of length 1


@dataclass(frozen=True)
class PrintModel:
    """A network that prints are made with, and what makes its likenesses mean what they mean with every other."""

    id: str
    cohort: Array  # (3, voices, width): centres of synthetic speakers in the three conditions
    slope: float = 1.0
    offset: float = 0.0

    def likeness(self, one: Array, other: Array) -> float:
        """Two prints (3, n, width) and (3, m, width) of this model -> how alike, symmetric; 0.6 for one voice and 0.3
        for two, about.
        """
        first, second = centres(one), centres(other)
        pairs = [(row, second[0]) for row in first] + [(first[0], row) for row in second[1:]]
        raw = max(float(a @ b) - SHARE * 0.5 * (self._nearest(a) + self._nearest(b)) for a, b in pairs)
        return self.slope * raw + self.offset

    def _nearest(self, centre: Array) -> float:
        """Mean cosine with the nearest voices of the cohort, in whatever condition they are nearest."""
        cosines = np.sort(self.cohort @ centre, axis=1)[:, -NEIGHBOURS:]
        return float(cosines.mean(axis=1).max())


@cache
def shipped_model() -> PrintModel:
    """The encoder that ships with the box."""
    content = resources.files("appliance").joinpath(COHORT_FILE).read_bytes()
    return PrintModel(MODEL, np.asarray(np.load(BytesIO(content), allow_pickle=False), np.float32))


def voiceprint(audio: Audio, embed: Embed | None = None) -> Array:
    """(3, pieces, width), each of length 1: what is kept of a voice; `embed` None: by the encoder that ships.

    Raises InvalidInput("speech_too_short").
    """
    samples = np.asarray(audio.samples, np.float32)
    if audio.sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, audio.sample_rate, SAMPLE_RATE)
    embed, rows = embed or load_speaker_encoder().embed_16k, []
    for piece in _pieces(samples):
        try:
            rows.append(_embed_conditions(piece, embed))
        except InvalidInput:  # a piece of silence
            continue
    if not rows:
        rows = [_embed_conditions(samples, embed)]
    return np.ascontiguousarray(np.swapaxes(np.array(rows, np.float32), 0, 1))


def _embed_conditions(samples: Samples, embed: Embed) -> list[Array]:
    return [embed(prepare(Audio(sound, SAMPLE_RATE))) for sound in _conditions(samples)]


def _pieces(samples: Samples) -> list[Samples]:
    count = max(1, round(len(samples) / (PIECE_S * SAMPLE_RATE)))
    pieces = np.array_split(samples, count)
    chosen = np.linspace(0, count - 1, min(count, MAX_PIECES)).round().astype(int)
    return [pieces[index] for index in chosen]


def _conditions(samples: Samples) -> tuple[Samples, Samples, Samples]:
    """As it came; with white noise; as a telephone carries it."""
    level = float(np.sqrt(np.mean(samples**2))) * 10 ** (NOISE_DB / 20)
    noise = np.random.default_rng(len(samples)).normal(0.0, level, len(samples))  # the same sound, the same print
    narrow = soxr.resample(soxr.resample(samples, SAMPLE_RATE, TELEPHONE_HZ), TELEPHONE_HZ, SAMPLE_RATE)
    return samples, (samples + noise).astype(np.float32), np.asarray(narrow, np.float32)


def centres(prints: Array) -> Array:
    """(3, pieces, width) -> (3, width), of length 1."""
    means = prints.mean(axis=1)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)
