"""Text fields in the metadata of sound files: RIFF INFO, ID3v2, Vorbis comments (FLAC, Ogg Opus). Written and read.

Fields are put into the first bytes of a file, so streams carry them too. Formats: the Multimedia Programming Interface
1.0 (RIFF LIST INFO), ID3v2.4.0, RFC 9639 (FLAC), RFC 3533 and 7845 (Ogg, Opus). PCM has no place for them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

Tags = Mapping[str, str]  # names: four capital letters, so that RIFF can carry them

NO_TAGS: Tags = {}
_RIFF_UNKNOWN = 0xFFFFFFFF
_CRC = 0x04C11DB7  # polynomial of Ogg's page checksum
_PIECE = 1 << 20
_MOST_READ = 1 << 20  # metadata lies in the first megabyte (and, in RIFF, behind the sound)


class TagWriter:
    """Puts fields into the head of one encoded stream, piece by piece; pieces are held until the head is whole."""

    def __init__(self, format: str, tags: Tags) -> None:
        self._format = format
        self._tags = tags
        self._held = b""
        self._is_done = not tags or format == "pcm"

    def add(self, piece: bytes, *, is_last: bool = False) -> bytes:
        """The bytes to send now."""
        if self._is_done:
            return piece
        self._held += piece
        if not self._held:
            return b""
        tagged = _WRITERS[self._format](self._held, self._tags)
        if tagged is None and not is_last:
            return b""
        self._is_done = True
        return self._held if tagged is None else tagged


def tag_file(source: Path, target: Path, format: str, tags: Tags) -> None:
    """Copy a finished file with fields in its head, piece by piece. Raises OSError."""
    writer = TagWriter(format, tags)
    with source.open("rb") as file, target.open("wb") as tagged:
        while piece := file.read(_PIECE):
            tagged.write(writer.add(piece))
        tagged.write(writer.add(b"", is_last=True))


def read_tags(data: bytes) -> dict[str, str]:
    """The text fields of a file of any of these kinds; unreadable metadata counts as none."""
    try:
        if data[:4] in (b"RIFF", b"RF64"):
            return _read_riff(data)
        if data[:3] == b"ID3":  # before MP3 and ADTS; some put one before FLAC too
            rest = data[10 + _from_synchsafe(data[6:10]) :]
            return (read_tags(rest) if rest[:3] != b"ID3" else {}) | _read_id3(data)
        if data[:4] == b"fLaC":
            return _read_flac(data)
        if data[:4] == b"OggS":
            return _read_ogg(data[:_MOST_READ])
    except (struct.error, ValueError, LookupError):
        return {}
    return {}


# ---------------------------------------------------------------- RIFF


def _write_riff(head: bytes, tags: Tags) -> bytes | None:
    """A LIST INFO chunk before the chunk `data`."""
    if len(head) < 44:
        return None
    entries = b""
    for name, value in tags.items():
        content = value.encode() + b"\0"
        entries += struct.pack("<4sI", name.encode(), len(content)) + content + b"\0" * (len(content) % 2)
    chunk = struct.pack("<4sI4s", b"LIST", 4 + len(entries), b"INFO") + entries
    (length,) = struct.unpack_from("<I", head, 4)
    length = length if length == _RIFF_UNKNOWN else length + len(chunk)
    return head[:4] + struct.pack("<I", length) + head[8:36] + chunk + head[36:]


def _read_riff(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        if name == b"LIST" and data[position + 8 : position + 12] == b"INFO":
            end = min(position + 8 + size, len(data))
            inner = position + 12
            while inner + 8 <= end:
                key, length = struct.unpack_from("<4sI", data, inner)
                content = data[inner + 8 : min(inner + 8 + length, end)]
                found[key.decode("latin-1")] = content.rstrip(b"\0").decode("utf-8", "replace")
                inner += 8 + length + length % 2
        position += 8 + size + size % 2
    return found


# ---------------------------------------------------------------- ID3


def _write_id3(head: bytes, tags: Tags) -> bytes:
    """An ID3v2.4 tag with one TXXX frame a field, before the first frame of MP3 or ADTS."""
    frames = b""
    for name, value in tags.items():
        content = b"\x03" + name.encode() + b"\0" + value.encode()
        frames += b"TXXX" + _synchsafe(len(content)) + b"\0\0" + content
    return b"ID3\x04\0\0" + _synchsafe(len(frames)) + frames + head


def _synchsafe(number: int) -> bytes:
    """28 bits in four bytes whose top bits are free."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _read_id3(data: bytes) -> dict[str, str]:
    version, size = data[3], _from_synchsafe(data[6:10])
    found: dict[str, str] = {}
    position = 10
    while position + 10 <= min(10 + size, len(data)) and data[position]:
        name, raw = data[position : position + 4], data[position + 4 : position + 8]
        length = _from_synchsafe(raw) if version >= 4 else int.from_bytes(raw, "big")
        content = data[position + 10 : position + 10 + length]
        if name == b"TXXX" and content:
            coding = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}[content[0]]
            key, _, value = content[1:].decode(coding, "replace").partition("\0")
            found[key.lstrip("\ufeff")] = value.strip("\0\ufeff")
        position += 10 + length
    return found


def _from_synchsafe(raw: bytes) -> int:
    return sum((byte & 0x7F) << shift for byte, shift in zip(raw, (21, 14, 7, 0), strict=True))


# ---------------------------------------------------------------- Vorbis comments


def _comments(packet: bytes, tags: Tags) -> bytes:
    """A comment packet (vendor, count, entries, perhaps padding) with our fields added and without the padding."""
    (vendor,) = struct.unpack_from("<I", packet)
    (count,) = struct.unpack_from("<I", packet, 4 + vendor)
    end = 8 + vendor
    for _ in range(count):
        end += 4 + struct.unpack_from("<I", packet, end)[0]
    added = b""
    for name, value in tags.items():
        entry = f"{name}={value}".encode()
        added += struct.pack("<I", len(entry)) + entry
    return packet[: 4 + vendor] + struct.pack("<I", count + len(tags)) + packet[8 + vendor : end] + added


def _read_comments(packet: bytes) -> dict[str, str]:
    (vendor,) = struct.unpack_from("<I", packet)
    (count,) = struct.unpack_from("<I", packet, 4 + vendor)
    position, found = 8 + vendor, {}
    for _ in range(min(count, 1000)):
        (length,) = struct.unpack_from("<I", packet, position)
        name, _, value = packet[position + 4 : position + 4 + length].decode("utf-8", "replace").partition("=")
        found[name.upper()] = value
        position += 4 + length
    return found


def _flac_blocks(data: bytes) -> list[tuple[int, bytes]] | None:
    """(type, content) of the metadata blocks; None while they are not all there."""
    blocks, position, is_last = [], 4, False
    while not is_last:
        if position + 4 > len(data):
            return None
        is_last, kind = bool(data[position] & 0x80), data[position] & 0x7F
        size = int.from_bytes(data[position + 1 : position + 4], "big")
        if position + 4 + size > len(data):
            return None
        blocks.append((kind, data[position + 4 : position + 4 + size]))
        position += 4 + size
    return blocks


def _write_flac(head: bytes, tags: Tags) -> bytes | None:
    blocks = _flac_blocks(head)
    if blocks is None:
        return None
    old = 4 + sum(4 + len(content) for _, content in blocks)
    comments = next((content for kind, content in blocks if kind == 4), struct.pack("<I6sI", 6, b"voiced", 0))
    blocks = [(kind, content) for kind, content in blocks if kind != 4]
    blocks.insert(1, (4, _comments(comments, tags)))
    written = b"fLaC"
    for number, (kind, content) in enumerate(blocks):
        flag = 0x80 if number == len(blocks) - 1 else 0
        written += bytes([flag | kind]) + len(content).to_bytes(3, "big") + content
    return written + head[old:]


def _read_flac(data: bytes) -> dict[str, str]:
    blocks = _flac_blocks(data) or []
    return next((_read_comments(content) for kind, content in blocks if kind == 4), {})


# ---------------------------------------------------------------- Ogg


def _page(data: bytes, position: int) -> tuple[bytes, bytes] | None:
    """(header, body) of the page that begins at `position`; None while it is not all there."""
    if position + 27 > len(data):
        return None
    count = data[position + 26]
    table = data[position + 27 : position + 27 + count]
    end = position + 27 + count + sum(table)
    if len(table) < count or end > len(data):
        return None
    return data[position : position + 27 + count], data[position + 27 + count : end]


def _write_ogg(head: bytes, tags: Tags) -> bytes | None:
    """The second page (OpusTags, alone on it) made anew with our fields and its own checksum."""
    first = _page(head, 0)
    second = _page(head, sum(map(len, first))) if first else None
    if first is None or second is None:
        return None
    start = sum(map(len, first))
    if second[1][:8] != b"OpusTags":
        return head
    body = b"OpusTags" + _comments(second[1][8:], tags)
    table = bytes([255] * (len(body) // 255) + [len(body) % 255])
    if len(table) > 255:
        return head
    page = second[0][:22] + b"\0\0\0\0" + bytes([len(table)]) + table + body
    page = page[:22] + struct.pack("<I", _checksum(page)) + page[26:]
    return head[:start] + page + head[start + sum(map(len, second)) :]


def _read_ogg(data: bytes) -> dict[str, str]:
    position = 0
    while (page := _page(data, position)) is not None and position < 1 << 16:
        if page[1][:8] == b"OpusTags":
            return _read_comments(page[1][8:])
        if page[1][:7] == b"\x03vorbis":
            return _read_comments(page[1][7:])
        position += sum(map(len, page))
    return {}


def _checksum(page: bytes) -> int:
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (_CRC if register & 0x80000000 else 0)) & 0xFFFFFFFF
    return register


_WRITERS = {
    "wav": _write_riff,
    "mp3": _write_id3,
    "aac": _write_id3,
    "flac": _write_flac,
    "opus": _write_ogg,
}
