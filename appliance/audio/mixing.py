"""Several sounds into one stream for the sound device: tracks, gain ramps, and a limiter. Arrays in, arrays out.

The player renders block by block; everything here is plain numpy on mono float32 and belongs to one thread at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import soxr

from appliance.contracts import Samples

CEILING = 10 ** (-1.0 / 20)  # -1 dBFS: what the limiter lets through, room for the converter's own overshoot
_ATTACK_S = 0.002
_RELEASE_S = 0.25

SPEECH, MUSIC = "speech", "music"  # roles of a track: music makes way for speech


@dataclass(frozen=True)
class Ducking:
    """How music makes way: to `depth_db` within `down_s` of the first sample of speech, held for `hold_s` after the
    last one (messages that follow each other must not make it pump), then back within `up_s`."""

    depth_db: float = -18.0
    down_s: float = 0.15
    hold_s: float = 0.5
    up_s: float = 1.0


class Ramp:
    """A gain that moves linearly to its goal, so that a change is never heard as a click."""

    def __init__(self, value: float) -> None:
        self.value = value
        self._goal = value
        self._left = 0  # samples until the goal

    @property
    def is_silent(self) -> bool:
        """It has arrived at zero."""
        return self._left == 0 and self.value == 0.0

    def move(self, goal: float, samples: int) -> None:
        """Reach `goal` within the next `samples` samples."""
        self._goal, self._left = goal, max(1, samples)

    def apply(self, block: Samples) -> Samples:
        """The block with the gain on it; a gain of exactly 1 leaves every sample as it is."""
        if self._left == 0:
            return block if self.value == 1.0 else block * np.float32(self.value)
        steps = min(self._left, len(block))
        gains = np.full(len(block), self._goal, np.float32)
        slope = (self._goal - self.value) / self._left
        gains[:steps] = self.value + slope * np.arange(1, steps + 1)
        self._left -= steps
        self.value = self._goal if self._left == 0 else float(gains[-1])
        return block * gains


class Track:
    """One sound on its way to the device: samples arrive in chunks, at its own rate, and leave in blocks.

    `feed` and `end` may be called while others call `take` only under the mixer owner's lock.
    """

    def __init__(
        self, track_id: str, sample_rate: int, device_rate: int, gain: float, role: str = SPEECH, start: int = 0
    ) -> None:
        """`start`: samples at the device's rate that were heard before, in another life of this sound."""
        self.id = track_id
        self.role = role
        self.device_rate = device_rate
        self.start = start
        self.taken = 0  # samples handed out, at the device's rate
        self.buffered = 0  # samples waiting, at the device's rate
        self.is_ended = False
        self.is_stopping = False
        self._stopped_at: int | None = None
        self._gain = Ramp(gain)
        self._chunks: deque[Samples] = deque()
        self._resampler = None
        if sample_rate != device_rate:
            self._resampler = soxr.ResampleStream(sample_rate, device_rate, 1, dtype="float32", quality="HQ")

    @property
    def position(self) -> int:
        """Samples of the whole sound handed out so far, at the device's rate; a fade does not count."""
        return self.start + self.taken if self._stopped_at is None else self._stopped_at

    @property
    def is_over(self) -> bool:
        """Nothing of it will be heard any more."""
        return (self.is_ended and self.buffered == 0) or (self.is_stopping and self._gain.is_silent)

    def convert(self, samples: Samples, *, is_last: bool = False) -> Samples:
        """Samples at the device's rate, what is not a number silenced. Costly: call it without the lock."""
        clean = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        if self._resampler is None:
            return clean
        return np.asarray(self._resampler.resample_chunk(clean, last=is_last), dtype=np.float32)

    def feed(self, samples: Samples) -> None:
        """Append samples that `convert` returned."""
        if len(samples):
            self._chunks.append(samples)
            self.buffered += len(samples)

    def stop(self, fade_samples: int) -> None:
        """Fade out; the track is over when the fade is, and has its `position` where the fade begins."""
        self._stopped_at = self.position
        self.is_stopping = True
        self._gain.move(0.0, fade_samples)

    def take(self, count: int) -> Samples:
        """The next `count` samples with the gain on them; silence where none has arrived yet."""
        block = np.zeros(count, np.float32)
        filled = 0
        while filled < count and self._chunks:
            chunk = self._chunks.popleft()
            part = chunk[: count - filled]
            block[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) < len(chunk):
                self._chunks.appendleft(chunk[len(part) :])
        self.buffered -= filled
        self.taken += filled
        return self._gain.apply(block)


class Limiter:
    """Keeps the sum under CEILING: fast down, slow up, and a clamp for the first two milliseconds of a jump."""

    def __init__(self, sample_rate: int) -> None:
        self._attack = max(1, round(_ATTACK_S * sample_rate))
        self._release = _RELEASE_S * sample_rate
        self._gain = 1.0

    def apply(self, block: Samples) -> Samples:
        """The block, limited; untouched when it needs nothing."""
        peak = float(np.max(np.abs(block), initial=0.0))
        wanted = 1.0 if peak <= CEILING else CEILING / peak
        if wanted == 1.0 and self._gain == 1.0:
            return block
        if wanted < self._gain:
            goal, samples = wanted, self._attack
        else:
            goal = min(wanted, self._gain + (1.0 - self._gain) * (1 - np.exp(-len(block) / self._release)))
            goal, samples = (1.0, len(block)) if goal > 0.999 else (float(goal), len(block))
        ramp = Ramp(self._gain)
        ramp.move(goal, samples)
        self._gain = goal
        return np.clip(ramp.apply(block), -CEILING, CEILING).astype(np.float32)


class Duck:
    """The gain of the music bus, derived from what sounds now: whatever ends the speech, the music returns."""

    def __init__(self, sample_rate: int, ducking: Ducking) -> None:
        self._rate = sample_rate
        self._ducking = ducking
        self._low = float(10 ** (ducking.depth_db / 20))
        self._gain = Ramp(1.0)
        self._is_down = False
        self._held = 0  # samples since the last speech

    def apply(self, block: Samples, *, is_speaking: bool) -> Samples:
        """The music of one block, at the level that the speech beside it asks for."""
        if is_speaking:
            self._held = 0
            if not self._is_down:
                self._is_down = True
                self._gain.move(self._low, round(self._ducking.down_s * self._rate))
        elif self._is_down:
            self._held += len(block)
            if self._held > self._ducking.hold_s * self._rate:
                self._is_down = False
                self._gain.move(1.0, round(self._ducking.up_s * self._rate))
        return self._gain.apply(block)


class Delay:
    """The sound, some samples later: loudspeakers further from the stage than others."""

    def __init__(self, samples: int) -> None:
        self._waiting = np.zeros(samples, np.float32)

    def apply(self, block: Samples) -> Samples:
        """As many samples as came in, those of `samples` ago."""
        if len(self._waiting) == 0:
            return block
        line = np.concatenate([self._waiting, block])
        self._waiting = line[len(block) :]
        return line[: len(block)]


class Mixer:
    """The tracks that sound now: music under speech, at the volume of the output, delayed, limited."""

    def __init__(self, sample_rate: int, volume: float, ducking: Ducking = Ducking(), delay_s: float = 0.0) -> None:
        self.sample_rate = sample_rate
        self.tracks: dict[str, Track] = {}
        self._volume = Ramp(volume)
        self._duck = Duck(sample_rate, ducking)
        self._delay = Delay(round(delay_s * sample_rate))
        self._limiter = Limiter(sample_rate)

    def set_volume(self, volume: float) -> None:
        """Move to `volume` (amplitude factor, 0..1) within 30 ms."""
        self._volume.move(volume, round(0.03 * self.sample_rate))

    def render(self, count: int) -> Samples:
        """The next `count` samples of everything together."""
        speech = [track for track in self.tracks.values() if track.role == SPEECH]
        is_speaking = any(track.buffered > 0 for track in speech)
        music = _sum(count, (track for track in self.tracks.values() if track.role == MUSIC))
        mix = self._duck.apply(music, is_speaking=is_speaking) + _sum(count, speech)
        return self._limiter.apply(self._delay.apply(self._volume.apply(mix)))


def _sum(count: int, tracks: Iterable[Track]) -> Samples:
    total = np.zeros(count, np.float32)
    for track in tracks:
        total += track.take(count)
    return total
