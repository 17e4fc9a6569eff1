"""A daemon started for the length of one command, as a child process with its own log file."""

from __future__ import annotations

import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from appliance.errors import Unavailable

READY = "voiced ready on "
STOP_S = 30.0  # more than the daemon takes to drain


class DaemonChild:
    """`voiced run` as a child. Use as a context manager; leaving it stops the daemon and waits for it."""

    def __init__(self, state_dir: Path, port: int, log_file: Path) -> None:
        self._command = [sys.executable, "-m", "appliance", "run", "--state-dir", str(state_dir), "--port", str(port)]
        self._log_file = log_file
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> DaemonChild:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
            )
        threading.Thread(target=self._read, args=(self._process,), name="daemon-output", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_ready(self, timeout_s: float) -> str:
        """The URL, once `/readyz` answers 200. Raises Unavailable("daemon_did_not_start") with the end of the log."""
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if line is None:
                break
            if line.startswith(READY):
                return line.removeprefix(READY).strip()
        raise Unavailable("daemon_did_not_start", log=str(self._log_file), ending=self._log_ending())

    def wait(self) -> int:
        """Until the daemon ends by itself; its exit status."""
        assert self._process is not None  # noqa: S101 - entered
        return self._process.wait()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for one that does not drain in time."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def _log_ending(self) -> str:
        try:
            return " | ".join(self._log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
        except OSError:
            return ""


def free_port(wanted: int, host: str = "127.0.0.1") -> int:
    """`wanted` when nobody listens there, else 0 (the daemon then takes a free one)."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, wanted))
        except OSError:
            return 0
    return wanted
