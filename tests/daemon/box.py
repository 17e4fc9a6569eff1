"""A real daemon in a process of its own, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

DROP_INS = Path(__file__).parents[1] / "drop_ins"
START_S = 120.0


@dataclass
class RunningBox:
    """One daemon. `url` is known once it said that it is ready."""

    state_dir: Path
    settings: dict[str, str] = field(default_factory=dict)
    within: tuple[str, ...] = ()  # a command that runs the daemon elsewhere: in another network
    url: str = ""
    idle_mb: float = 0.0  # resident once it was ready

    def start(self, port: str = "0") -> RunningBox:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("VOICED_")}
        self.log = (self.state_dir.parent / f"{self.state_dir.name}.log").open("a")
        command = [*self.within, sys.executable, "-m", "appliance", "run", "--state-dir", str(self.state_dir)]
        self.process = subprocess.Popen(
            [*command, "--port", port],
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**environment, "VOICED_LOUDSPEAKER__ENABLED": "false", "VOICED_WYOMING__PORT": "0", **self.settings},
            text=True,
            start_new_session=True,
        )
        watchdog = threading.Timer(START_S, self.process.kill)
        watchdog.start()
        for line in self.process.stdout:
            if line.startswith("voiced ready on "):
                self.url = line.split()[-1].rstrip("/")
                break
        watchdog.cancel()
        assert self.url, f"the daemon ended without being ready:\n{self.output()}"
        self.idle_mb = self.resident_mb()
        return self

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM and wait; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        finally:
            self.process.kill()
            self.process.stdout.close()
            self.log.close()

    def output(self) -> str:
        self.log.flush()
        return Path(self.log.name).read_text()

    def resident_mb(self) -> float:
        pages = int((Path("/proc") / str(self.process.pid) / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def children(self) -> list[int]:
        path = Path("/proc") / str(self.process.pid) / "task" / str(self.process.pid) / "children"
        return [int(pid) for pid in path.read_text().split()]


def tone_box(folder: Path, **settings: str) -> RunningBox:
    """A box whose only speech is tones: processes and doors are real, answers are quick."""
    state_dir = folder / "state"
    state_dir.mkdir(parents=True, exist_ok=True)
    shutil.copytree(DROP_INS, state_dir / "plugins", dirs_exist_ok=True)
    fixed = {"VOICED_ENGINE__DEFAULT": "sine", "VOICED_DISCOVERY__ENABLED": "false"}
    return RunningBox(state_dir, {**fixed, **settings})


def wait_until(condition, timeout_s: float = 10.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "waited too long"
        time.sleep(0.05)
