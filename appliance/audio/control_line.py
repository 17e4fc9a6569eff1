"""How the player's process tells its parent what happened."""

from __future__ import annotations

import queue
import socket
import threading
from typing import Any

from appliance.framing import write_frame

Report = dict[str, Any]


class ControlLine:
    """The socket to the parent; reports leave through a thread so that playing never waits for the reader."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reports: queue.Queue[Report | None] = queue.Queue(maxsize=10_000)
        self._sender = threading.Thread(target=self._send, name="reports", daemon=True)
        self._sender.start()

    def report(self, event: str, **fields: Any) -> None:
        """Queue a report. A parent that stopped reading long ago has lost interest: then it is dropped."""
        try:
            self._reports.put_nowait({"event": event, **fields})
        except queue.Full:
            return

    def flush(self) -> None:
        """Send what is queued and stop sending."""
        self._reports.put(None)
        self._sender.join(timeout=1.0)

    def _send(self) -> None:
        while (report := self._reports.get()) is not None:
            try:
                write_frame(self._sock, report)
            except OSError:
                return  # the reading side sees the same end
