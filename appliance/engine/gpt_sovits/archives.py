"""Opens files of weights: official `.ckpt`/`.pth` archives (also with their first two bytes overwritten), archives of
the time before torch 1.6, and safetensors. Numbers in, numbers out; what may not be there is refused, not skipped.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from appliance.engine.gpt_sovits.pickles import Storage, TensorRecord, read_pickle
from appliance.errors import InvalidInput, TooLarge

Tensor = NDArray[Any]

HEADERS = {"00": "v1", "01": "v2", "02": "v3", "03": "v3", "04": "v4", "05": "v2Pro", "06": "v2ProPlus"}
MAX_FILE_BYTES = 8 << 30
MAX_PICKLE_BYTES = 64 << 20
MAX_MEMBERS = 10_000
SMALLEST_ARCHIVE = 22  # bytes of an empty zip archive
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_DTYPES: dict[str, Any] = {
    "HalfStorage": np.float16,
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "BFloat16Storage": np.uint16,  # widened to float32 below
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_BROKEN = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error),
    *(NotImplementedError, RuntimeError, EOFError, UnicodeError, ValueError, KeyError, OverflowError),
)


@dataclass(frozen=True)
class Archive:
    """What a file holds, as plain values; tensors are `TensorRecord`s until `tensor` reads them."""

    content: Any
    header: str  # the two characters that replace "PK": "05"; empty for an ordinary archive
    tensor: Callable[[TensorRecord], Tensor]


def open_archive(path: Path) -> Archive:
    """Read the structure and every number of the file at `path`; nothing that it contains is executed.

    Raises InvalidInput (checkpoint_too_short, checkpoint_header_unknown, checkpoint_carries_code,
    checkpoint_compressed, checkpoint_truncated, checkpoint_damaged), TooLarge (checkpoint_too_large,
    checkpoint_bomb), OSError.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise TooLarge("checkpoint_too_large", bytes=size, limit_bytes=MAX_FILE_BYTES)
    if size < SMALLEST_ARCHIVE:
        raise InvalidInput("checkpoint_too_short", bytes=size)
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(0)
        if path.suffix == ".safetensors":
            return _open_safetensors(file, size)
        if start[0] == 0x80 and start[1] in range(1, 6):
            return _open_legacy(file)
        header = "" if start == b"PK" else start.decode("latin-1")
        if header and header not in HEADERS:
            raise InvalidInput("checkpoint_header_unknown", header=start.hex(" "), known=", ".join(HEADERS))
        return _open_zip(file, size, header)


class _Repaired(io.RawIOBase):
    """The file with its first two bytes read as "PK", whatever they are on the disk."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        at = self._file.tell()
        found = self._file.read(size)
        return b"PK"[at : at + len(found)] + found[2 - at :] if at < 2 else found


# ---------------------------------------------------------------- zip archives


def _open_zip(file: BinaryIO, size: int, header: str) -> Archive:
    try:
        with zipfile.ZipFile(_Repaired(file)) as archive:  # type: ignore[arg-type]
            root = _checked_root(archive, size)
            _refuse_reversed(archive, root)
            content = read_pickle(io.BytesIO(archive.read(f"{root}/data.pkl")))
            prefix = f"{root}/data/"
            members = {name.removeprefix(prefix): archive.read(name) for name in archive.namelist() if "/" in name}
    except _BROKEN as error:
        raise _damage(file, size, error) from error
    return Archive(content, header, _Storages(members).tensor)


def _damage(file: BinaryIO, size: int, error: Exception) -> InvalidInput:
    """An archive ends with its directory: where that is not to be found, the end is missing."""
    file.seek(max(0, size - (1 << 16) - SMALLEST_ARCHIVE))
    if b"PK\x05\x06" not in file.read():
        return InvalidInput("checkpoint_truncated", bytes=size)
    return InvalidInput("checkpoint_damaged", problem=f"{type(error).__name__}: {error}"[:120])


def _checked_root(archive: zipfile.ZipFile, size: int) -> str:
    """The folder that everything lies in, once the directory of the archive is plausible."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise TooLarge("checkpoint_bomb", members=len(members), declared_bytes=0, bytes=size)
    declared = sum(member.file_size for member in members)
    if declared > size:
        raise TooLarge("checkpoint_bomb", members=len(members), declared_bytes=declared, bytes=size)
    packed = next((member for member in members if member.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise InvalidInput("checkpoint_compressed", member=packed.filename[:80])
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise InvalidInput("checkpoint_damaged", problem="one name twice")
    pickles = [member for member in members if member.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InvalidInput("checkpoint_not_torch")
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise TooLarge("checkpoint_bomb", members=len(members), declared_bytes=pickles[0].file_size, bytes=size)
    return pickles[0].filename.removesuffix("/data.pkl")


def _refuse_reversed(archive: zipfile.ZipFile, root: str) -> None:
    name = f"{root}/byteorder"
    if name in archive.namelist() and archive.read(name).strip() != sys.byteorder.encode():
        raise InvalidInput("checkpoint_damaged", problem="bytes of another order")


class _Storages:
    """The raw numbers of an archive by key, and tensors as views of them."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        self._content = content

    def tensor(self, record: TensorRecord) -> Tensor:
        """Raises InvalidInput("checkpoint_damaged") for a view that reaches outside its storage."""
        numbers = self._numbers(record.storage)
        reach = record.offset + sum((n - 1) * step for n, step in zip(record.shape, record.strides, strict=True))
        count = int(np.prod(record.shape, dtype=object)) if record.shape else 1
        if count and (reach >= len(numbers) or count > len(numbers)):
            raise InvalidInput("checkpoint_damaged", problem="a tensor larger than its storage")
        steps = tuple(step * numbers.itemsize for step in record.strides)
        view = np.lib.stride_tricks.as_strided(numbers[record.offset :], record.shape, steps, writeable=False)
        whole = np.ascontiguousarray(view).reshape(record.shape)
        return _widened(whole) if record.storage.kind == "BFloat16Storage" else whole

    def _numbers(self, storage: Storage) -> Tensor:
        content, kind = self._content.get(storage.key), np.dtype(_DTYPES[storage.kind])
        if content is None or len(content) != storage.length * kind.itemsize:
            raise InvalidInput("checkpoint_damaged", problem=f"storage {storage.key[:40]} is not complete")
        return np.frombuffer(content, kind)


def _widened(halves: Tensor) -> Tensor:
    """bfloat16, as its bits, to float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


# ---------------------------------------------------------------- before torch 1.6


def _open_legacy(file: BinaryIO) -> Archive:
    """Five pickles one after the other, then the storages: a length (8 bytes) and its numbers each."""
    magic = read_pickle(file)
    if magic != LEGACY_MAGIC:
        raise InvalidInput("checkpoint_not_torch")
    read_pickle(file)  # version of the format
    read_pickle(file)  # about the machine that wrote it
    content = read_pickle(file)
    keys = read_pickle(file)
    kinds = {record.storage.key: record.storage.kind for record in _records(content)}
    storages: dict[str, bytes] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        width = np.dtype(_DTYPES[kinds.get(str(key), "ByteStorage")]).itemsize
        if not 0 <= count * width <= MAX_FILE_BYTES:
            raise InvalidInput("checkpoint_damaged", problem="a storage of impossible length")
        storages[str(key)] = file.read(count * width)
    return Archive(content, "", _Storages(storages).tensor)


def _records(content: Any, depth: int = 0) -> list[TensorRecord]:
    if isinstance(content, TensorRecord):
        return [content]
    if not isinstance(content, dict) or depth > 4:
        return []
    return [record for value in content.values() for record in _records(value, depth + 1)]


# ---------------------------------------------------------------- safetensors


_SAFE_DTYPES: dict[str, str] = {"F16": "HalfStorage", "F32": "FloatStorage", "F64": "DoubleStorage"}
_SAFE_DTYPES |= {"BF16": "BFloat16Storage", "I64": "LongStorage", "I32": "IntStorage", "U8": "ByteStorage"}


def _open_safetensors(file: BinaryIO, size: int) -> Archive:
    """A length (8 bytes), a JSON header, numbers. https://github.com/huggingface/safetensors"""
    length = int.from_bytes(file.read(8), "little")
    if length > min(MAX_PICKLE_BYTES, size - 8):
        raise InvalidInput("checkpoint_truncated", bytes=size)
    try:
        header = dict(json.loads(file.read(length)))
        header.pop("__metadata__", None)
        ends = [row["data_offsets"][1] for row in header.values()]
        if size - 8 - length < max(ends, default=0):
            raise InvalidInput("checkpoint_truncated", bytes=size)
        storages: dict[str, bytes] = {}
        content: dict[str, TensorRecord] = {}
        for name, row in header.items():
            begin, end = (int(offset) for offset in row["data_offsets"])
            file.seek(8 + length + begin)
            storages[name] = file.read(end - begin)
            content[name] = _safe_record(name, row, end - begin)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput("checkpoint_damaged", problem=f"{type(error).__name__}: {error}"[:120]) from error
    return Archive(content, "", _Storages(storages).tensor)


def _safe_record(name: str, row: Mapping[str, Any], length: int) -> TensorRecord:
    kind = _SAFE_DTYPES[row["dtype"]]
    shape = tuple(int(n) for n in row["shape"])
    strides = [1]
    for n in shape[:0:-1]:
        strides.append(strides[-1] * n)
    if min(shape, default=0) < 0 or length < 0:
        raise ValueError("negative sizes")
    width = np.dtype(_DTYPES[kind]).itemsize
    return TensorRecord(Storage(kind, name, length // width), 0, shape, tuple(strides[::-1][: len(shape)]))
