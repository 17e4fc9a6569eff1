"""The OpenVINO backend and its sessions. The library is imported by `probe` and `load` only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Artifact, Backend, Device, Probe, Session, SessionOptions
from appliance.errors import Corrupt, Unavailable

DIGEST_CHARACTERS = 12  # of a digest, in messages
ACCELERATORS = ("GPU", "NPU")


class OpenVinoBackend(Backend):
    """Runs ONNX graphs and OpenVINO IR (an .xml with its .bin beside it; the digest covers both, in this order).

    Left alone, OpenVINO computes fp32 graphs in bf16 on processors that can; so the precision is always set.
    Graphs with dynamic integer arithmetic are not for it: it computes them slower than floats, and some wrongly.
    """

    formats = ("onnx", "openvino")
    precisions = ("float",)

    def __init__(self, name: str = "openvino", precision: str = "f32") -> None:
        self.name = name
        self.precision = precision  # "f32" | "bf16", of products and sums on the CPU

    def probe(self) -> Probe:
        """Which devices there are. Imports the library; `notes` say why an accelerator is not among them."""
        if find_spec("openvino") is None:
            return Probe(usable=False, reason="the package openvino is not installed; pip install 'voiced[openvino]'")
        try:
            import openvino

            core = openvino.Core()
            devices = tuple(_describe(core, name) for name in core.available_devices)
            abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        except Exception as error:  # noqa: BLE001 - a broken installation raises what it likes, and that is the answer
            return Probe(usable=False, reason=f"the package openvino does not work: {_first_line(error)}")
        if self.precision == "bf16" and "BF16" not in abilities:
            return Probe(usable=False, reason="this processor has no instructions for bf16")
        found = {device.name.split(".")[0] for device in devices}
        notes = tuple(
            f"{kind}: no device with a driver that OpenVINO knows" for kind in ACCELERATORS if kind not in found
        )
        return Probe(usable=True, devices=devices, version=_release(), notes=notes)

    def load(self, artifact: Artifact, options: SessionOptions) -> OpenVinoSession:
        """Read the file once, check the digest of what was read, and compile those very bytes.

        Raises Corrupt("artifact_corrupt") for a missing, changed or unreadable graph; Unavailable with
        "backend_unavailable" for a library that does not import, "backend_unsuitable" for another device or format.
        """
        if artifact.format not in self.formats:
            raise Unavailable("backend_unsuitable", backend=self.name, device=options.device, format=artifact.format)
        graph = _read(artifact.path)
        weights = _read(artifact.path.with_suffix(".bin")) if artifact.format == "openvino" else b""
        digest = hashlib.sha256(graph + weights).hexdigest()
        if artifact.sha256 and digest != artifact.sha256:
            raise _corrupt(artifact, artifact.sha256[:DIGEST_CHARACTERS], digest[:DIGEST_CHARACTERS])
        try:
            import openvino
        except ImportError as error:
            raise Unavailable("backend_unavailable", backend="openvino", reason=str(error)) from error
        core = openvino.Core()
        device = _device(core, options.device)
        if device is None:
            raise Unavailable("backend_unsuitable", backend=self.name, device=options.device, format=artifact.format)
        try:
            model = core.read_model(graph, weights) if weights else core.read_model(graph)
            compiled = core.compile_model(model, device, self._settings(device, options))
        except Exception as error:
            raise _corrupt(artifact, "a graph", digest[:DIGEST_CHARACTERS]) from error
        return OpenVinoSession(compiled, self.name)

    def _settings(self, device: str, options: SessionOptions) -> dict[str, Any]:
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        settings["INFERENCE_PRECISION_HINT"] = options.precision or self.precision
        if device == "CPU":
            settings |= {"INFERENCE_NUM_THREADS": max(1, options.threads), "NUM_STREAMS": 1}
        return settings


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Corrupt("artifact_corrupt", file=path.name, expected="", actual=str(error.strerror)) from error


def _corrupt(artifact: Artifact, expected: str, actual: str) -> Corrupt:
    return Corrupt("artifact_corrupt", file=artifact.path.name, expected=expected, actual=actual)


def _device(core: Any, wanted: str) -> str | None:
    """OpenVINO's name of a device; None when it is not there."""
    name = wanted.upper()
    return name if name in core.available_devices else None


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

    def __init__(self, compiled: Any, backend: str) -> None:
        self._backend = backend
        self._request = compiled.create_infer_request()
        self.inputs = tuple(port.any_name for port in compiled.inputs)
        self.outputs = tuple(port.any_name for port in compiled.outputs)
        self._ports = compiled.outputs

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Execute once; results are copies. Raises Unavailable("session_closed") after `close`."""
        if self._request is None:
            raise Unavailable("session_closed", backend=self._backend)
        results = self._request.infer({name: feeds[name] for name in self.inputs})
        return {name: np.array(results[port]) for name, port in zip(self.outputs, self._ports, strict=True)}

    def close(self) -> None:
        self._request = None
        self._ports = ()
