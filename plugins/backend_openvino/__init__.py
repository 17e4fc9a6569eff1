"""OpenVINO on Intel and AMD processors, and on Intel's GPUs and NPUs where their drivers are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.hookspecs import RegisterBackend, hookimpl

if TYPE_CHECKING:
    from appliance.contracts import Backend

VOICED_API = 1


def _make_backend(name: str, precision: str) -> Backend:
    from appliance_plugins.backend_openvino.backend import OpenVinoBackend

    backend: Backend = OpenVinoBackend(name, precision)
    return backend


@hookimpl
def register_backends(register: RegisterBackend) -> None:
    """Offer "openvino" (computes in f32), and "openvino_bf16" for those who list it in `engine.backends`."""
    register("openvino", partial(_make_backend, "openvino", "f32"))
    register("openvino_bf16", partial(_make_backend, "openvino_bf16", "bf16"))
