"""Renditions on disk, so that what was said before is said again without an engine: bounded, least used goes first.

    ROOT/RECIPE/TENANT/VOICE/RENDITION      folders are digests: no name from outside becomes a path

A file is the SHA-256 of the rest, the length of a JSON header, the header (which rendition of whom, rates and lengths
of its chunks), and the samples as float32, so that the sound of the second time is that of the first, bit by bit. What
a person's voice says is encrypted under that person's key (see `vault.sealing`); what a starter says is not.
Nothing is flushed to the medium: what a power cut tears does not have its digest and is made again. All of it may be
deleted at any time. Methods block; they are safe to call from several threads.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from appliance.contracts import Audio
from appliance.errors import VoicedError
from appliance.vault.keys import KeyRing, Owner
from appliance.vault.sealing import Damaged, key_id_of, seal, unseal

log = logging.getLogger(__name__)

_DIGEST_BYTES = 32
_LENGTH = struct.Struct("<I")


class RenditionKey(NamedTuple):
    """Whose rendition it is, and the digest of everything that decides its sound."""

    tenant: str
    voice: str
    rendition: str
    owner: Owner | None = None  # under whose key it lies on disk; None: nobody's

    @property
    def names(self) -> list[str]:
        """What the file says of itself."""
        return [self.tenant, self.voice, self.rendition]


class RenditionFiles:
    """A folder of renditions. What was made by another `recipe` (release, backends) is removed when it is opened."""

    def __init__(self, root: Path, limit_bytes: int, recipe: str, keys: KeyRing | None = None) -> None:
        """Without `keys` nothing is encrypted: for tools and tests."""
        self._keys = keys
        self._root = root
        self._home = root / _name(recipe)
        self._limit_bytes = limit_bytes
        self._turn = threading.Lock()
        self._sizes: OrderedDict[Path, int] = OrderedDict()  # the least used first
        self._bytes = 0
        self.generation = 0  # how often something was forgotten
        self.corrupt = 0  # files that were found damaged
        self._take_stock()

    @property
    def bytes(self) -> int:
        """What lies here, in bytes on disk."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._sizes)

    def get(self, key: RenditionKey) -> tuple[Audio, ...] | None:
        """The chunks of a rendition; None when it is not here, or not as it was written (then it is removed)."""
        place = self._place(key)
        try:
            document = place.read_bytes()
        except OSError:
            with self._turn:
                self._drop(place)
            return None
        chunks = _decode(_opened(document, self._keys), key)
        with self._turn:
            if chunks is None:
                log.warning("the rendition %s on disk is damaged: it is made again", key.rendition[:12])
                self.corrupt += 1
                self._drop(place)
            elif place in self._sizes:
                self._sizes.move_to_end(place)
                os.utime(place)  # the order survives a restart
        return chunks

    def put(self, key: RenditionKey, chunks: Sequence[Audio], generation: int) -> None:
        """Keep a rendition, unless something was forgotten since `generation`. Raises OSError, Unavailable."""
        document = _encode(key, chunks)
        if self._keys is not None and key.owner is not None:
            document = seal(document, self._keys.of(key.owner))
        place = self._place(key)
        if len(document) > self._limit_bytes:
            return
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self._home / f"incoming-{secrets.token_hex(8)}"
        try:
            temporary.write_bytes(document)
            temporary.chmod(0o600)
            with self._turn:
                if generation == self.generation:
                    temporary.replace(place)
                    self._count(place, len(document))
                    self._make_room()
        finally:
            temporary.unlink(missing_ok=True)

    def forget(self, tenant: str, voice: str | None = None) -> int:
        """Remove every rendition of a voice, or of a tenant; returns how many. What is being written is not kept."""
        folder = self._home / _name(tenant)
        folder = folder if voice is None else folder / _name(voice)
        with self._turn:
            self.generation += 1
            places = [place for place in self._sizes if place.is_relative_to(folder)]
            for place in places:
                self._drop(place)
            shutil.rmtree(folder, ignore_errors=True)
        return len(places)

    def _place(self, key: RenditionKey) -> Path:
        return self._home / _name(key.tenant) / _name(key.voice) / _name(key.rendition)

    def _count(self, place: Path, size: int) -> None:
        self._bytes += size - self._sizes.pop(place, 0)
        self._sizes[place] = size

    def _drop(self, place: Path) -> None:
        self._bytes -= self._sizes.pop(place, 0)
        place.unlink(missing_ok=True)

    def _make_room(self) -> None:
        while self._bytes > self._limit_bytes:
            self._drop(next(iter(self._sizes)))

    def _take_stock(self) -> None:
        """Count what an earlier run left, and remove what is of no use any more."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for other in self._root.iterdir():
            if other != self._home:
                shutil.rmtree(other, ignore_errors=True)
        for leftover in self._home.glob("incoming-*"):
            leftover.unlink(missing_ok=True)
        found = [(place.stat(), place) for place in self._home.glob("*/*/*")]
        for status, place in sorted(found, key=lambda row: row[0].st_mtime_ns):
            self._count(place, status.st_size)
        self._make_room()


def _name(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _encode(key: RenditionKey, chunks: Sequence[Audio]) -> bytes:
    lengths, rates = [len(chunk.samples) for chunk in chunks], [chunk.sample_rate for chunk in chunks]
    header = json.dumps({"key": key.names, "rates": rates, "lengths": lengths}).encode()
    sound = b"".join(np.ascontiguousarray(chunk.samples, "<f4").tobytes() for chunk in chunks)
    content = _LENGTH.pack(len(header)) + header + sound
    return hashlib.sha256(content).digest() + content


def _opened(document: bytes, keys: KeyRing | None) -> bytes:
    """The document as it was encoded; nothing where it cannot be read."""
    if key_id_of(document) is None:
        return document
    try:
        return b"" if keys is None else unseal(document, keys.get)
    except (Damaged, VoicedError):
        return b""


def _decode(document: bytes, key: RenditionKey) -> tuple[Audio, ...] | None:
    """None unless every byte is as it was written, under this key."""
    content = memoryview(document)[_DIGEST_BYTES:]
    if len(content) < _LENGTH.size or hashlib.sha256(content).digest() != document[:_DIGEST_BYTES]:
        return None
    (size,) = _LENGTH.unpack_from(content)
    header = json.loads(bytes(content[_LENGTH.size : _LENGTH.size + size]))
    if header["key"] != key.names:
        return None
    samples = np.frombuffer(content[_LENGTH.size + size :], "<f4")
    ends = np.cumsum(header["lengths"])[:-1]
    return tuple(Audio(part, rate) for part, rate in zip(np.split(samples, ends), header["rates"], strict=True))
