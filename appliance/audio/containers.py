"""What kind of file some bytes claim to be, and whether a WAV header tells the truth. Reads headers only."""

from __future__ import annotations

import struct
from typing import BinaryIO

HEAD_BYTES = 64  # enough for every magic number below
UNKNOWN_LENGTHS = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF - 36)  # what streaming writers put there
MAX_CHUNKS = 1_000  # of a RIFF file, before its data


def sniff(head: bytes) -> str:
    """The container of a file by its first bytes (wav, flac, ogg, aiff, au, caf, mp3, mp4, webm, aac), or ""."""
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    magics = {b"fLaC": "flac", b"OggS": "ogg", b".snd": "au", b"caff": "caf", b"\x1aE\xdf\xa3": "webm"}
    if head[:4] in magics:
        return magics[head[:4]]
    if head[4:8] == b"ftyp":
        return "mp4"
    if head[:3] == b"ID3":
        return "mp3"
    return _sniff_frames(head)


def _sniff_frames(head: bytes) -> str:
    """MPEG audio without a container starts with 11 (MP3) or 12 (ADTS) set bits; the layer bits tell them apart."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return ""
    if head[1] & 0xF6 == 0xF0:
        return "aac"
    has_layer = head[1] & 0x06 != 0
    has_rate = head[2] & 0x0C != 0x0C and head[2] & 0xF0 not in (0x00, 0xF0)
    return "mp3" if has_layer and has_rate else ""


def wav_lengths(stream: BinaryIO, size: int) -> tuple[int, int] | None:
    """(bytes of sound that a RIFF/WAVE header declares, bytes that are there), or None where it declares none.

    Streaming writers declare the greatest number or zero: that is no claim, so no lie. Leaves `stream` anywhere.
    """
    stream.seek(0)
    if stream.read(4) != b"RIFF":
        return None  # RF64 keeps its length elsewhere, RIFX is rare: libsndfile judges those
    offset = 12
    for _ in range(MAX_CHUNKS):
        stream.seek(offset)
        header = stream.read(8)
        if len(header) < 8:
            return None
        name, length = header[:4], struct.unpack("<I", header[4:])[0]
        if name == b"data":
            return None if length in UNKNOWN_LENGTHS else (length, max(0, size - offset - 8))
        offset += 8 + length + (length & 1)
    return None
