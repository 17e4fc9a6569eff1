"""What the environment says beside settings (of the terminal, of systemd), and what of it children are given."""

from __future__ import annotations

import os
from dataclasses import dataclass


def child_environment(threads: int) -> dict[str, str]:
    """The environment of a child process: what Python and the C libraries need, our thread limit, and no secret."""
    keep = (
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "ALSA_CONFIG_PATH",
        "XDG_RUNTIME_DIR",
    )
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    kept = {name: os.environ[name] for name in keep if name in os.environ}
    return {**kept, **limits, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}


def player_environment() -> dict[str, str]:
    """The environment of a player: whatever sound systems may want to know, and no setting, since some are secrets."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("VOICED_")}


def terminal_language() -> str:
    """What the terminal's own variables ask for ("zh_CN.UTF-8"), "" when they say nothing."""
    return next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")


def terminal_editor() -> str:
    """The command that the person edits text with."""
    return next((os.environ[name] for name in ("VISUAL", "EDITOR") if os.environ.get(name)), "vi")


@dataclass(frozen=True)
class ServiceManager:
    """What systemd asks of us, read from its environment variables."""

    notify_socket: str = ""  # empty: nobody listens
    watchdog_s: float = 0.0  # 0: no watchdog


def read_service_manager() -> ServiceManager:
    """NOTIFY_SOCKET and WATCHDOG_USEC; removed from the environment, so that no child process answers for us."""
    watchdog_us = os.environ.pop("WATCHDOG_USEC", "0")
    return ServiceManager(
        notify_socket=os.environ.pop("NOTIFY_SOCKET", ""),
        watchdog_s=int(watchdog_us) / 1e6 if watchdog_us.isdigit() else 0.0,
    )
