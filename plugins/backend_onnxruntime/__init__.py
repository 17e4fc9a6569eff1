"""ONNX Runtime: the backend that every box has, and its CUDA provider where the build has one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.hookspecs import RegisterBackend, hookimpl

if TYPE_CHECKING:
    from appliance.contracts import Backend

VOICED_API = 1


def _make_backend(name: str, device: str) -> Backend:
    from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend

    backend: Backend = OnnxRuntimeBackend(name, device)
    return backend


@hookimpl
def register_backends(register: RegisterBackend) -> None:
    """Offer "onnxruntime" (the CPU), and "onnxruntime_cuda" for those who list it in `engine.backends`."""
    register("onnxruntime", partial(_make_backend, "onnxruntime", "cpu"))
    register("onnxruntime_cuda", partial(_make_backend, "onnxruntime_cuda", "cuda"))
