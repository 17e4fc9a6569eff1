"""The ONNX Runtime backend and its sessions. The library is imported by `probe` and `load` only."""

from __future__ import annotations

import ctypes
import hashlib
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.artifacts import check_digest, damaged, read_artifact
from appliance.contracts import Artifact, Backend, Device, Probe, Session, SessionOptions
from appliance.errors import Unavailable

CPU_PROVIDER = "CPUExecutionProvider"
DRIVER = "libcuda.so.1"
UNNAMED = "another build"
SPIN_US = "30"  # as long as the gaps inside a step; spinning on beside busy programs made a step three times as long
PROVIDERS: dict[str, tuple[str, ...]] = {"cpu": (), "cuda": ("CUDAExecutionProvider",)}


class OnnxRuntimeBackend(Backend):
    """Runs ONNX graphs on the CPU, or on an NVIDIA GPU where the build can. Sessions are independent of each other."""

    formats: tuple[str, ...] = ("onnx",)

    def __init__(self, name: str = "onnxruntime", device: str = "cpu") -> None:
        self.name = name
        self.device = device  # "cpu" | "cuda"
        if device == "cpu":
            self.formats = ("onnx", "onnx_contrib")  # the second: with operators of com.microsoft

    def probe(self) -> Probe:
        """Whether the library is here. For the CPU it is not imported, so a broken one shows at `load`."""
        if find_spec("onnxruntime") is None:
            return Probe(usable=False, reason="the package onnxruntime is not installed")
        release = _release()
        if self.device == "cuda":
            reason = _why_no_cuda()
            return Probe(not reason, (Device("cuda", "NVIDIA GPU"),) if not reason else (), release, reason)
        return Probe(usable=True, devices=(Device("cpu", platform.processor() or platform.machine()),), version=release)

    def release(self) -> str:
        has_device = self.device == "cpu" or _has_driver()
        return (_release() or UNNAMED) if has_device and find_spec("onnxruntime") else ""

    def load(self, artifact: Artifact, options: SessionOptions) -> OnnxRuntimeSession:
        """Read the file once, check the digest of what was read, and build a session from those very bytes.

        Raises Corrupt("artifact_corrupt") for a missing, changed or unreadable graph; Unavailable with
        "backend_unavailable" for a library that does not import, "backend_unsuitable" for another device or format.
        """
        device = options.device or self.device
        if device.split(":")[0] != self.device or artifact.format not in self.formats:
            raise Unavailable("backend_unsuitable", backend=self.name, device=device, format=artifact.format)
        missing = _why_no_cuda() if self.device == "cuda" else ""
        if missing:
            raise Unavailable("backend_unavailable", backend=self.name, reason=missing)
        graph = read_artifact(artifact)
        digest = hashlib.sha256(graph).hexdigest()
        check_digest(artifact, digest)
        return OnnxRuntimeSession(self._build(graph, artifact, digest, options))

    def _build(self, graph: bytes, artifact: Artifact, digest: str, options: SessionOptions) -> Any:
        """An `onnxruntime.InferenceSession` over `graph`."""
        try:
            import onnxruntime
        except ImportError as error:
            raise Unavailable("backend_unavailable", backend=self.name, reason=str(error)) from error
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = max(1, options.threads)
        settings.inter_op_num_threads = 1
        # Threads that spin while they wait take the core away from whoever they wait for, on a box with few cores.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.spins else "0")
        settings.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_US)
        settings.add_session_config_entry("session.force_spinning_stop", "1")  # at the end of a run
        settings.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(graph, settings, providers=[*PROVIDERS[self.device], CPU_PROVIDER])
        except Exception as error:  # the library raises a dozen unrelated classes for a graph it cannot build
            raise damaged(artifact, "a graph", digest) from error
        if not set(PROVIDERS[self.device]) <= set(session.get_providers()):
            raise Unavailable("backend_unavailable", backend=self.name, reason="its CUDA provider did not start")
        return session


def _release() -> str:
    try:
        return version("onnxruntime")
    except PackageNotFoundError:
        return ""  # a build of another distribution name: onnxruntime-openvino, onnxruntime-gpu, …


def _has_driver() -> bool:
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def _why_no_cuda() -> str:
    """Why graphs cannot run on an NVIDIA GPU; "" when they can."""
    try:
        import onnxruntime
    except Exception as error:  # noqa: BLE001 - a broken installation raises what it likes, and that is the answer
        return f"ONNX Runtime does not work: {error}"
    if not set(PROVIDERS["cuda"]) <= set(onnxruntime.get_available_providers()):
        return "this ONNX Runtime was built without CUDA; install onnxruntime-gpu"
    return "" if _has_driver() else "no NVIDIA GPU with a working driver"


class OnnxRuntimeSession(Session):
    """One loaded graph.

    `inputs` are those that must be fed. An initialiser that the graph also lists as an input may be fed too; the value
    counts for that one run.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(entry.name for entry in session.get_inputs())
        self.outputs = tuple(entry.name for entry in session.get_outputs())
        self._run_options = _shrinking_run_options()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Execute once. Raises Unavailable("session_closed") after `close`."""
        if self._session is None:
            raise Unavailable("session_closed", backend="onnxruntime")
        results = self._session.run(list(self.outputs), dict(feeds), self._run_options)
        return {name: np.asarray(result) for name, result in zip(self.outputs, results, strict=True)}

    def bind(self, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """As `Session.bind`, without a copy. The call raises Unavailable("session_closed") after `close`."""
        if self._session is None:
            raise Unavailable("session_closed", backend="onnxruntime")
        binding, held = self._session.io_binding(), dict(arrays)
        for names, bind in ((self.inputs, binding.bind_input), (self.outputs, binding.bind_output)):
            for name in names:
                array = held[name]
                bind(name, "cpu", 0, array.dtype.type, list(array.shape), array.ctypes.data)

        def run() -> None:
            if self._session is None or not held:  # `held` keeps the memory where it is
                raise Unavailable("session_closed", backend="onnxruntime")
            self._session.run_with_iobinding(binding)

        return run

    def close(self) -> None:
        self._session = None


def _shrinking_run_options() -> Any:
    """Give the arena's memory back after each run: texts differ in length, and an arena keeps the sum of its peaks."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
