"""Arrays to the formats that clients ask for, chunk by chunk.

What a codec can say about a chunk is handed out at once: PCM and WAV all of it, FLAC and MP3 all but the frame under
way, Opus all but a page of 100 ms. Headers that would be corrected at the end of a file cannot be, in a stream; the
whole-file function corrects them.
"""

from __future__ import annotations

import io
import struct
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import soundfile
import soxr

from appliance.audio.files import ForwardSoundFile, require_finite
from appliance.audio.tags import NO_TAGS, Tags, TagWriter
from appliance.contracts import Samples
from appliance.errors import InvalidInput, Unavailable

CONTENT_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg; codecs=opus",
    "pcm": "audio/pcm",  # 16 bit, little endian, mono; the door names the rate
    "aac": "audio/aac",  # ADTS; needs PyAV
}
FORMATS = tuple(CONTENT_TYPES)

UNKNOWN_LENGTH = 0xFFFFFFFF
CODEC_RATES = {  # Hz that a codec can carry; other rates are resampled to the next higher one
    "mp3": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "opus": (8_000, 12_000, 16_000, 24_000, 48_000),
    "aac": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
}
OPUS_PAGE_MS = 100.0  # libsndfile's own choice is a second: too late for a listener
SET_OGG_PAGE_LATENCY_MS = 0x1302  # SFC_SET_OGG_PAGE_LATENCY_MS of sndfile.h
AAC_BIT_RATE = 96_000


def pcm16(samples: Samples) -> bytes:
    """Float samples -> signed 16 bit little endian, clipped at full scale. Raises InvalidInput("audio_not_finite")."""
    require_finite(samples)
    return bytes(np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())


def wav_header(sample_rate: int, sample_count: int | None = None, tags: Tags = NO_TAGS) -> bytes:
    """What comes before 16 bit mono samples; `sample_count` None writes the length that means "until the end"."""
    data_bytes = UNKNOWN_LENGTH if sample_count is None else 2 * sample_count
    riff_bytes = min(UNKNOWN_LENGTH, 36 + data_bytes)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    head = struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE") + form + struct.pack("<4sI", b"data", data_bytes)
    return TagWriter("wav", tags).add(head)


def encode_audio(samples: Samples, sample_rate: int, format: str, tags: Tags = NO_TAGS) -> bytes:
    """A whole sound in one go, with true lengths in its header. Raises as `StreamEncoder`."""
    encoder = StreamEncoder(format, sample_rate, sample_count=len(samples), is_patched=True, tags=tags)
    return encoder.header() + encoder.encode(samples) + encoder.finish()


class StreamEncoder:
    """One answer, encoded as it is made: `header()` once, `encode()` per chunk, `finish()` once; join what they return.

    `sample_rate` is the rate of the samples handed in; `coded_rate` the one in the file (codecs know few rates).
    Raises InvalidInput("format_unknown"), Unavailable("codec_missing"); `encode` InvalidInput("audio_not_finite").
    """

    def __init__(
        self,
        format: str,
        sample_rate: int,
        *,
        sample_count: int | None = None,
        is_patched: bool = False,
        tags: Tags = NO_TAGS,
    ) -> None:
        if format not in CONTENT_TYPES:
            raise InvalidInput("format_unknown", format=format, known=", ".join(FORMATS))
        self.format = format
        self.content_type = CONTENT_TYPES[format]
        self.sample_rate = sample_rate
        self.coded_rate = _coded_rate(format, sample_rate)
        self._codec = _make_codec(format, self.coded_rate, sample_count, is_patched)
        self._resampler = (
            None if self.coded_rate == sample_rate else soxr.ResampleStream(sample_rate, self.coded_rate, 1, "float32")
        )
        self._tags = TagWriter(format, tags)
        self._has_header = False

    def header(self) -> bytes:
        """What can be sent before the first chunk; empty when it was handed out already."""
        if self._has_header:
            return b""
        self._has_header = True
        return self._tags.add(self._codec.header())

    def encode(self, samples: Samples) -> bytes:
        """(n,) at `sample_rate` -> bytes to append; the header first if nobody asked for it."""
        require_finite(samples)
        head = self.header()
        return head + self._tags.add(self._codec.encode(self._prepare(samples, is_last=False)))

    def finish(self) -> bytes:
        """The bytes that end the file; call once."""
        head = self.header()
        rest = self._codec.encode(self._prepare(np.zeros(0, np.float32), is_last=True)) if self._resampler else b""
        return head + self._tags.add(rest + self._codec.finish(), is_last=True)

    def _prepare(self, samples: Samples, is_last: bool) -> Samples:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=is_last)
        return np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False)


def _coded_rate(format: str, sample_rate: int) -> int:
    rates = CODEC_RATES.get(format)
    if rates is None or sample_rate in rates:
        return sample_rate
    return next((rate for rate in rates if rate > sample_rate), rates[-1])


class _Codec(ABC):
    def header(self) -> bytes:
        return b""

    @abstractmethod
    def encode(self, samples: Samples) -> bytes: ...

    def finish(self) -> bytes:
        return b""


def _make_codec(format: str, rate: int, sample_count: int | None, is_patched: bool) -> _Codec:
    match format:
        case "pcm":
            return _PcmCodec(b"")
        case "wav":
            return _PcmCodec(wav_header(rate, sample_count))
        case "aac":
            return _AacCodec(rate)
        case _:
            return _SoundFileCodec(format, rate, is_patched)


class _PcmCodec(_Codec):
    def __init__(self, header: bytes) -> None:
        self._header = header

    def header(self) -> bytes:
        return self._header

    def encode(self, samples: Samples) -> bytes:
        return pcm16(samples)


class _Outbox(io.RawIOBase):
    """The file that libsndfile believes to write; hands out what was appended.

    Without `is_patched`, what a codec writes again at an earlier place (lengths, checksums) is dropped: those bytes are
    gone already. With it, everything is kept until the end.
    """

    def __init__(self, is_patched: bool) -> None:
        self._kept = bytearray()
        self._taken = 0  # bytes handed out and forgotten
        self._position = 0
        self._is_patched = is_patched

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        start = self._position - self._taken
        if start >= len(self._kept):
            self._kept += chunk
        elif self._is_patched:
            self._kept[start : start + len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._taken + len(self._kept)}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        return b""

    def take(self, is_last: bool) -> bytes:
        if self._is_patched and not is_last:
            return b""
        ready = bytes(self._kept)
        self._taken += len(ready)
        self._kept.clear()
        return ready


class _SoundFileCodec(_Codec):
    """FLAC, MP3 (constant bit rate) and Opus in Ogg by libsndfile."""

    KINDS = {"flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}  # noqa: RUF012

    def __init__(self, format: str, rate: int, is_patched: bool) -> None:
        container, subtype = self.KINDS[format]
        options: dict[str, Any] = {}
        if format == "mp3":  # about 64 kbit/s up to 24 kHz, 112 above; a reader can tell the length of constant rates
            options = {"bitrate_mode": "CONSTANT", "compression_level": 0.6 if rate <= 24_000 else 0.7}
        self._outbox = _Outbox(is_patched)
        self._has_placeholder = format == "mp3" and not is_patched
        self._file = ForwardSoundFile(self._outbox, "w", rate, 1, subtype, format=container, **options)
        if format == "opus":
            _set_page_latency(self._file)

    def encode(self, samples: Samples) -> bytes:
        if len(samples):
            self._file.write(samples)
        return self._take(is_last=False)

    def finish(self) -> bytes:
        self._file.close()
        return self._take(is_last=True)

    def _take(self, is_last: bool) -> bytes:
        ready = self._outbox.take(is_last)
        if ready and self._has_placeholder:
            self._has_placeholder = False
            return _without_mp3_placeholder(ready)
        return ready


def _set_page_latency(file: soundfile.SoundFile) -> None:
    """Ask libsndfile for short Ogg pages; `soundfile` has no public call for it, so its absence only costs latency."""
    native, ffi = getattr(soundfile, "_snd", None), getattr(soundfile, "_ffi", None)
    handle = getattr(file, "_file", None)
    if native is not None and ffi is not None and handle is not None:
        native.sf_command(handle, SET_OGG_PAGE_LATENCY_MS, ffi.new("double*", OPUS_PAGE_MS), 8)


def _without_mp3_placeholder(data: bytes) -> bytes:
    """Drop the empty frame that LAME keeps for figures it knows only at the end: players would hear it as silence."""
    body = data[4:].lstrip(b"\x00")
    start = len(data) - len(body)
    is_placeholder = start > 36 and body[:2] == data[:2]  # side information alone is 32 bytes at most
    return body if is_placeholder else data


class _AacCodec(_Codec):
    """AAC in ADTS by PyAV, where that is installed."""

    def __init__(self, rate: int) -> None:
        try:
            import av
        except ImportError as error:
            raise Unavailable("codec_missing", format="aac") from error
        self._av = av
        self._outbox = _Outbox(is_patched=False)
        self._container = av.open(self._outbox, mode="w", format="adts")
        self._track = self._container.add_stream("aac", rate=rate, layout="mono")
        self._track.bit_rate = AAC_BIT_RATE
        self._rate = rate
        self._written = 0

    def encode(self, samples: Samples) -> bytes:
        if len(samples):
            frame = self._av.AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = self._rate, self._written
            self._written += len(samples)
            self._container.mux(self._track.encode(frame))
        return self._outbox.take(is_last=False)

    def finish(self) -> bytes:
        self._container.mux(self._track.encode(None))
        self._container.close()
        return self._outbox.take(is_last=True)
