"""The report's pictures show what is in the sound."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest

from appliance.audio.pictures import ROWS, encode_png, spectrogram_png, waveform_svg
from appliance.contracts import Audio

RATE = 24_000


def decode_png(content: bytes) -> np.ndarray:
    """Pixels of an 8-bit RGB PNG without filters; checks the checksum of every chunk."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    place, body, size = 8, b"", (0, 0)
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        (checksum,) = struct.unpack_from(">I", content, place + 8 + length)
        assert checksum == zlib.crc32(kind + data)
        if kind == b"IHDR":
            size = struct.unpack(">II", data[:8])
        elif kind == b"IDAT":
            body += data
        place += 12 + length
    lines = np.frombuffer(zlib.decompress(body), dtype=np.uint8).reshape(size[1], 1 + 3 * size[0])
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(size[1], size[0], 3)


def test_png_round_trip():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    assert np.array_equal(decode_png(encode_png(pixels)), pixels)


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_a_higher_tone_is_higher_in_the_picture(rate):
    time_s = np.arange(rate) / rate
    rows = []
    for hz in (200, 1000, 4000):
        audio = Audio((0.5 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32), rate)
        pixels = decode_png(spectrogram_png(audio, width=100))
        assert pixels.shape == (ROWS, 100, 3)
        rows.append(int(pixels[:, 50].sum(axis=1).argmax()))
    assert rows[0] > rows[1] > rows[2]


def test_silence_and_the_empty_sound_have_pictures():
    for count in (0, 1, RATE):
        audio = Audio(np.zeros(count, dtype=np.float32), RATE)
        assert decode_png(spectrogram_png(audio, width=40)).shape == (ROWS, 40, 3)
        assert waveform_svg(audio).startswith("<svg")


def test_the_waveform_reaches_as_high_as_the_sound():
    time_s = np.arange(RATE) / RATE
    audio = Audio((0.5 * np.sin(2 * np.pi * 300 * time_s)).astype(np.float32), RATE)
    heights = [float(y) for y in re.findall(r"\d+ (-?\d+\.\d)", waveform_svg(audio, width=200, height=100))]
    assert min(heights) == pytest.approx(25, abs=1)  # a quarter from the top: half of full scale
    assert max(heights) == pytest.approx(75, abs=1)
