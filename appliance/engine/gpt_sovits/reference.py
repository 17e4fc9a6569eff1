"""The reference clip of a voice: read and checked. Numpy only, so that a clip can be judged where PyTorch is not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.audio.files import DecodedAudio, read_audio, resample, to_mono
from appliance.contracts import Samples
from appliance.engine.gpt_sovits.pairing import LONGEST_S, SHORTEST_S
from appliance.errors import InvalidInput

SPEECH_RATE = 16_000  # Hz, of HuBERT and of the speaker network
MAX_SECONDS = 60.0  # of a clip that gives timbre only
MIN_RATE = 16_000  # Hz; below, the clip lacks most of what makes a timbre
MIN_PEAK = 0.01  # -40 dBFS; below, the clip is silence


@dataclass(frozen=True)
class ReferenceClip:
    """One clip that passed the checks."""

    samples: Samples  # (n,) as recorded, mono
    sample_rate: int  # Hz
    speech: Samples  # (m,) the same at 16 kHz


def read_reference(path: Path, *, is_prompt: bool = True) -> ReferenceClip:
    """Read and check a clip; `is_prompt` when its words are used and not its timbre alone.

    Raises InvalidInput (reference_too_short, reference_too_long, reference_silent, reference_rate_low) and what
    `read_audio` raises.
    """
    decoded = read_audio(path, max_duration_s=MAX_SECONDS)
    mono = to_mono(decoded.samples)
    _check(decoded, mono, is_prompt)
    return ReferenceClip(mono, decoded.sample_rate, _to_speech_rate(mono, decoded.sample_rate))


def _check(decoded: DecodedAudio, mono: Samples, is_prompt: bool) -> None:
    longest = LONGEST_S if is_prompt else MAX_SECONDS
    measured = {"duration_s": round(decoded.duration_s, 2), "shortest_s": SHORTEST_S, "longest_s": longest}
    if decoded.duration_s < SHORTEST_S:
        raise InvalidInput("reference_too_short", **measured)
    if decoded.duration_s > longest:
        raise InvalidInput("reference_too_long", **measured)
    if decoded.sample_rate < MIN_RATE:
        raise InvalidInput("reference_rate_low", sample_rate=decoded.sample_rate, lowest=MIN_RATE)
    peak = float(np.abs(mono).max())
    if peak < MIN_PEAK:
        raise InvalidInput("reference_silent", peak_dbfs=round(20 * math.log10(max(peak, 1e-6)), 1))


def _to_speech_rate(mono: Samples, rate: int) -> Samples:
    speech = resample(mono, rate, SPEECH_RATE)
    length = math.ceil(len(mono) * SPEECH_RATE / rate)
    return np.pad(speech, (0, max(0, length - len(speech))))[:length]
