"""Live recording from a microphone into a WAV file, with a level to show.

The callback of the sound system only copies into a ring; this thread empties the ring into the file. A machine without
PortAudio or without a microphone is a state with a remedy, so `sounddevice` is imported here and nowhere above.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from appliance.audio.loudness import decibels
from appliance.contracts import Samples
from appliance.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE_RATE = 48_000  # Hz; what microphones give without conversion
RING_S = 8.0  # how long the disk may stall before samples are lost
DRAIN_S = 0.05  # between two looks at the ring: 20 levels per second
STALL_S = 3.0  # without a sample: unplugged
CLIPPING = 0.999


@dataclass(frozen=True)
class Level:
    """What a meter shows about the last moment."""

    elapsed_s: float
    peak_dbfs: float
    rms_dbfs: float
    is_clipping: bool


@dataclass(frozen=True)
class Capture:
    """A finished recording."""

    path: Path
    duration_s: float
    sample_rate: int  # Hz
    device: str
    lost_samples: int  # the ring ran over: the machine was too busy


class Ring:
    """A mono ring buffer for one writer (the sound callback) and one reader: no locks, no allocation while writing.

    16 bit integers, as microphones give them: whatever a broken driver leaves in them, it is no NaN.
    """

    def __init__(self, capacity: int) -> None:
        self._buffer = np.zeros(capacity, np.int16)
        self._written = 0  # samples ever; only the writer changes it
        self._read = 0  # samples ever; only the reader changes it
        self.lost = 0

    def write(self, block: NDArray[np.int16]) -> None:
        """Copy `block` in; what does not fit is dropped and counted."""
        capacity = len(self._buffer)
        room = capacity - (self._written - self._read)
        count = min(len(block), room)
        start = self._written % capacity
        first = min(count, capacity - start)
        self._buffer[start : start + first] = block[:first]
        self._buffer[: count - first] = block[first:count]
        self.lost += len(block) - count
        self._written += count  # last: the reader must not see samples before they are there

    def read(self) -> Samples:
        """Everything written since the last call, full scale 1.0."""
        capacity, written = len(self._buffer), self._written
        start, count = self._read % capacity, written - self._read
        first = min(count, capacity - start)
        block = np.concatenate([self._buffer[start : start + first], self._buffer[: count - first]])
        self._read = written
        return block.astype(np.float32) / 32768.0


def record(
    path: Path,
    seconds: float,
    device: str = "",
    on_level: Callable[[Level], None] | None = None,
    stop: threading.Event | None = None,
) -> Capture:
    """Record mono 16 bit until `seconds` have passed or `stop` is set; the file appears only when it is complete.

    `device` is a name, a part of one, or an index; empty for the default. Blocks; `on_level` is called in this thread.
    Raises Unavailable (portaudio_missing, no_microphone, microphone_failed).
    """
    sound = _sounddevice()
    name, rate = _choose(sound, device)
    ring = Ring(int(RING_S * rate))

    def copy(block: Any, frames: int, when: Any, status: Any) -> None:
        ring.write(block[:, 0])

    try:
        stream = sound.InputStream(
            samplerate=rate, device=_device_key(device), channels=1, dtype="int16", callback=copy
        )
        with _wav_writer(path, rate) as file, stream:
            written = _drain(ring, stream, file, int(seconds * rate), on_level, stop or threading.Event())
    except sound.PortAudioError as error:
        raise Unavailable("microphone_failed", device=name, detail=str(error)) from error
    return Capture(path, written / rate, rate, name, ring.lost)


def _sounddevice() -> Any:
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the wheel is there, libportaudio is not
        raise Unavailable("portaudio_missing") from error
    return sounddevice


def _device_key(device: str) -> int | str | None:
    if not device:
        return None
    return int(device) if device.isdigit() else device


def _choose(sound: Any, device: str) -> tuple[str, int]:
    """Name and sample rate of the microphone; its own rate where it cannot do SAMPLE_RATE."""
    try:
        info = sound.query_devices(_device_key(device), "input")
    except (sound.PortAudioError, ValueError) as error:
        raise Unavailable("no_microphone", device=device or "default") from error
    try:
        sound.check_input_settings(device=_device_key(device), channels=1, dtype="int16", samplerate=SAMPLE_RATE)
    except sound.PortAudioError:
        return str(info["name"]), int(info["default_samplerate"])
    return str(info["name"]), SAMPLE_RATE


@contextmanager
def _wav_writer(path: Path, rate: int) -> Iterator[soundfile.SoundFile]:
    """A WAV under a temporary name; renamed to `path` when all went well, removed otherwise."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w+b") as raw:
            with soundfile.SoundFile(raw, "w", rate, 1, "PCM_16", format="WAV") as file:
                yield file
            raw.flush()
            os.fsync(raw.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _drain(
    ring: Ring,
    stream: Any,
    file: soundfile.SoundFile,
    wanted: int,
    on_level: Callable[[Level], None] | None,
    stop: threading.Event,
) -> int:
    """Move samples from the ring to the file; returns how many. Raises Unavailable when the device stops giving any."""
    written, last_heard = 0, time.monotonic()
    while written < wanted and not stop.wait(DRAIN_S):
        block = ring.read()[: wanted - written]
        if len(block) == 0:
            if not stream.active or time.monotonic() - last_heard > STALL_S:
                raise Unavailable("microphone_failed", device="", detail="no sound arrives any more")
            continue
        last_heard = time.monotonic()
        file.write(block)
        written += len(block)
        if on_level is not None:
            on_level(level_of(block, written / file.samplerate))
    return written


def level_of(block: Samples, elapsed_s: float) -> Level:
    """The meter reading for a block of samples."""
    peak = float(np.max(np.abs(block)))
    rms = float(np.sqrt(np.mean(np.square(block, dtype=np.float64))))
    return Level(elapsed_s, decibels(peak), decibels(rms), peak >= CLIPPING)
