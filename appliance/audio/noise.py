"""How much louder a voice is than what surrounds it, and how much of a recording is clipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliance.audio.speech_activity import ENTER, FRAME_S, SpeechActivity
from appliance.contracts import Audio, Samples

STEP_S = 0.02  # frames of the power track
DRIFT_S = 0.05
MARGIN_S = 0.1  # around speech: breath and reverberation are neither voice nor noise
MIN_PAUSE_S = 0.3  # of usable pause, else the floor is read between the syllables
DIGITAL_SILENCE_DB = -96.0  # below: a gate or an editor put zeros there; they tell nothing about the room
BETWEEN_SYLLABLES_PERCENTILE = 5.0
MAX_SNR_DB = 80.0
MIN_SNR_DB = -10.0

FULL_SCALE = 0.9995
PLATEAU = 0.999  # of the greatest value of that sign: a flat top, wherever the level control stood afterwards
MIN_PLATEAU_RUN = 3  # samples
MIN_PLATEAU_PEAK = 0.05  # quieter sounds are judged on full scale only: their steps are too coarse


def frame_powers(audio: Audio) -> NDArray[np.float64]:
    """(frames,): mean square per STEP_S, without the drift and offset of cheap inputs (below about 10 Hz)."""
    size = max(1, int(STEP_S * audio.sample_rate))
    count = len(audio.samples) // size
    frames = _without_drift(audio)[: count * size].reshape(count, size)
    return np.asarray(np.square(frames).mean(axis=1)) if count else np.zeros(0)


def _without_drift(audio: Audio) -> NDArray[np.float64]:
    """The sound minus its moving average over DRIFT_S; shorter sounds lose their mean only."""
    samples = audio.samples.astype(np.float64)
    width = int(DRIFT_S * audio.sample_rate) | 1
    if len(samples) <= width:
        return np.asarray(samples - samples.mean()) if len(samples) else samples
    running = np.cumsum(np.pad(samples, (width // 2 + 1, width // 2), mode="edge"))
    return np.asarray(samples - (running[width:] - running[:-width]) / width)


def speech_and_noise_power(audio: Audio, activity: SpeechActivity) -> tuple[float, float] | None:
    """(mean power while somebody speaks, power of the noise alone), or None when nobody speaks.

    The noise is the median of the pauses; where there is hardly a pause, the quietest frames between the syllables,
    which lies a little low for noise that varies and a little high for a clean voice.
    """
    powers = frame_powers(audio)
    times = (np.arange(len(powers)) + 0.5) * STEP_S
    is_speech, is_near = np.zeros(len(powers), bool), np.zeros(len(powers), bool)
    for start, end in activity.segments:
        is_speech |= (times >= start) & (times < end)
        is_near |= (times >= start - MARGIN_S) & (times < end + MARGIN_S)
    is_alive = powers > 10.0 ** (DIGITAL_SILENCE_DB / 10.0)
    is_speech &= is_alive & _is_voiced(activity, times)
    if not is_speech.any():
        return None
    pause = powers[~is_near & is_alive]
    if len(pause) * STEP_S >= MIN_PAUSE_S:
        noise = float(np.median(pause))
    else:
        noise = float(np.percentile(powers[is_alive], BETWEEN_SYLLABLES_PERCENTILE))
    return float(powers[is_speech].mean()), noise


def _is_voiced(activity: SpeechActivity, times: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether the detector itself hears speech at each time: bridged pauses are not voice."""
    if len(activity.probabilities) == 0:
        return np.zeros(len(times), bool)
    frames = np.minimum((times / FRAME_S).astype(int), len(activity.probabilities) - 1)
    return np.asarray(activity.probabilities[frames] >= ENTER)


def snr_db(audio: Audio, activity: SpeechActivity) -> float | None:
    """Ratio of voice to noise in dB, MIN_SNR_DB .. MAX_SNR_DB; None when nobody speaks."""
    powers = speech_and_noise_power(audio, activity)
    if powers is None:
        return None
    loud, noise = powers
    voice = max(loud - noise, 1e-3 * loud)  # what is measured while speaking is voice plus noise
    return float(np.clip(10.0 * np.log10(voice / max(noise, 1e-12)), MIN_SNR_DB, MAX_SNR_DB))


def clipped_share(samples: Samples) -> float:
    """Share of samples at full scale or on a flat top, 0 .. 1."""
    if len(samples) == 0:
        return 0.0
    is_clipped = np.abs(samples) >= FULL_SCALE
    for signed in (samples, -samples):
        peak = float(signed.max())
        if peak >= MIN_PLATEAU_PEAK:
            is_clipped |= _in_long_runs(signed >= PLATEAU * peak)
    return float(np.count_nonzero(is_clipped) / len(samples))


def _in_long_runs(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part of `mask` that lies in runs of at least MIN_PLATEAU_RUN."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    kept = np.zeros(len(mask), bool)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start >= MIN_PLATEAU_RUN:
            kept[start:end] = True
    return kept
