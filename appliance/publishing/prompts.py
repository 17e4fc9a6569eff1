"""Rendered lines as the files that players and telephone systems read."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np
import soundfile
import soxr

from appliance.audio.encoding import encode_audio
from appliance.audio.tags import Tags
from appliance.contracts import Samples
from appliance.errors import InvalidInput, Unavailable

# Asterisk finds a prompt by its suffix, FreeSWITCH by the folder of its rate. Raw files have no header: 8 kHz, mono.
FORMATS = ("wav", "flac", "mp3", "opus", "wav8", "ulaw", "alaw", "g722", "sln16", "freeswitch")
TELEPHONE_RATE = 8_000
WIDEBAND_RATE = 16_000
G722_BIT_RATE = 64_000


def encode_prompt(samples: Samples, sample_rate: int, format: str, name: str, tags: Tags) -> dict[PurePosixPath, bytes]:
    """The files of one line in one format: path below the channel's folder -> content.

    `samples` (n,) mono; `tags` go where a format has metadata. wav8 is PCM at 8 kHz in `NAME.wav`; ulaw, alaw (G.711),
    g722 (G.722, 64 kbit/s) and sln16 (PCM at 16 kHz) are raw; freeswitch is PCM in `8000/` and `16000/`. Raises
    InvalidInput("format_unknown"), Unavailable("codec_missing").
    """
    at = {rate: _resampled(samples, sample_rate, rate) for rate in _RATES.get(format, ())}
    match format:
        case "wav" | "flac" | "mp3" | "opus":
            return {PurePosixPath(f"{name}.{format}"): encode_audio(samples, sample_rate, format, tags)}
        case "wav8":
            return {PurePosixPath(f"{name}.wav"): encode_audio(at[TELEPHONE_RATE], TELEPHONE_RATE, "wav", tags)}
        case "ulaw" | "alaw":
            return {PurePosixPath(f"{name}.{format}"): _raw(at[TELEPHONE_RATE], TELEPHONE_RATE, format.upper())}
        case "g722":
            return {PurePosixPath(f"{name}.g722"): _g722(at[WIDEBAND_RATE])}
        case "sln16":
            return {PurePosixPath(f"{name}.sln16"): encode_audio(at[WIDEBAND_RATE], WIDEBAND_RATE, "pcm", tags)}
        case "freeswitch":
            return {PurePosixPath(str(rate), f"{name}.wav"): encode_audio(at[rate], rate, "wav", tags) for rate in at}
    raise InvalidInput("format_unknown", format=format[:20], known=", ".join(FORMATS))


_RATES = {
    "wav8": (TELEPHONE_RATE,),
    "ulaw": (TELEPHONE_RATE,),
    "alaw": (TELEPHONE_RATE,),
    "g722": (WIDEBAND_RATE,),
    "sln16": (WIDEBAND_RATE,),
    "freeswitch": (TELEPHONE_RATE, WIDEBAND_RATE),
}


def _resampled(samples: Samples, sample_rate: int, rate: int) -> Samples:
    if sample_rate == rate:
        return samples
    resampled: Samples = np.clip(soxr.resample(samples, sample_rate, rate), -1.0, 1.0).astype(np.float32)
    return resampled


def _raw(samples: Samples, rate: int, subtype: str) -> bytes:
    target = io.BytesIO()
    soundfile.write(target, samples, rate, format="RAW", subtype=subtype)
    return target.getvalue()


def _g722(samples: Samples) -> bytes:
    """By PyAV, whose wheel carries the codec. It takes samples in pairs."""
    try:
        import av
        from av.audio.codeccontext import AudioCodecContext
    except ImportError as error:
        raise Unavailable("codec_missing", format="g722") from error
    codec = AudioCodecContext.create("g722", "w")
    codec.sample_rate, codec.layout, codec.format = WIDEBAND_RATE, "mono", "s16"
    codec.bit_rate, codec.time_base = G722_BIT_RATE, Fraction(1, WIDEBAND_RATE)
    even = np.pad(samples, (0, len(samples) % 2))
    whole = np.rint(np.clip(even, -1.0, 1.0) * 32767.0).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(whole[None, :], format="s16", layout="mono")
    frame.sample_rate, frame.pts = WIDEBAND_RATE, 0
    return b"".join(bytes(packet) for part in (frame, None) for packet in codec.encode(part))
