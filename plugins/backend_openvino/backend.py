"""The OpenVINO backend and its sessions. The library is imported by `probe` and `load` only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.artifacts import damaged, read_checked
from appliance.contracts import Artifact, Backend, Device, Probe, Session, SessionOptions
from appliance.errors import Unavailable

ACCELERATORS = ("GPU", "NPU")
NODES = {"GPU": "dri/renderD*", "NPU": "accel/accel*"}  # under /dev, where the kernel has a driver for such a thing
NO_DEVICE = "{}: no device with a driver that OpenVINO knows"
QUANTISED_TOGETHER = 128  # activations that share a scale beside 8-bit weights; the default is slower on long texts


class OpenVinoBackend(Backend):
    """Runs ONNX graphs and OpenVINO IR (an .xml with its .bin beside it; the digest covers both, in this order).

    Left alone, OpenVINO computes fp32 graphs in bf16 on processors that can; so the precision is always set.
    Graphs with dynamic integer arithmetic are not for it: it computes them slower than floats, and some wrongly.
    """

    formats = ("onnx", "openvino")
    precisions = ("int8_weights", "float")

    def __init__(self, name: str = "openvino", precision: str = "f32", device: str = "cpu") -> None:
        self.name = name
        self.precision = precision  # "f32" | "bf16" | "f16", of products and sums
        self.device = device  # "cpu" | "GPU" | "NPU"; of several GPUs the first

    def probe(self) -> Probe:
        """Which devices there are. Imports the library; `notes` say why an accelerator is not among them."""
        if find_spec("openvino") is None:
            return Probe(usable=False, reason="the package openvino is not installed; pip install 'voiced[openvino]'")
        if self.device in ACCELERATORS and not self.release():
            return Probe(usable=False, version=_release(), reason=NO_DEVICE.format(self.device))
        try:
            import openvino

            core = openvino.Core()
            devices = tuple(_describe(core, name) for name in core.available_devices)
            abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        except Exception as error:  # noqa: BLE001 - a broken installation raises what it likes, and that is the answer
            return Probe(usable=False, reason=f"the package openvino does not work: {_first_line(error)}")
        if self.device == "cpu" and self.precision == "bf16" and "BF16" not in abilities:
            return Probe(usable=False, reason="this processor has no instructions for bf16")
        found = {device.name.split(".")[0] for device in devices}
        absent = {kind: NO_DEVICE.format(kind) for kind in ACCELERATORS}
        if self.device in absent and self.device not in found:
            return Probe(usable=False, version=_release(), reason=absent[self.device])
        notes = tuple(note for kind, note in absent.items() if kind not in found)
        return Probe(usable=True, devices=devices, version=_release(), notes=notes)

    def release(self) -> str:
        nodes = NODES.get(self.device)
        return _release() if nodes is None or any(Path("/dev").glob(nodes)) else ""

    def load(self, artifact: Artifact, options: SessionOptions) -> OpenVinoSession:
        """Read the file once, check the digest of what was read, and compile those very bytes.

        Raises Corrupt("artifact_corrupt") for a missing, changed or unreadable graph; Unavailable with
        "backend_unavailable" for a library that does not import, "backend_unsuitable" for another device or format.
        """
        if artifact.format not in self.formats:
            raise Unavailable("backend_unsuitable", backend=self.name, device=options.device, format=artifact.format)
        beside = [artifact.path.with_suffix(".bin")] if artifact.format == "openvino" else []
        graph, *weights = read_checked(artifact, *beside)
        try:
            import openvino
        except ImportError as error:
            raise Unavailable("backend_unavailable", backend="openvino", reason=str(error)) from error
        core = openvino.Core()
        device = _device(core, options.device or self.device)
        if device is None:
            raise Unavailable("backend_unsuitable", backend=self.name, device=options.device, format=artifact.format)
        try:
            shared = [openvino.Tensor(each, shared_memory=True) for each in weights]
            model = core.read_model(graph.tobytes(), *shared)
            compiled = core.compile_model(model, device, self._settings(device, artifact, options))
        except Exception as error:
            raise damaged(artifact, "a graph", artifact.sha256) from error
        return OpenVinoSession(compiled, self.name, weights)

    def _settings(self, device: str, artifact: Artifact, options: SessionOptions) -> dict[str, Any]:
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        settings["INFERENCE_PRECISION_HINT"] = options.precision or self.precision
        if device == "CPU":
            settings |= {"INFERENCE_NUM_THREADS": max(1, options.threads), "NUM_STREAMS": 1}
            if artifact.precision == "int8_weights":
                settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = QUANTISED_TOGETHER
        return settings


def _device(core: Any, wanted: str) -> str | None:
    """OpenVINO's name of a device; None when it is not there. To look for others than the CPU takes a while."""
    name = wanted.upper()
    if name == "CPU":
        return name
    return next((one for one in core.available_devices if name in (one, one.split(".")[0])), None)


def _describe(core: Any, name: str) -> Device:
    full = str(core.get_property(name, "FULL_DEVICE_NAME"))
    return Device("cpu" if name == "CPU" else name, full)


def _release() -> str:
    try:
        return version("openvino")
    except PackageNotFoundError:
        return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class OpenVinoSession(Session):
    """One compiled graph. All of `inputs` must be fed: OpenVINO has no optional ones."""

    def __init__(self, compiled: Any, backend: str, weights: Sequence[NDArray[np.uint8]] = ()) -> None:
        """`weights`: the memory that the compiled graph reads from; it has to outlive every call."""
        self._backend = backend
        self._open: tuple[Sequence[NDArray[np.uint8]], Any] | None = (weights, compiled.create_infer_request())
        self.inputs = tuple(port.any_name for port in compiled.inputs)
        self.outputs = tuple(port.any_name for port in compiled.outputs)
        self._ports = compiled.outputs

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Execute once; results are copies. Raises Unavailable("session_closed") after `close`."""
        return {name: np.array(values) for name, values in self.lend(feeds).items()}

    def lend(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Execute once, without a copy. Raises Unavailable("session_closed") after `close`."""
        opened = self._open  # so that both stay to the end of this call, whoever closes meanwhile
        if opened is None:
            raise Unavailable("session_closed", backend=self._backend)
        given = {name: feeds[name] for name in self.inputs}
        results = opened[1].infer(given, share_inputs=True, share_outputs=True)
        return {name: results[port] for name, port in zip(self.outputs, self._ports, strict=True)}

    def close(self) -> None:
        self._open = None
        self._ports = ()
