"""The encrypted form of files and values: AES-256-GCM in chunks, so that it can be streamed and nothing can be cut off.

    magic "VOICEDS" + version 1 | log2 of the chunk size | key id (16 bytes) | salt (16 bytes) | chunks

Each file has a key of its own, HKDF-SHA256 (RFC 5869) of the owner's data key with the file's salt and with the header
and the context as info, so that no nonce is used twice however many files an owner has. A chunk's nonce is its number
and a flag that only the last one has (STREAM, Hoang et al., 2015): chunks that are changed, swapped, left out or cut
off at the end do not open. A chunk is as long as its plaintext and a tag of 16 bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"VOICEDS\x01"
CHUNK_LOG2 = 18  # 256 KiB: large enough that the cipher is the cost, small enough to stream
_HEADER = struct.Struct("8sB16s16s")
_NONCE = struct.Struct(">QxxxB")
_TAG_BYTES = 16
_SMALLEST_LOG2, _LARGEST_LOG2 = 10, 24  # what a reader accepts: a header is read before it is authenticated


class Damaged(Exception):
    """Not as it was sealed, or not sealed under this key or for this context."""


@dataclass(frozen=True)
class DataKey:
    """256 bits that encrypt what one owner has. `id` is 32 hexadecimal digits and no secret."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"DataKey({self.id})"


FindKey = Callable[[str], DataKey]  # id -> key; raises when it is gone


def seal_stream(source: BinaryIO, target: BinaryIO, key: DataKey, context: bytes = b"") -> str:
    """Encrypt `source` to its end; returns the SHA-256 of the plaintext (64 hexadecimal digits)."""
    header = _HEADER.pack(MAGIC, CHUNK_LOG2, bytes.fromhex(key.id), secrets.token_bytes(16))
    cipher, digest = _cipher(key, header, context), hashlib.sha256()
    target.write(header)
    for number, chunk, is_last in _chunks(source, 1 << CHUNK_LOG2):
        digest.update(chunk)
        target.write(cipher.encrypt(_NONCE.pack(number, is_last), chunk, None))
    return digest.hexdigest()


def open_stream(source: BinaryIO, find: FindKey, context: bytes = b"") -> Iterator[bytes]:
    """The plaintext, chunk by chunk, each authenticated before it is given out.

    Raises Damaged, in the middle too: what came before the last chunk is only whole once the iterator has ended. Raises
    what `find` raises.
    """
    header = source.read(_HEADER.size)
    key_id = key_id_of(header)
    if key_id is None:
        raise Damaged("it has no header")
    size_log2 = header[len(MAGIC)]
    if not _SMALLEST_LOG2 <= size_log2 <= _LARGEST_LOG2:
        raise Damaged("its chunks have a size that nobody writes")
    cipher = _cipher(find(key_id), header, context)
    for number, chunk, is_last in _chunks(source, (1 << size_log2) + _TAG_BYTES):
        try:
            yield cipher.decrypt(_NONCE.pack(number, is_last), chunk, None)
        except (InvalidTag, ValueError) as error:
            raise Damaged(f"chunk {number} does not open") from error


def seal(data: bytes, key: DataKey, context: bytes = b"") -> bytes:
    """A value in the form of a file. `context` says what it is the value of: it opens for nothing else."""
    target = io.BytesIO()
    seal_stream(io.BytesIO(data), target, key, context)
    return target.getvalue()


def unseal(data: bytes, find: FindKey, context: bytes = b"") -> bytes:
    """What `seal` was given. Raises Damaged and what `find` raises."""
    return b"".join(open_stream(io.BytesIO(data), find, context))


def key_id_of(head: bytes) -> str | None:
    """Of the beginning of a file: the id of the key that opens it; None for a file that is not sealed."""
    if len(head) < _HEADER.size or not head.startswith(MAGIC):
        return None
    return str(_HEADER.unpack_from(head)[2].hex())


def sealed_size(size: int) -> int:
    """Bytes that `size` bytes of plaintext take."""
    chunks = max(1, -(-size // (1 << CHUNK_LOG2)))
    return _HEADER.size + size + chunks * _TAG_BYTES


def make_key() -> DataKey:
    """A new key from the system's random numbers."""
    return DataKey(secrets.token_hex(16), os.urandom(32))


def _cipher(key: DataKey, header: bytes, context: bytes) -> AESGCM:
    salt = _HEADER.unpack(header)[3]
    return AESGCM(HKDF(SHA256(), 32, salt=salt, info=header + context).derive(key.secret))


def _chunks(source: BinaryIO, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """(number, bytes, whether it is the last); an empty source has one empty chunk."""
    number, chunk = 0, source.read(size)
    while following := source.read(size) if len(chunk) == size else b"":
        yield number, chunk, False
        number, chunk = number + 1, following
    yield number, chunk, True
