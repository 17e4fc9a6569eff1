"""Writes archives as `torch.save` does, without torch and without anybody's classes: what `archives` reads.

The pickle in it (protocol 2) consists of plain values, tensors that refer to storages beside it, and, where a value is
a `Bag`, the attribute bag that official files wrap their configuration in. Names are written, never looked up.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.engine.gpt_sovits.pickles import Bag

STORAGES = {"float16": "HalfStorage", "float32": "FloatStorage", "int64": "LongStorage"}
BAG = "utils\nHParams\n"
ALIGNMENT = 64  # bytes, of every storage in the file
PADDING_FIELD = b"FB"  # id of the extra field that torch fills the gap with
EARLIEST = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Ordered:
    """A mapping that is to be an `OrderedDict`."""

    content: Mapping[str, Any]


class PickleWriter:
    """One pickle; `storages` are the arrays that its tensors refer to, by their keys "0", "1", …"""

    def __init__(self) -> None:
        self.storages: list[NDArray[Any]] = []
        self._out = io.BytesIO()

    def write(self, value: Any) -> bytes:
        """Raises TypeError for a value that such a file does not hold."""
        self._out.write(b"\x80\x02")
        self._value(value)
        self._out.write(b".")
        return self._out.getvalue()

    def _value(self, value: Any) -> None:
        if isinstance(value, Ordered):
            self._out.write(b"ccollections\nOrderedDict\n)R")
            self._items(value.content)
        elif isinstance(value, Bag):
            self._out.write(b"c" + BAG.encode() + b")\x81")
            self._value(value.attributes)
            self._out.write(b"b")
        elif isinstance(value, np.ndarray):
            self._tensor(value)
        elif isinstance(value, dict):
            self._out.write(b"}")
            self._items(value)
        elif isinstance(value, list | tuple):
            self._sequence(value)
        else:
            self._plain(value)

    def _items(self, content: Mapping[str, Any]) -> None:
        self._out.write(b"(")
        for key, value in content.items():
            self._value(key)
            self._value(value)
        self._out.write(b"u")

    def _sequence(self, value: list[Any] | tuple[Any, ...]) -> None:
        is_list = isinstance(value, list)
        self._out.write(b"](" if is_list else b"(")
        for part in value:
            self._value(part)
        self._out.write(b"e" if is_list else b"t")

    def _plain(self, value: Any) -> None:
        if value is None or isinstance(value, bool):
            self._out.write({None: b"N", True: b"\x88", False: b"\x89"}[value])
        elif isinstance(value, int) and -(1 << 31) <= value < 1 << 31:
            self._out.write(b"J" + struct.pack("<i", value))
        elif isinstance(value, int):
            number = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self._out.write(b"\x8a" + bytes([len(number)]) + number)
        elif isinstance(value, float):
            self._out.write(b"G" + struct.pack(">d", value))
        elif isinstance(value, str):
            content = value.encode()
            self._out.write(b"X" + struct.pack("<I", len(content)) + content)
        else:
            raise TypeError(f"no place for a {type(value).__name__}")

    def _tensor(self, numbers: NDArray[Any]) -> None:
        """`_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`."""
        key, steps = str(len(self.storages)), [1]
        for length in numbers.shape[:0:-1]:
            steps.append(steps[-1] * length)
        self.storages.append(np.ascontiguousarray(numbers))
        self._out.write(b"ctorch._utils\n_rebuild_tensor_v2\n((")
        self._value("storage")
        self._out.write(b"ctorch\n" + STORAGES[numbers.dtype.name].encode() + b"\n")
        for part in (key, "cpu", numbers.size):
            self._value(part)
        self._out.write(b"tQ")
        strides = tuple(steps[::-1][: numbers.ndim])
        for argument in (0, tuple(numbers.shape), strides, False, Ordered({})):
            self._value(argument)
        self._out.write(b"tR")


def write_archive(path: Path, content: Any, header: str = "") -> None:
    """`content` as `torch.save` would write it; `header` replaces the first two bytes. Raises OSError, TypeError."""
    writer = PickleWriter()
    pickle, root = writer.write(content), path.stem.split(".")[0] or "archive"
    partial = path.with_name(path.name + ".part")
    with partial.open("w+b") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _put(archive, f"{root}/data.pkl", pickle)
            _put(archive, f"{root}/.format_version", b"1")
            _put(archive, f"{root}/.storage_alignment", str(ALIGNMENT).encode())
            _put(archive, f"{root}/byteorder", b"little")
            for key, numbers in enumerate(writer.storages):
                _put(archive, f"{root}/data/{key}", numbers.astype(numbers.dtype.newbyteorder("<")).tobytes())
            _put(archive, f"{root}/version", b"3\n")
            serial = zlib.crc32(pickle)
            _put(archive, f"{root}/.data/serialization_id", f"{serial:040d}".encode())
        if header:
            file.seek(0)
            file.write(header.encode("ascii"))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """With as much padding before it that its bytes begin at a multiple of `ALIGNMENT`."""
    entry = zipfile.ZipInfo(name, EARLIEST)
    begin = archive.start_dir + 30 + len(name.encode()) + 4
    gap = -begin % ALIGNMENT
    entry.extra = PADDING_FIELD + struct.pack("<H", gap) + b"Z" * gap
    archive.writestr(entry, content)
