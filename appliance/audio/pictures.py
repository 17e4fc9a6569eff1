"""Pictures of sound: a spectrogram as PNG, a waveform as SVG. Numpy and zlib only."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Audio

WINDOW_S = 0.032
ROWS = 128  # of a spectrogram, mel-spaced
LOW_HZ, HIGH_HZ = 60.0, 8_000.0
RANGE_DB = 70.0  # below the loudest bin, black
# from silence to loud, our own ramp: deep blue, violet, coral, sand
RAMP = np.array(
    [[8, 10, 32], [52, 30, 105], [140, 41, 112], [222, 84, 84], [250, 166, 92], [253, 240, 200]], dtype=np.float64
)


def spectrogram_png(audio: Audio, width: int = 720) -> bytes:
    """A mel-spaced log-power picture, `width` x 128 pixels, low frequencies at the bottom, as a PNG file."""
    power = _mel_power(audio, width)  # (rows, width)
    level = 10 * np.log10(power + 1e-12)
    shade = np.clip((level - level.max() + RANGE_DB) / RANGE_DB, 0, 1)
    return encode_png(_colour(shade[::-1]))


def waveform_svg(audio: Audio, width: int = 720, height: int = 72, gain: float = 1.0) -> str:
    """The envelope as an SVG element drawn in the text colour of the page; 1 / `gain` fills the height."""
    samples = gain * np.asarray(audio.samples, dtype=np.float32)
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    pieces = [samples[start : max(end, start + 1)] for start, end in pairwise(edges)]
    top = [float(piece.max()) if len(piece) else 0.0 for piece in pieces]
    bottom = [float(piece.min()) if len(piece) else 0.0 for piece in pieces]
    middle = height / 2
    there = [f"{x} {middle - middle * min(1.0, value):.1f}" for x, value in enumerate(top)]
    back = [f"{x} {middle - middle * max(-1.0, value):.1f}" for x, value in reversed(list(enumerate(bottom)))]
    return (
        f'<svg class="wave" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-hidden="true">'
        f'<path d="M0 {middle}H{width}" class="axis"/><path d="M{" L".join(there + back)}Z"/></svg>'
    )


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """An (height, width, 3) picture as a PNG file (8-bit RGB, no filter)."""
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + width * 3), dtype=np.uint8)  # a filter byte (0: none) before every line
    lines[:, 1:] = pixels.reshape(height, width * 3)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _mel_power(audio: Audio, width: int) -> NDArray[np.float64]:
    """Power in mel-spaced bands at `width` moments: (ROWS, width)."""
    size = 1 << int(np.ceil(np.log2(WINDOW_S * audio.sample_rate)))
    samples = np.pad(np.asarray(audio.samples, dtype=np.float64), (size // 2, size))
    starts = np.linspace(0, max(0, len(audio.samples) - 1), width).astype(int)
    frames = samples[starts[:, None] + np.arange(size)] * np.hanning(size)  # (width, size)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2  # (width, bins)
    return np.asarray(_mel_bands(size, audio.sample_rate) @ power.T)


def _mel_bands(size: int, sample_rate: int) -> NDArray[np.float64]:
    """Triangles on the mel scale 2595 log10(1 + f / 700): (ROWS, size // 2 + 1); a narrow one keeps its nearest bin."""
    mel_low, mel_high = (2595 * np.log10(1 + hz / 700) for hz in (LOW_HZ, min(HIGH_HZ, sample_rate / 2)))
    centres = 700 * (10 ** (np.linspace(mel_low, mel_high, ROWS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / sample_rate)
    low, middle, high = centres[:-2, None], centres[1:-1, None], centres[2:, None]
    bands = np.clip(np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, None)
    empty = bands.sum(axis=1) == 0
    bands[empty, np.abs(bins - middle).argmin(axis=1)[empty]] = 1.0
    return np.asarray(bands / bands.sum(axis=1, keepdims=True))


def _colour(shade: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Shades 0..1, (height, width) -> RGB, (height, width, 3)."""
    place = np.linspace(0, 1, len(RAMP))
    return np.stack([np.interp(shade, place, RAMP[:, channel]) for channel in range(3)], axis=-1).astype(np.uint8)
