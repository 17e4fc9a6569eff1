"""Hardware runtimes that execute graphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Device:
    name: str  # "cpu", "cuda:0", "GPU.0"
    description: str
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Probe:
    """Whether something can be used on this machine, and why not."""

    usable: bool
    devices: tuple[Device, ...] = ()
    version: str = ""
    reason: str = ""  # empty when usable
    notes: tuple[str, ...] = ()  # what is missing beside what works, e.g. why a GPU is not among the devices


@dataclass(frozen=True)
class Artifact:
    """One network as a backend can load it: a graph file, or the torch module that graphs are exported from."""

    path: Path  # the graph; for "torch" the weights
    format: str  # "onnx", "openvino", "torch"
    sha256: str = ""  # of the file; checked before parsing when given: runtimes do not notice flipped bytes
    precision: str = "float"  # "int8": products of dynamically scaled integers; "int8_weights": weights in 8 bits only
    module: Callable[[], Any] | None = None  # "torch" only: makes the module; its `input_names` and `output_names` are
    # those of the graph, its `forward` takes the inputs in that order, and it has no other state than its weights


@dataclass(frozen=True)
class SessionOptions:
    threads: int = 1
    device: str = ""  # one of those that `probe` names; "" is the one the backend is there for
    precision: str = ""  # "f32" for a network that bears nothing less; "" leaves it to the backend
    cache_dir: Path | None = None  # where a backend may keep what it compiled; may be lost at any time
    spins: bool = False  # threads may spin inside a run: for graphs of many nodes that each take microseconds


class Session(ABC):
    """A loaded graph. One caller at a time."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def prepares_lengths(self) -> bool:
        """Whether a length that it has not met takes longer than one that it has."""
        return True

    @abstractmethod
    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Execute once; keys of the result are the names in `outputs`."""

    def lend(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """As `run`, but results may be memory of the session: good to be read until its next call."""
        return self.run(feeds)

    def bind(self, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """A call that executes once on memory of the caller: inputs are read from `arrays`, outputs written to them.

        They have to be contiguous and keep place, shape and type; what they contain may change between calls. Where the
        graph is made for it, an output may be the memory of an input: a cache that grows in place.
        """
        feeds = {name: arrays[name] for name in self.inputs}

        def run() -> None:
            for name, values in self.run(feeds).items():
                np.copyto(arrays[name], values)

        return run

    def type_of(self, name: str) -> np.dtype[Any]:
        """Of the elements that `bind` takes for a float input or output."""
        return np.dtype(np.float32)

    @abstractmethod
    def close(self) -> None:
        """Give memory back; idempotent."""

    def device_memory(self) -> int | None:
        """Bytes that this graph holds on a device of its own; None where it lives in the memory of the process."""
        return None


class Backend(ABC):
    """A hardware runtime. Constructing is free, probing cheap, loading explicit."""

    name: str
    formats: tuple[str, ...]
    precisions: tuple[str, ...] = ("int8", "float")  # `Artifact.precision` that it computes correctly, fastest first

    @abstractmethod
    def probe(self) -> Probe: ...

    def release(self) -> str:
        """Changes when what `probe` or a measurement found may not hold any more: version of the library, and whether
        the device is there at all. "" where it cannot be used, which makes `probe` cheap. Loads nothing heavy.
        """
        return self.probe().version

    @abstractmethod
    def load(self, artifact: Artifact, options: SessionOptions) -> Session:
        """Verify the digest, build a session. Raises Corrupt, Unavailable."""

    def take_module(self, module: Any) -> Any:
        """A torch module moved to the device, in the precision of this backend: for an engine that keeps state there.

        Only for those that have "torch" among their `formats`. Raises Unavailable.
        """
        raise NotImplementedError(self.name)
