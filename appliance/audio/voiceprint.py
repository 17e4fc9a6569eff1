"""How alike two voices are, as a figure that means the same for every voice.

A cosine of two embeddings depends on the voices: some resemble everybody. Adaptive symmetric normalisation (Matejka et
al., "Analysis of score normalization in multilingual speaker recognition", 2017) asks how much closer the two are to
each other than each is to its nearest neighbours in a cohort of voices that are nobody: synthetic speakers, at several
pitches. The cohort lies in `data/speaker_encoder/cohort.npy`; see docs/voiceprints.md for the error rates.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from io import BytesIO

import numpy as np
import soxr
from numpy.typing import NDArray

from appliance.audio.speaker_embedding import SAMPLE_RATE, WEIGHTS_SHA256, load_speaker_encoder
from appliance.contracts import Audio, Samples
from appliance.errors import InvalidInput

Array = NDArray[np.float32]

MODEL = f"ge2e:{WEIGHTS_SHA256[:12]}"  # prints of different models are never compared
PIECE_S = 6.0  # a recording gives one embedding for each so many seconds: a voice is a cloud, not a point
MAX_PIECES = 12
NEIGHBOURS = 20  # of the cohort
COHORT_FILE = "data/speaker_encoder/cohort.npy"


def voiceprint(audio: Audio) -> Array:
    """(pieces, 256), each of length 1: what is kept of a voice. Raises InvalidInput("speech_too_short")."""
    samples = np.asarray(audio.samples, np.float32)
    if audio.sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, audio.sample_rate, SAMPLE_RATE)
    encoder, rows = load_speaker_encoder(), []
    for piece in _pieces(samples):
        try:
            rows.append(encoder.embed(Audio(piece, SAMPLE_RATE)))
        except InvalidInput:  # a piece of silence
            continue
    if not rows:
        return encoder.embed(Audio(samples, SAMPLE_RATE))[None]
    return np.stack(rows)


def _pieces(samples: Samples) -> list[Samples]:
    count = max(1, round(len(samples) / (PIECE_S * SAMPLE_RATE)))
    pieces = np.array_split(samples, count)
    chosen = np.linspace(0, count - 1, min(count, MAX_PIECES)).round().astype(int)
    return [pieces[index] for index in chosen]


def likeness(one: Array, other: Array) -> float:
    """Two prints (n, 256) and (m, 256) -> deviations above what strangers reach; symmetric."""
    first, second = _centre(one), _centre(other)
    score = float(first @ second)
    return 0.5 * (_above_neighbours(score, first) + _above_neighbours(score, second))


def _above_neighbours(score: float, centre: Array) -> float:
    nearest = np.sort(_cohort() @ centre)[-NEIGHBOURS:]
    return (score - float(nearest.mean())) / max(float(nearest.std()), 1e-3)


def _centre(prints: Array) -> Array:
    mean = prints.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


@cache
def _cohort() -> Array:
    """(voices, 256): each the centre of a synthetic speaker."""
    content = resources.files("appliance").joinpath(COHORT_FILE).read_bytes()
    return np.asarray(np.load(BytesIO(content), allow_pickle=False), np.float32)
