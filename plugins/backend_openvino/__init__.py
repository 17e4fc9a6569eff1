"""OpenVINO on Intel and AMD processors, and on Intel's GPUs and NPUs where their drivers are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.hookspecs import RegisterBackend, hookimpl

if TYPE_CHECKING:
    from appliance.contracts import Backend

VOICED_API = 1


def _make_backend(name: str, precision: str, device: str = "cpu") -> Backend:
    from appliance_plugins.backend_openvino.backend import OpenVinoBackend

    backend: Backend = OpenVinoBackend(name, precision, device)
    return backend


@hookimpl
def register_backends(register: RegisterBackend) -> None:
    """Offer "openvino" (the CPU in f32), and for those who list them in `engine.backends` "openvino_bf16" (the CPU in
    bf16), "openvino_gpu" and "openvino_npu" (in f16).
    """
    register("openvino", partial(_make_backend, "openvino", "f32"))
    register("openvino_bf16", partial(_make_backend, "openvino_bf16", "bf16"))
    register("openvino_gpu", partial(_make_backend, "openvino_gpu", "f16", "GPU"))
    register("openvino_npu", partial(_make_backend, "openvino_npu", "f16", "NPU"))
