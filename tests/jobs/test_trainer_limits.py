"""What a trainer gives up for the box around it; real processes."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import os, sys
from appliance.isolation import step_back
step_back(12, 600)
print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_BATCH, open("/proc/self/oom_score_adj").read().strip())
try:
    hoard = bytearray(1 << 30)
except MemoryError:
    print("refused")
print(len(bytearray(1 << 20)))
"""


def test_it_lets_others_go_first_and_cannot_take_all_memory() -> None:
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.split("\n")[:3] == [f"{min(19, os.nice(0) + 12)} True 600", "refused", str(1 << 20)]
