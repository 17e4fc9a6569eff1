"""ONNX Runtime on the CPU: the backend that every box has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.hookspecs import RegisterBackend, hookimpl

if TYPE_CHECKING:
    from appliance.contracts import Backend

VOICED_API = 1


def _make_backend() -> Backend:
    from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend

    backend: Backend = OnnxRuntimeBackend()
    return backend


@hookimpl
def register_backends(register: RegisterBackend) -> None:
    """Offer the backend under the name "onnxruntime"."""
    register("onnxruntime", _make_backend)
