"""What this machine is, for numbers that are to be compared: processor, cores, memory, load."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from appliance.contracts import JsonDict

FAST_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def describe_machine() -> JsonDict:
    """Facts that explain a measurement, the load at this moment among them."""
    info = _fields(Path("/proc/cpuinfo"))
    flags = (info.get("flags") or info.get("Features") or "").split()
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in FAST_INSTRUCTIONS if name in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round((memory_bytes("MemTotal") or 0) / 2**30, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def memory_bytes(kind: str) -> int | None:
    """A row of /proc/meminfo ("MemTotal", "MemAvailable") in bytes; None where the system does not say."""
    row = _fields(Path("/proc/meminfo")).get(kind)
    return int(row.split()[0]) * 1024 if row else None


def resident_mb() -> dict[str, float]:
    """Memory of this process in MiB: "rss" counts shared pages in full, "pss" this process's share of them.

    Linux 4.14 and later; 0 where the system does not say.
    """
    rows = _fields(Path("/proc/self/smaps_rollup"))
    return {kind.lower(): round(int(rows.get(kind, "0").split()[0]) / 1024, 1) for kind in ("Pss", "Rss")}


def _fields(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
