"""TensorRT through ONNX Runtime's execution provider, with a cache of plans per card and version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.hookspecs import RegisterBackend, hookimpl

if TYPE_CHECKING:
    from appliance.contracts import Backend

VOICED_API = 1


def _make_backend() -> Backend:
    from appliance_plugins.backend_tensorrt.backend import TensorRtBackend

    backend: Backend = TensorRtBackend()
    return backend


@hookimpl
def register_backends(register: RegisterBackend) -> None:
    """Offer the backend under the name "tensorrt"."""
    register("tensorrt", _make_backend)
