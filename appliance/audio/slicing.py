"""A long recording, minute by minute, cut at its pauses into clips of a sentence or two, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from appliance.audio.containers import HEAD_BYTES, sniff
from appliance.audio.files import require_finite, resample, to_mono
from appliance.audio.speech_activity import find_speech
from appliance.contracts import Audio
from appliance.errors import TooLarge, UnsupportedMedia

WINDOW_S = 60.0  # read at a time
SHORTEST_S, LONGEST_S = 2.5, 12.0  # of a clip
PAUSE_S = 0.7  # sentences are joined over shorter ones, as long as the clip stays short enough
MARGIN_S = 0.15  # of silence kept at both ends
RATE = 24_000  # Hz of the clips
DERIVATION = "mono 24 kHz, cut at pauses; 1"
READABLE = frozenset({"wav", "flac", "ogg", "aiff", "au", "caf", "mp3"})  # what can be read piece by piece


@dataclass(frozen=True)
class Slice:
    """One clip and where it lay, in seconds."""

    audio: Audio
    start_s: float
    end_s: float
    progress: float  # of the whole recording, 0 .. 1


def open_long(path: Path, max_duration_s: float) -> soundfile.SoundFile:
    """The open file. Raises UnsupportedMedia("audio_unreadable"), TooLarge("audio_too_long")."""
    with path.open("rb") as file:
        kind = sniff(file.read(HEAD_BYTES))
    if kind not in READABLE:
        raise UnsupportedMedia("long_audio_unreadable", detected=kind or "–", known=", ".join(sorted(READABLE)))
    try:
        opened = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise UnsupportedMedia("audio_unreadable", bytes=0, detected=kind) from error
    duration_s = opened.frames / opened.samplerate
    if duration_s > max_duration_s:
        opened.close()
        raise TooLarge("long_audio_too_long", duration_s=duration_s, limit_s=max_duration_s)
    return opened


def slice_long(path: Path, max_duration_s: float) -> Iterator[Slice]:
    """Clips in order. Raises as `open_long`, and InvalidInput("audio_not_finite") where the sound is damaged."""
    with open_long(path, max_duration_s) as file:
        rate, total = file.samplerate, max(1, file.frames)
        carried, place = np.zeros(0, np.float32), 0  # what the window before left open, and where it begins (samples)
        while True:
            block = file.read(int(WINDOW_S * rate), dtype="float32", always_2d=True)
            is_last = len(block) < int(WINDOW_S * rate)
            require_finite(block)
            window = np.concatenate([carried, to_mono(block)]) if len(block) else carried
            clips, used = _cut(Audio(window, rate), is_last)
            for start, end in clips:
                audio = Audio(resample(window[start:end], rate, RATE), RATE)
                yield Slice(
                    audio, round((place + start) / rate, 2), round((place + end) / rate, 2), (place + end) / total
                )
            carried, place = window[used:], place + used
            if is_last:
                return


def _cut(audio: Audio, is_last: bool) -> tuple[list[tuple[int, int]], int]:
    """Ranges of clips (samples), and up to where the window is dealt with; speech at its end waits for the next one."""
    pieces = find_speech(audio).segments
    groups: list[tuple[float, float]] = []
    for start, end in pieces:
        joins = groups and start - groups[-1][1] <= PAUSE_S and end - groups[-1][0] <= LONGEST_S
        if joins:
            groups[-1] = (groups[-1][0], end)
        else:
            groups.append((start, end))
    open_from = audio.duration_s
    if groups and not is_last and audio.duration_s - groups[-1][1] < PAUSE_S and groups[-1][0] > 0:
        open_from = groups.pop()[0]
    used = max(0.0, open_from - MARGIN_S)
    whole = [part for group in groups for part in _parts(*group)]
    kept = [(start, end) for start, end in whole if end - start >= SHORTEST_S]
    return [_with_margin(audio, start, end) for start, end in kept], int(used * audio.sample_rate)


def _parts(start: float, end: float) -> Iterator[tuple[float, float]]:
    """Somebody who never pauses is cut anyway, into equal parts."""
    count = max(1, int(np.ceil((end - start) / LONGEST_S)))
    edges = np.linspace(start, end, count + 1)
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _with_margin(audio: Audio, start: float, end: float) -> tuple[int, int]:
    first = max(0, int((start - MARGIN_S) * audio.sample_rate))
    return first, min(len(audio.samples), int((end + MARGIN_S) * audio.sample_rate))
