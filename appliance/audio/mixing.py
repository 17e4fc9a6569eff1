"""Several sounds into one stream for the sound device: tracks, gain ramps, and a limiter. Arrays in, arrays out.

The player renders block by block; everything here is plain numpy on mono float32 and belongs to one thread at a time.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import soxr

from appliance.contracts import Samples

CEILING = 10 ** (-1.0 / 20)  # -1 dBFS: what the limiter lets through, room for the converter's own overshoot
_ATTACK_S = 0.002
_RELEASE_S = 0.25


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

    def __init__(self, track_id: str, sample_rate: int, device_rate: int, gain: float) -> None:
        self.id = track_id
        self.device_rate = device_rate
        self.taken = 0  # samples handed out, at the device's rate
        self.buffered = 0  # samples waiting, at the device's rate
        self.is_ended = False
        self.is_stopping = False
        self._gain = Ramp(gain)
        self._chunks: deque[Samples] = deque()
        self._resampler = None
        if sample_rate != device_rate:
            self._resampler = soxr.ResampleStream(sample_rate, device_rate, 1, dtype="float32", quality="HQ")

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
        """Fade out; the track is over when the fade is."""
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


class Mixer:
    """The tracks that sound now, summed, at the volume of the output, limited."""

    def __init__(self, sample_rate: int, volume: float) -> None:
        self.sample_rate = sample_rate
        self.tracks: dict[str, Track] = {}
        self._volume = Ramp(volume)
        self._limiter = Limiter(sample_rate)

    def set_volume(self, volume: float) -> None:
        """Move to `volume` (amplitude factor, 0..1) within 30 ms."""
        self._volume.move(volume, round(0.03 * self.sample_rate))

    def render(self, count: int) -> Samples:
        """The next `count` samples of everything together."""
        mix = np.zeros(count, np.float32)
        for track in self.tracks.values():
            mix += track.take(count)
        return self._limiter.apply(self._volume.apply(mix))
