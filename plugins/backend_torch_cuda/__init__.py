"""PyTorch on an NVIDIA GPU: runs the very modules that the graphs of other backends are exported from."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.hookspecs import RegisterBackend, hookimpl

if TYPE_CHECKING:
    from appliance.contracts import Backend

VOICED_API = 1


def _make_backend(name: str, precision: str) -> Backend:
    from appliance_plugins.backend_torch_cuda.backend import TorchCudaBackend

    backend: Backend = TorchCudaBackend(name, precision)
    return backend


@hookimpl
def register_backends(register: RegisterBackend) -> None:
    """Offer "cuda" (bf16 where the card has it, else fp16) and "cuda_f32" for those who list it."""
    register("cuda", partial(_make_backend, "cuda", "half"))
    register("cuda_f32", partial(_make_backend, "cuda_f32", "f32"))
