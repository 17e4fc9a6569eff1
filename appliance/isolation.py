"""What a child process gives up before it touches weights or recordings: the network, and a life without its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the daemon dies, however it dies. Linux only; elsewhere EOF ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def leave_network() -> bool:
    """Move this process into an empty network namespace; True when that worked.

    Must run before any thread starts. Root needs no user namespace; where neither is allowed (some containers, some
    sysctl settings) the unit's own `RestrictAddressFamilies` is what remains, and the caller reports False.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET
    return bool(libc.unshare(flags) == 0)


def step_back(nice: int, memory_mb: int = 0) -> None:
    """Let others go first: processor, and, when memory runs short, life. `memory_mb` bounds what may be allocated.

    0 is no bound. A process that hits it gets a MemoryError; the box does not have to choose a victim.
    """
    os.nice(nice)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("600", encoding="ascii")
    if memory_mb:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = memory_mb << 20
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
