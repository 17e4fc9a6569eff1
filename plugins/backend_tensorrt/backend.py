"""The TensorRT backend and its sessions. Libraries are loaded by `probe` and `load` only."""

from __future__ import annotations

import ctypes
import hashlib
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from appliance_plugins.backend_tensorrt.plans import plan_folder, prepare, seal
from numpy.typing import NDArray

from appliance.artifacts import check_digest, damaged, read_artifact
from appliance.contracts import Artifact, Backend, Device, Probe, Session, SessionOptions
from appliance.errors import Unavailable

log = logging.getLogger(__name__)

PROVIDER = "TensorrtExecutionProvider"
LIBRARIES = ("libnvinfer.so.10", "libnvinfer.so.8", "libnvinfer.so")
DRIVER = "libcuda.so.1"


class TensorRtBackend(Backend):
    """Runs ONNX graphs in fp16 on an NVIDIA GPU. A graph is compiled when it is first met, which takes minutes on a
    small board; the plan is kept.
    """

    name = "tensorrt"
    formats = ("onnx",)
    precisions = ("float",)

    def probe(self) -> Probe:
        """Whether ONNX Runtime has the provider, TensorRT its library, and the machine a card."""
        if find_spec("onnxruntime") is None:
            return _unusable("ONNX Runtime is not installed; pip install onnxruntime-gpu")
        try:
            import onnxruntime
        except Exception as error:  # noqa: BLE001 - a broken installation raises what it likes, and that is the answer
            return _unusable(f"ONNX Runtime does not work: {error}")
        if PROVIDER not in onnxruntime.get_available_providers():
            return _unusable(
                "this ONNX Runtime has no TensorRT provider; install onnxruntime-gpu (on Jetson NVIDIA's own wheel)"
            )
        version = tensorrt_version()
        if not version:
            return _unusable("the library of TensorRT (libnvinfer) is not installed")
        cards = _cards()
        if not cards:
            return _unusable("no NVIDIA GPU with a working driver")
        devices = tuple(Device(f"cuda:{index}", name, memory) for index, (name, memory) in enumerate(cards))
        return Probe(usable=True, devices=devices, version=version)

    def release(self) -> str:
        return tensorrt_version() if _cards() else ""

    def load(self, artifact: Artifact, options: SessionOptions) -> TensorRtSession:
        """Check the digest, take the plan of this card from the cache or build it, and open a session.

        Raises Corrupt("artifact_corrupt") for a missing, changed or unreadable graph; Unavailable with
        "backend_unavailable" where the libraries or the card are missing, "backend_unsuitable" for another format
        or device.
        """
        if artifact.format not in self.formats:
            raise Unavailable("backend_unsuitable", backend=self.name, device=options.device, format=artifact.format)
        found = self.probe()
        if not found.usable:
            raise Unavailable("backend_unavailable", backend=self.name, reason=found.reason)
        names = [device.name for device in found.devices]
        if options.device and options.device not in names:
            raise Unavailable("backend_unsuitable", backend=self.name, device=options.device, format=artifact.format)
        index = names.index(options.device) if options.device else 0
        graph = read_artifact(artifact)
        digest = hashlib.sha256(graph).hexdigest()
        check_digest(artifact, digest)
        provider: dict[str, str] = {"device_id": str(index), "trt_fp16_enable": str(options.precision != "f32")}
        folder: Path | None = None
        if options.cache_dir is not None:
            card = found.devices[index].description
            folder = plan_folder(options.cache_dir, card, found.version, digest)
            reason = prepare(folder)
            if reason:
                log.warning("TensorRT plans of %s are built anew: %s", artifact.path.name, reason)
            provider |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}
        return TensorRtSession(_open(graph, artifact, provider), folder)


def tensorrt_version() -> str:
    """ "10.13.2", or "" where the library does not load."""
    for name in LIBRARIES:
        try:
            number = int(ctypes.CDLL(name).getInferLibVersion())
        except (OSError, AttributeError):
            continue
        # one number holds all three: 8.6.1 is 8601, 10.13.2 is 101302
        major, rest = divmod(number, 10_000) if number >= 100_000 else divmod(number, 1_000)
        return f"{major}.{rest // 100}.{rest % 100}"
    return ""


def _cards() -> list[tuple[str, int]]:
    """Name and bytes of memory of every card, asked of the driver itself."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return []
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    return [_card(driver, index) for index in range(count.value)]


def _card(driver: ctypes.CDLL, index: int) -> tuple[str, int]:
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    driver.cuDeviceGetName(name, len(name), index)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), index)
    return name.value.decode(errors="replace"), memory.value


def _unusable(reason: str) -> Probe:
    return Probe(usable=False, reason=reason)


def _open(graph: bytes, artifact: Artifact, provider: dict[str, str]) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        # What TensorRT cannot compile runs in ONNX Runtime's own kernels, on the card first.
        providers = [(PROVIDER, provider), ("CUDAExecutionProvider", {"device_id": provider["device_id"]})]
        session = onnxruntime.InferenceSession(graph, settings, providers=[*providers, "CPUExecutionProvider"])
    except Exception as error:  # the library raises a dozen unrelated classes for a graph it cannot build
        raise damaged(artifact, "a graph", str(error)) from error
    if PROVIDER not in session.get_providers():
        raise Unavailable("backend_unavailable", backend="tensorrt", reason="the provider did not start")
    return session


class TensorRtSession(Session):
    """One compiled graph. A shape that is met for the first time may compile another plan."""

    def __init__(self, session: Any, plans: Path | None) -> None:
        self._session = session
        self._plans = plans
        self._shapes: set[tuple[tuple[int, ...], ...]] = set()
        self.inputs = tuple(entry.name for entry in session.get_inputs())
        self.outputs = tuple(entry.name for entry in session.get_outputs())

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Execute once. Raises Unavailable("session_closed") after `close`."""
        if self._session is None:
            raise Unavailable("session_closed", backend="tensorrt")
        results = self._session.run(list(self.outputs), {name: feeds[name] for name in self.inputs})
        shapes = tuple(np.shape(feeds[name]) for name in self.inputs)
        if self._plans is not None and shapes not in self._shapes:  # plans are written while a new shape runs
            self._shapes.add(shapes)
            seal(self._plans)
        return {name: np.asarray(result) for name, result in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        self._session = None
