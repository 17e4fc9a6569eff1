"""Where training computes, and how finely."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = ("float32", "bfloat16")  # of what costs most; losses, tokens and optimisers are always float32


def find_device(wanted: str = "auto") -> torch.device:
    """The NVIDIA GPU that torch sees, else the CPU. `wanted`: "auto", "cpu" or "cuda"."""
    has_gpu = torch.cuda.is_available()
    return torch.device("cuda" if has_gpu and wanted != "cpu" else "cpu")


def find_precision(device: torch.device, wanted: str = "auto") -> str:
    """bfloat16 where the device multiplies it by itself, else float32; anything but "auto" is taken as it is."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if _cpu_has_bfloat16() else "float32"


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Inside, products are computed in `precision`; weights and sums stay float32. Raises ValueError."""
    if precision not in PRECISIONS:
        raise ValueError(f"no precision {precision}")
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _cpu_has_bfloat16() -> bool:
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(probe()) for probe in probes if probe is not None)
