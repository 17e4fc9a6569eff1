"""The CUDA backend and its sessions. PyTorch is imported by `probe` and `load` only."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliance.artifacts import check_digest, digest_of
from appliance.contracts import Artifact, Backend, Device, Probe, Session, SessionOptions
from appliance.errors import Unavailable

if TYPE_CHECKING:
    import torch

SEEN_BEFORE_RECORDING = 2  # a shape is recorded as a CUDA graph at its third run: most lengths of texts come once
MOST_GRAPHS = 16  # per session; each keeps its own buffers
DRIVER = "libcuda.so.1"
NO_CARD = "no NVIDIA GPU with a working driver"
BF16_SINCE = 8  # compute capability of Ampere; older cards have fp16 only


class TorchCudaBackend(Backend):
    """Runs torch modules on one NVIDIA GPU, shapes that come again as CUDA graphs."""

    formats = ("torch",)
    precisions = ("float",)

    def __init__(self, name: str = "cuda", precision: str = "half") -> None:
        self.name = name
        self.precision = precision  # "f32" | "half": bf16 where the card has it, else fp16

    def probe(self) -> Probe:
        """Which cards there are. Imports PyTorch where there is a driver for some."""
        if find_spec("torch") is None or not _has_driver():
            reason = NO_CARD if find_spec("torch") else "PyTorch is not installed; pip install 'voiced[clone]'"
            return Probe(usable=False, version=_release(), reason=reason)
        try:
            import torch
        except Exception as error:  # noqa: BLE001 - a broken installation raises what it likes, and that is the answer
            return Probe(usable=False, reason=f"PyTorch does not work: {_first_line(error)}")
        if torch.version.cuda is None:
            return Probe(usable=False, version=torch.__version__, reason="this PyTorch was built without CUDA")
        try:
            cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        except Exception as error:  # noqa: BLE001 - a driver too old for this PyTorch, say
            return Probe(usable=False, version=torch.__version__, reason=_first_line(error))
        if not cards:
            return Probe(usable=False, version=torch.__version__, reason=NO_CARD)
        devices = tuple(Device(f"cuda:{index}", card.name, card.total_memory) for index, card in enumerate(cards))
        return Probe(usable=True, devices=devices, version=f"{torch.__version__}, CUDA {torch.version.cuda}")

    def release(self) -> str:
        return _release() if _has_driver() else ""

    def load(self, artifact: Artifact, options: SessionOptions) -> TorchCudaSession:
        """Check the digest of the weights, make the module and move it to the card.

        Raises Corrupt("artifact_corrupt") for missing, changed or unreadable weights; Unavailable with
        "backend_unavailable" where PyTorch or the card cannot be used, "backend_unsuitable" for another format or
        device.
        """
        if artifact.format not in self.formats or artifact.module is None:
            raise Unavailable("backend_unsuitable", backend=self.name, device=options.device, format=artifact.format)
        found = self.probe()
        if not found.usable:
            raise Unavailable("backend_unavailable", backend=self.name, reason=found.reason)
        device = options.device or found.devices[0].name
        if device not in {one.name for one in found.devices}:
            raise Unavailable("backend_unsuitable", backend=self.name, device=device, format=artifact.format)
        if artifact.sha256:
            check_digest(artifact, digest_of(artifact))
        return TorchCudaSession(artifact.module(), device, self._type(device, options.precision), self.name)

    def take_module(self, module: Any) -> Any:
        """On the first card. Raises Unavailable("backend_unavailable")."""
        found = self.probe()
        if not found.usable:
            raise Unavailable("backend_unavailable", backend=self.name, reason=found.reason)
        device = found.devices[0].name
        return module.eval().requires_grad_(False).to(device, self._type(device, ""))

    def _type(self, device: str, precision: str) -> torch.dtype:
        import torch

        if "f32" in (precision, self.precision):
            return torch.float32
        major, _ = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if major >= BF16_SINCE else torch.float16


class TorchCudaSession(Session):
    """One module on one card. Floats go in and come out as float32 whatever it computes in."""

    def __init__(self, module: Any, device: str, dtype: torch.dtype, backend: str) -> None:
        import torch

        self._torch = torch
        self._device = torch.device(device)
        self._dtype = dtype
        self._backend = backend
        before = torch.cuda.memory_allocated(self._device)
        self._module: Any = module.eval().requires_grad_(False).to(self._device, dtype)
        self._weights = torch.cuda.memory_allocated(self._device) - before
        self.inputs = tuple(module.input_names)
        self.outputs = tuple(module.output_names)
        self.why_eager = ""  # why shapes that come again are not recorded; empty as long as they are
        self._seen: dict[Any, int] = {}
        self._graphs: dict[Any, _Recorded] = {}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Execute once; results are copies in the memory of the process. Raises Unavailable("session_closed")."""
        if self._module is None:
            raise Unavailable("session_closed", backend=self._backend)
        with self._torch.inference_mode(), self._torch.cuda.device(self._device):
            arguments = [self._upload(feeds[name]) for name in self.inputs]
            results = self._compute(arguments)
            return {name: self._download(result) for name, result in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        self._module = None
        self._graphs.clear()

    def device_memory(self) -> int | None:
        """Bytes of weights and of the buffers of recorded shapes."""
        return int(self._weights + sum(graph.bytes for graph in self._graphs.values()))

    @property
    def recorded_shapes(self) -> int:
        """How many shapes run as CUDA graphs."""
        return len(self._graphs)

    def _compute(self, arguments: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        key = tuple((argument.shape, argument.dtype) for argument in arguments)
        if key in self._graphs:
            return self._graphs[key].replay(arguments)
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] > SEEN_BEFORE_RECORDING and not self.why_eager and len(self._graphs) < MOST_GRAPHS:
            try:
                self._graphs[key] = _Recorded(self._torch, self._call, arguments)
                return self._graphs[key].replay(arguments)
            except Exception as error:  # noqa: BLE001 - what cannot be recorded (a copy to the host, say) runs as it is
                self.why_eager = _first_line(error)
                self._torch.cuda.synchronize(self._device)
        return self._call(*arguments)

    def _call(self, *arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = self._module(*arguments)
        return results if isinstance(results, tuple) else (results,)

    def _upload(self, values: NDArray[Any]) -> torch.Tensor:
        tensor = self._torch.from_numpy(np.ascontiguousarray(values))
        kind = self._dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self._device, kind)

    def _download(self, result: torch.Tensor) -> NDArray[Any]:
        result = result.float() if result.is_floating_point() else result
        values: NDArray[Any] = result.cpu().numpy()
        return values


class _Recorded:
    """One shape as a CUDA graph: launching a hundred kernels costs as much as launching one."""

    def __init__(self, torch: Any, call: Any, arguments: list[torch.Tensor]) -> None:
        before = torch.cuda.memory_reserved(arguments[0].device)
        self._arguments = [argument.clone() for argument in arguments]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries set themselves up at a first call, which must not be recorded
            call(*self._arguments)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._results = call(*self._arguments)
        self.bytes = max(0, torch.cuda.memory_reserved(arguments[0].device) - before)

    def replay(self, arguments: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Results lie in the graph's own buffers, until the next replay."""
        for mine, given in zip(self._arguments, arguments, strict=True):
            mine.copy_(given)
        self._graph.replay()
        results: tuple[torch.Tensor, ...] = self._results
        return results


def _release() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _has_driver() -> bool:
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
