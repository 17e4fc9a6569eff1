"""Who is speaking, as 256 numbers: the GE2E speaker encoder of Resemblyzer.

A three-layer LSTM reads windows of 1.6 s of mel power; its last state, projected, rectified and brought to length one,
is the embedding of the window, and the mean over windows that of a recording. Two embeddings of one person have a
cosine of about .85 or more, of two people about .5 to .75. Features in numpy, the LSTM in ONNX Runtime on one thread
(in numpy its many small products made two BLAS threads wait for each other, a hundred times slower on a busy box).
Weights and licence: `data/speaker_encoder/README.md`.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

import numpy as np
import soxr
from numpy.typing import NDArray

from appliance.audio.spectra import mel_filters, power_spectra
from appliance.contracts import Audio, Samples
from appliance.errors import Corrupt, InvalidInput

Array = NDArray[np.float32]

SAMPLE_RATE = 16_000
N_FFT, HOP, BANDS = 400, 160, 40
WINDOW_FRAMES = 160  # 1.6 s
STEP_FRAMES = 77  # 1.3 windows begin per second
LAYERS, WIDTH = 3, 256
LOUDNESS_DBFS = -30.0  # the level the encoder was trained at
WEIGHTS_FILE = "data/speaker_encoder/ge2e.onnx"
WEIGHTS_SHA256 = "76ee8d8c86f799f9cb570ed0ce598ed70433d85c7a5d1ec70f3d2c0a304a0e86"
_SHORTEST_S = 0.4


class SpeakerEncoder:
    """The loaded encoder. `embed` keeps nothing between calls and may be used from several threads."""

    def __init__(self, graph: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def embed(self, audio: Audio) -> Array:
        """Mono sound of any rate and level -> (256,) of length 1. Raises InvalidInput("speech_too_short")."""
        return self.embed_16k(prepare(audio))

    def embed_16k(self, samples: Samples) -> Array:
        """The same for what `prepare` made."""
        mel = power_spectra(samples, N_FFT, HOP) @ mel_filters(SAMPLE_RATE, N_FFT, BANDS, SAMPLE_RATE / 2)
        if len(mel) < WINDOW_FRAMES:
            mel = np.pad(mel, ((0, WINDOW_FRAMES - len(mel)), (0, 0)))
        starts = range(0, len(mel) - WINDOW_FRAMES + 1, STEP_FRAMES)
        mean = self.embed_windows(np.stack([mel[start : start + WINDOW_FRAMES] for start in starts])).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    def embed_windows(self, mel: Array) -> Array:
        """(windows, frames, 40) mel power -> (windows, 256), each of length 1."""
        return np.asarray(self._session.run(None, {"mel": mel})[0], np.float32)


@cache
def load_speaker_encoder() -> SpeakerEncoder:
    """The encoder with the weights that ship with the package, checked. Raises Corrupt."""
    return SpeakerEncoder(read_graph())


def read_graph() -> bytes:
    """The ONNX file. Raises Corrupt("speaker_encoder_corrupt")."""
    content = resources.files("appliance").joinpath(WEIGHTS_FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
        raise Corrupt("speaker_encoder_corrupt", file=WEIGHTS_FILE)
    return content


def prepare(audio: Audio) -> Samples:
    """16 kHz, long pauses cut, at the encoder's level. Raises InvalidInput("speech_too_short")."""
    samples = np.asarray(audio.samples, np.float32)
    if audio.sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, audio.sample_rate, SAMPLE_RATE)
    samples = _without_pauses(samples)
    if len(samples) < _SHORTEST_S * SAMPLE_RATE:
        raise InvalidInput("speech_too_short", duration_s=round(len(samples) / SAMPLE_RATE, 2), required_s=_SHORTEST_S)
    level = float(np.sqrt(np.mean(samples**2)))
    return np.asarray(samples * (10 ** (LOUDNESS_DBFS / 20) / max(level, 1e-8)), np.float32)


def _without_pauses(samples: Samples, range_db: float = 40.0, keep: int = 4) -> Samples:
    """Drop 30 ms blocks that lie `range_db` below the loud ones, except `keep` blocks beside speech."""
    block = SAMPLE_RATE * 30 // 1000
    whole = samples[: len(samples) // block * block].reshape(-1, block)
    if not len(whole):
        return samples
    level = 10 * np.log10(np.mean(whole**2, axis=1) + 1e-12)
    is_loud = (level > np.percentile(level, 95) - range_db) & (level > -80.0)
    near = np.convolve(is_loud, np.ones(2 * keep + 1), mode="same") > 0
    return np.asarray(whole[near].reshape(-1), np.float32)


def likeness_cosine(a: Array, b: Array) -> float:
    """The cosine of two embeddings, -1 .. 1."""
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12))
