"""Whether one person speaks in a recording, and whether it is the person of others.

Both from embeddings of the speaker encoder (see `speaker_embedding`). Measured on two male readers who sound much
alike, clips of 4 s against 40 s of one of them: the same person 0.86 or more, the other 0.75 or less; parts of a
recording of one person, cut where they differ most: 0.82 or more, of two: 0.76 or less. People who talk at the same
time make one embedding and are not told apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliance.audio.speaker_embedding import (
    BANDS,
    HOP,
    N_FFT,
    SAMPLE_RATE,
    WINDOW_FRAMES,
    likeness_cosine,
    load_speaker_encoder,
    prepare,
)
from appliance.audio.spectra import mel_filters, power_spectra
from appliance.contracts import Audio
from appliance.errors import InvalidInput

Array = NDArray[np.float32]

STEP_FRAMES = 40  # 0.4 s
GROUP = 3  # neighbouring windows are averaged: one embedding per 2.4 s
MOST_WINDOWS = 150  # evenly over a longer recording
FEWEST = 8  # embeddings; below about 6 s there is too little of either
MINOR_SHARE = 0.12  # of the second voice; less is an outlier of one
ROUNDS = 10
SHORTEST_CLIP_S, SHORTEST_REFERENCE_S = 3.0, 8.0  # of speech, to compare people at all


def voice_split(audio: Audio) -> float | None:
    """The cosine between the two most different voices in it, -1 .. 1; None for less than about six seconds."""
    try:
        found = _embeddings(audio)
    except InvalidInput:  # no speech to speak of
        return None
    if len(found) < FEWEST:
        return None
    centres, labels = _two_means(found)
    share = np.bincount(labels, minlength=2).min() / len(labels)
    return likeness_cosine(*centres) if share >= MINOR_SHARE else 1.0


def know_speaker(references: Sequence[Audio]) -> Array | None:
    """The embedding (256,) of one person's recordings together; None where they are too short to know anybody by."""
    joined = np.concatenate([prepare(one) for one in references]) if references else np.zeros(0, np.float32)
    if len(joined) < SHORTEST_REFERENCE_S * SAMPLE_RATE:
        return None
    return load_speaker_encoder().embed_16k(joined)


def speaker_cosine(clip: Audio, known: Array | None) -> float | None:
    """How alike the speaker of `clip` and the `known` one are; None where either is too short to say."""
    own = prepare(clip)
    if known is None or len(own) < SHORTEST_CLIP_S * SAMPLE_RATE:
        return None
    return likeness_cosine(load_speaker_encoder().embed_16k(own), known)


def _embeddings(audio: Audio) -> Array:
    """(n, 256), in order."""
    mel = power_spectra(prepare(audio), N_FFT, HOP) @ mel_filters(SAMPLE_RATE, N_FFT, BANDS, SAMPLE_RATE / 2)
    last = len(mel) - WINDOW_FRAMES
    if last < 0:
        return np.zeros((0, 256), np.float32)
    starts = np.arange(0, last + 1, STEP_FRAMES)
    if len(starts) > MOST_WINDOWS:
        starts = np.linspace(0, last, MOST_WINDOWS).astype(int)
    windows = load_speaker_encoder().embed_windows(np.stack([mel[start : start + WINDOW_FRAMES] for start in starts]))
    count = max(0, len(windows) - GROUP + 1)
    groups = np.stack([windows[i : i + GROUP].mean(axis=0) for i in range(count)]) if count else windows[:0]
    return np.asarray(groups / np.maximum(np.linalg.norm(groups, axis=1, keepdims=True), 1e-9), np.float32)


def _two_means(found: Array) -> tuple[Array, NDArray[np.intp]]:
    """Centres (2, 256) and labels, from the two embeddings that are farthest apart."""
    first, second = np.unravel_index(int((found @ found.T).argmin()), (len(found), len(found)))
    centres = found[[first, second]]
    labels = (found @ centres.T).argmax(axis=1)
    for _ in range(ROUNDS):
        if len(set(labels.tolist())) < 2:
            break
        centres = np.stack([found[labels == which].mean(axis=0) for which in (0, 1)])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        labels = (found @ centres.T).argmax(axis=1)
    return centres, labels
