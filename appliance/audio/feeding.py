"""A sound file into a track, a little ahead of what is heard, on a thread of its own: any length, little memory."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr

from appliance.audio.mixing import Track

BLOCK_S = 0.5
AHEAD_S = 3.0
LOOK_S = 0.1


def feed_file(path: Path, start_s: float, track: Track, lock: threading.Lock) -> None:
    """Decode `path` (WAV, FLAC, MP3, Ogg) from `start_s` on into `track`, mono, at the track's rate, then end it.

    What cannot be read is the end of the track, from there on: the track is over with position 0 when nothing could.
    """
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(min(round(start_s * file.samplerate), file.frames))
            _feed(file, track, lock)
    except (OSError, soundfile.LibsndfileError):
        pass
    with lock:
        track.is_ended = True


def _feed(file: soundfile.SoundFile, track: Track, lock: threading.Lock) -> None:
    resampler = soxr.ResampleStream(file.samplerate, track.device_rate, 1, dtype="float32", quality="HQ")
    is_last = False
    while not is_last and not track.is_stopping:
        frames = file.read(round(BLOCK_S * file.samplerate), dtype="float32", always_2d=True)
        is_last = len(frames) == 0
        mono = np.nan_to_num(frames.mean(axis=1) if len(frames) else np.zeros(0, np.float32), posinf=0.0, neginf=0.0)
        if file.samplerate != track.device_rate:
            mono = resampler.resample_chunk(np.ascontiguousarray(mono, np.float32), last=is_last)
        with lock:
            track.feed(np.asarray(mono, np.float32))
        while track.buffered > AHEAD_S * track.device_rate and not track.is_stopping:
            time.sleep(LOOK_S)
