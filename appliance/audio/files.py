"""Sound files to arrays and back: bounded, typed errors, never a NaN.

Whatever arrives is hostile until decoded: the container is recognised by its bytes (never by its name), the header is
held against limits before a sample is decoded, and decoding goes in blocks that stop at the limit.
"""

from __future__ import annotations

import importlib.util
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from appliance.audio.containers import HEAD_BYTES, sniff, wav_lengths
from appliance.contracts import Audio, Samples
from appliance.errors import InvalidInput, TooLarge, UnsupportedMedia

Frames = NDArray[np.float32]  # (n, channels), full scale = 1.0

MAX_CHANNELS = 2
MIN_SAMPLE_RATE = 4_000  # Hz; below, nothing is speech
MAX_SAMPLE_RATE = 192_000  # Hz; above, a header lies or a measuring device was at work
MAX_SAMPLES = 64_000_000  # of all channels together: 256 MB as float32
MAX_PEAK = 16.0  # +24 dBFS: float files may exceed full scale a little, garbage exceeds it a lot
BLOCK_FRAMES = 65_536
SOUNDFILE_KINDS = frozenset({"wav", "flac", "ogg", "aiff", "au", "caf", "mp3"})
PYAV_KINDS = frozenset({"mp4", "webm", "aac"})
GUESSED_LENGTHS = frozenset({"mp3", "aac"})  # no true length in the file: readers guess it from the first frames
LENGTH_GRACE_S = 0.5  # containers round, codecs pad


@dataclass(frozen=True)
class DecodedAudio:
    """A whole file in memory: finite samples, at least one."""

    samples: Frames  # (n, channels), channels 1 or 2
    sample_rate: int  # Hz
    format: str  # "wav", "flac", "mp3", "ogg", "mp4", …

    @property
    def channels(self) -> int:
        return int(self.samples.shape[1])

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate


def read_audio(source: Path | bytes, *, max_duration_s: float = 600.0) -> DecodedAudio:
    """Decode a file or its bytes.

    Raises InvalidInput (audio_empty, audio_header_lies, audio_not_finite, audio_out_of_range, audio_too_many_channels,
    audio_sample_rate_absurd), UnsupportedMedia (audio_unreadable, audio_codec_missing), TooLarge (audio_too_long).
    """
    if isinstance(source, bytes):
        return _read_stream(io.BytesIO(source), len(source), max_duration_s)
    with source.open("rb") as stream:
        return _read_stream(stream, os.fstat(stream.fileno()).st_size, max_duration_s)


def _read_stream(stream: BinaryIO, size: int, max_duration_s: float) -> DecodedAudio:
    if size == 0:
        raise InvalidInput("audio_empty", bytes=0)
    kind = sniff(stream.read(HEAD_BYTES))
    stream.seek(0)
    if kind in PYAV_KINDS or (kind == "mp3" and _has_pyav()):  # libsndfile stops an MP3 at its guess of the length
        samples, rate = _decode_with_pyav(stream, kind, max_duration_s)
    elif kind in SOUNDFILE_KINDS:
        samples, rate = _decode_with_soundfile(stream, size, kind, max_duration_s)
    else:
        raise UnsupportedMedia("audio_unreadable", bytes=size, detected="unknown")
    _require_sane_samples(samples)
    return DecodedAudio(samples, rate, kind)


def _require_sane_header(sample_rate: int, channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidInput("audio_too_many_channels", channels=channels, limit=MAX_CHANNELS)
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise InvalidInput(
            "audio_sample_rate_absurd", sample_rate=sample_rate, minimum=MIN_SAMPLE_RATE, maximum=MAX_SAMPLE_RATE
        )


def _require_sane_samples(samples: Frames) -> None:
    if len(samples) == 0:
        raise InvalidInput("audio_empty", samples=0)
    require_finite(samples)
    peak = float(np.max(np.abs(samples)))
    if peak > MAX_PEAK:
        raise InvalidInput("audio_out_of_range", peak=peak, limit=MAX_PEAK)


def require_finite(samples: NDArray[np.floating]) -> None:
    """Raise InvalidInput("audio_not_finite") when any value is NaN or infinite."""
    if not np.isfinite(samples).all():
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        raise InvalidInput("audio_not_finite", bad_samples=bad, samples=int(samples.size))


def _frame_limit(max_duration_s: float, sample_rate: int, channels: int) -> int:
    return min(int(max_duration_s * sample_rate), MAX_SAMPLES // channels)


def _too_long(frames: int, limit: int, sample_rate: int) -> TooLarge:
    return TooLarge("audio_too_long", duration_s=frames / sample_rate, limit_s=limit / sample_rate)


# ---------------------------------------------------------------- libsndfile: WAV, FLAC, Ogg, MP3, AIFF, AU, CAF


class ForwardSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is only read or written onwards.

    `soundfile` seeks after each block if it can, and that fails on FLAC of unknown length (what streaming writes).
    """

    def seekable(self) -> bool:
        return False


def _decode_with_soundfile(stream: BinaryIO, size: int, kind: str, max_duration_s: float) -> tuple[Frames, int]:
    lengths = wav_lengths(stream, size) if kind == "wav" else None
    stream.seek(0)
    try:
        with ForwardSoundFile(_Nameless(stream)) as file:
            _require_sane_header(file.samplerate, file.channels)
            limit = _frame_limit(max_duration_s, file.samplerate, file.channels)
            if lengths is not None and lengths[0] > lengths[1]:
                raise InvalidInput("audio_header_lies", declared_bytes=lengths[0], present_bytes=lengths[1])
            is_length_known = file.frames < 1 << 62
            if is_length_known and file.frames > limit:
                raise _too_long(file.frames, limit, file.samplerate)
            samples = _collect(_blocks(file), limit, file.samplerate, file.channels)
            if kind == "flac" and is_length_known and len(samples) < file.frames:
                raise InvalidInput("audio_header_lies", declared_samples=file.frames, present_samples=len(samples))
            return samples, file.samplerate
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:
        raise UnsupportedMedia("audio_unreadable", bytes=size, detected=kind) from error


class _Nameless(io.RawIOBase):
    """A stream without its name: `soundfile` would trust an ending such as ".raw" more than the bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _blocks(file: soundfile.SoundFile) -> Iterator[Frames]:
    while True:
        block = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        yield block


def _collect(blocks: Iterator[Frames], limit: int, sample_rate: int, channels: int) -> Frames:
    """Join blocks; stop with TooLarge at the first sample over `limit`, whatever the header said."""
    parts: list[Frames] = []
    frames = 0
    for block in blocks:
        frames += len(block)
        if frames > limit:
            raise _too_long(frames, limit, sample_rate)
        parts.append(block)
    return np.concatenate(parts) if parts else np.zeros((0, channels), np.float32)


# ---------------------------------------------------------------- PyAV: M4A, WebM, AAC


def _has_pyav() -> bool:
    return importlib.util.find_spec("av") is not None


def _decode_with_pyav(stream: BinaryIO, kind: str, max_duration_s: float) -> tuple[Frames, int]:
    try:
        import av
    except ImportError as error:
        raise UnsupportedMedia("audio_codec_missing", detected=kind) from error
    try:
        with av.open(stream, mode="r", metadata_errors="ignore") as container:
            track = next(iter(container.streams.audio), None)
            if track is None or track.codec_context is None:  # no sound in it, or in a coding nobody knows
                raise UnsupportedMedia("audio_unreadable", bytes=0, detected=kind)
            rate, channels = int(track.codec_context.sample_rate), int(track.codec_context.channels)
            _require_sane_header(rate, channels)
            limit, grace = _frame_limit(max_duration_s, rate, channels), int(LENGTH_GRACE_S * rate)
            declared = 0 if kind in GUESSED_LENGTHS else int((container.duration or 0) / av.time_base * rate)
            if declared > limit + grace:
                raise _too_long(declared, limit, rate)
            samples = _collect(_planes(av, container, track), limit, rate, channels)
    except (av.FFmpegError, ValueError) as error:
        raise UnsupportedMedia("audio_unreadable", bytes=0, detected=kind) from error
    if len(samples) < declared - grace:
        raise InvalidInput("audio_header_lies", declared_samples=declared, present_samples=len(samples))
    return samples, rate


def _planes(av: Any, container: Any, track: Any) -> Iterator[Frames]:
    """Every decoded frame as (n, channels) float32."""
    layout = "mono" if track.codec_context.channels == 1 else "stereo"
    planar = av.AudioResampler(format="fltp", layout=layout, rate=track.codec_context.sample_rate)
    for frame in container.decode(track):
        for part in planar.resample(frame):
            yield np.ascontiguousarray(part.to_ndarray().T, dtype=np.float32)


# ---------------------------------------------------------------- arrays


def to_mono(samples: Frames) -> Samples:
    """(n, channels) -> (n,): the mean of the channels."""
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    return np.ascontiguousarray(mono, dtype=np.float32)


def resample(samples: NDArray[np.float32], from_rate: int, to_rate: int) -> NDArray[np.float32]:
    """(n,) or (n, channels) at `from_rate` Hz -> the same sound at `to_rate` Hz (soxr, high quality)."""
    if from_rate == to_rate or len(samples) == 0:
        return samples
    return np.asarray(soxr.resample(samples, from_rate, to_rate, quality="HQ"), dtype=np.float32)


def mono_at(decoded: DecodedAudio, sample_rate: int) -> Audio:
    """A decoded file as engines, recognisers and trainers want it: mono at `sample_rate` Hz."""
    return Audio(resample(to_mono(decoded.samples), decoded.sample_rate, sample_rate), sample_rate)


def write_wav(path: Path, audio: Audio, subtype: str = "PCM_16") -> None:
    """Write a mono WAV: temporary name, fsync, rename. Raises InvalidInput("audio_not_finite") and writes nothing."""
    require_finite(audio.samples)
    clipped = np.clip(audio.samples, -1.0, 1.0)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            soundfile.write(stream, clipped, audio.sample_rate, subtype=subtype, format="WAV")
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
