"""The native backend, and its session of s1's step on the kernel."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.artifacts import check_digest, damaged, read_artifact
from appliance.contracts import Artifact, Backend, Device, Probe, Session, SessionOptions
from appliance.errors import Unavailable

from . import library
from .arrays import Malformed, read
from .kernel_session import KernelSession
from .library import Decoder, KernelError, Shape
from .reader import Reader
from .reader_arrays import read_bert, read_s1
from .reader_sessions import BertSession, PromptSession
from .voice import Voice, VoiceSession, is_worthwhile
from .voice_arrays import read_voice

NAME = "native"
FORMAT = "s1_arrays"
READERS = {"s1_reader": (read_s1, PromptSession), "bert_reader": (read_bert, BertSession)}
VOICE, BF16 = "s2_arrays", "bf16"
LEVEL = "VOICED_NATIVE_LEVEL"  # in the environment: instructions to use instead of the best ones

Arrays = Mapping[str, NDArray[Any]]


class NativeBackend(Backend):
    """Computes s1, BERT, and flow and vocoder of s2, from plain arrays, with the best instructions that there are."""

    name = NAME
    formats: tuple[str, ...] = (FORMAT, *READERS)
    precisions: tuple[str, ...] = ("int8", "half")

    def __init__(self, level: str = "") -> None:
        self._level = level or os.environ.get(LEVEL, "")
        if is_worthwhile(self._level):
            self.formats, self.precisions = (*self.formats, VOICE), (*self.precisions, BF16)

    def probe(self) -> Probe:
        """Whether the kernel was built for this machine, and which instructions it uses."""
        try:
            level = library.level(self._level)
        except OSError as error:
            return Probe(usable=False, reason=f"the kernel was not built for this machine: {error}"[:200])
        if not level:
            return Probe(usable=False, reason=f"this processor has no instructions of the name {self._level}")
        return Probe(usable=True, devices=(Device("cpu", level),), version=f"{_release()} {level}")

    def load(self, artifact: Artifact, options: SessionOptions) -> Session:
        """Read the file once, check its digest and every array in it, and give the kernel its copy.

        Raises Corrupt("artifact_corrupt"); Unavailable with "backend_unsuitable" for another device or format,
        "backend_unavailable" where the kernel cannot run or does not compute such sizes.
        """
        device = options.device or "cpu"
        if device != "cpu" or artifact.format not in self.formats:
            raise Unavailable("backend_unsuitable", backend=self.name, device=device, format=artifact.format)
        found = self.probe()
        if not found.usable:
            raise Unavailable("backend_unavailable", backend=self.name, reason=found.reason)
        content = read_artifact(artifact)
        digest = hashlib.sha256(content).hexdigest()
        check_digest(artifact, digest)
        try:
            open_network = self._parsed(artifact.format, content)
            del content  # the arrays are copies, and as large
            return open_network(options.threads)
        except Malformed as error:
            raise damaged(artifact, "arrays of this network", str(error)) from error
        except KernelError as error:
            raise Unavailable("backend_unavailable", backend=self.name, reason=str(error)) from error

    def _parsed(self, form: str, content: bytes) -> Callable[[int], Session]:
        """What opens the network with so many threads. Raises Malformed, as it does KernelError."""
        level = self._level
        if form == FORMAT:
            shape, arrays = read(content)
            return lambda threads: NativeSession(shape, Decoder(shape, arrays, threads, level))
        if form == VOICE:
            sizes, weights = read_voice(content)
            return lambda threads: VoiceSession(sizes, Voice(sizes, weights, threads, level), self.name)
        parse, session = READERS[form]
        file = parse(content)
        return lambda threads: session(Reader(file.shape, file.arrays, threads, level), file.tables, self.name)


class NativeSession(KernelSession):
    """The step of one s1. Keys and values are half floats in the memory of the caller and grow in place."""

    def __init__(self, shape: Shape, decoder: Decoder) -> None:
        super().__init__(decoder, NAME)
        self._shape = shape
        self._decoder = decoder
        tables = [f"{kind}_{layer}" for layer in range(shape.layers) for kind in ("keys", "values")]
        self.inputs = ("tokens", "positions", "rows", "total", *tables)
        self.outputs = ("logits", *(f"grown_{name}" for name in tables))

    def type_of(self, name: str) -> np.dtype[Any]:
        return np.dtype(np.float16 if name.startswith(("keys_", "values_", "grown_")) else np.float32)

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Execute once on copies of keys and values. Raises as `bind`."""
        rows = len(feeds["rows"])
        arrays: dict[str, NDArray[Any]] = {name: np.array(feeds[name]) for name in self.inputs}
        for name in self.inputs[4:]:
            arrays[name] = arrays[f"grown_{name}"] = arrays[name].astype(np.float16)
        arrays["logits"] = np.empty((rows, 1, self._shape.vocabulary), np.float32)
        self.bind(arrays)()
        return {name: arrays[name] for name in self.outputs}

    def bind(self, arrays: Arrays) -> Callable[[], None]:
        """As `Session.bind`; keys and values have to be the memory of what they grow into.

        Raises Unavailable("backend_unavailable") for arrays of other types and sizes, and so does the call for numbers
        out of range in them; Unavailable("session_closed") after `close`.
        """
        held = dict(arrays)
        rows, capacity = self._check(held)
        pointers: list[object] = [held[name].ctypes.data for name in ("tokens", "positions", "rows")]
        for kind in ("keys", "values"):
            tables = [held[f"{kind}_{layer}"].ctypes.data for layer in range(self._shape.layers)]
            pointers.append((ctypes.c_void_p * len(tables))(*tables))
        pointers.append(held["logits"].ctypes.data)

        return partial(self._step, held, rows, capacity, pointers)

    def _step(self, _held: Arrays, rows: int, capacity: int, pointers: Sequence[object]) -> None:
        """`_held` keeps the memory where the pointers say that it is."""
        with self._turn():
            self._decoder.step(rows, capacity, pointers)

    def _check(self, arrays: Arrays) -> tuple[int, int]:
        """Rows and capacity. Raises Unavailable("backend_unavailable"): the kernel believes what it is told."""
        shape = self._shape
        try:
            rows, capacity = len(arrays["rows"]), arrays["keys_0"].shape[2]
            expected: dict[str, tuple[type, tuple[int, ...]]] = {
                "tokens": (np.int64, (rows, 1)),
                "positions": (np.int64, (rows, 1)),
                "rows": (np.int32, (rows,)),
                "logits": (np.float32, (rows, 1, shape.vocabulary)),
            }
            table = (rows, shape.heads, capacity, shape.head_size)
            expected |= dict.fromkeys((*self.inputs[4:], *self.outputs[1:]), (np.float16, table))
            for name, (kind, sizes) in expected.items():
                array = arrays[name]
                if array.dtype != kind or array.shape != sizes or not array.flags.c_contiguous:
                    raise self._refused(f"{name} is {array.dtype}{list(array.shape)}")
            moved = [
                name for name in self.inputs[4:] if arrays[name].ctypes.data != arrays[f"grown_{name}"].ctypes.data
            ]
        except (KeyError, IndexError, TypeError) as error:
            raise self._refused(f"{error} is missing") from error
        if moved or not 1 <= rows <= library.MOST_ROWS or not 1 <= capacity <= library.MOST_CAPACITY:
            raise self._refused(f"{rows} rows, capacity {capacity}, {len(moved)} tables that do not grow in place")
        return rows, capacity


def _release() -> str:
    try:
        return version("voiced-native")
    except PackageNotFoundError:
        return "0"
