"""What is heard of one message: its loudness, the chime before it, its repeats, and where it goes on after a break."""

from __future__ import annotations

import numpy as np

from appliance.announcer.chime import with_chime
from appliance.announcer.records import Announcement
from appliance.audio.loudness import bring_to, integrated_lufs
from appliance.contracts import Audio

TRUE_PEAK_DB = -1.0
CLOSE_ENOUGH_LU = 0.5  # synthesis matched it already
LOOK_BACK_S = 1.5
FRAME_S = 0.02
PAUSE_SHARE = 0.02  # of the mean power: below, nobody speaks


def compose(speech: Audio, row: Announcement, target_lufs: float | None) -> Audio:
    """The whole sound of a message (mono), at `target_lufs` with no true peak above -1 dB. Costly: not in the loop."""
    speech = level(speech, target_lufs)
    once = with_chime(speech) if row.chime else speech
    if row.repeats == 1:
        return once
    pause = np.zeros(round(row.pause_s * speech.sample_rate), np.float32)
    again = [part for _ in range(row.repeats - 1) for part in (pause, speech.samples)]
    return Audio(np.concatenate([once.samples, *again]), speech.sample_rate)


def level(speech: Audio, target_lufs: float | None) -> Audio:
    """The same at the loudness that is wanted; None: as it is."""
    if target_lufs is None:
        return speech
    if abs(integrated_lufs(speech.samples, speech.sample_rate) - target_lufs) < CLOSE_ENOUGH_LU:
        return speech
    return Audio(bring_to(speech.samples, speech.sample_rate, target_lufs, TRUE_PEAK_DB), speech.sample_rate)


def resume_point(audio: Audio, position_s: float) -> float:
    """Where a sound that was broken off at `position_s` goes on: at the last pause before, else right there."""
    frame = round(FRAME_S * audio.sample_rate)
    first = max(0, round((position_s - LOOK_BACK_S) * audio.sample_rate))
    before = audio.samples[first : round(position_s * audio.sample_rate)]
    count = len(before) // frame
    if count == 0:
        return position_s
    powers = np.square(before[: count * frame].reshape(count, frame)).mean(axis=1)
    pauses = np.flatnonzero(powers < PAUSE_SHARE * powers.mean())
    return (first + int(pauses[-1]) * frame) / audio.sample_rate if len(pauses) else position_s
