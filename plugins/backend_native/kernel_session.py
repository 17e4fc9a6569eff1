"""What all sessions of the kernel have in common."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.contracts import Session
from appliance.errors import Unavailable

from .library import KernelError, Network


class KernelSession(Session):
    """One caller after the other, and none after the end."""

    def __init__(self, network: Network, backend: str) -> None:
        self._network = network
        self._backend = backend
        self._lock = threading.Lock()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The network for this caller alone. Raises Unavailable: "session_closed" after `close`, "backend_unavailable"
        for what the kernel refuses.
        """
        with self._lock:
            if not self._network.is_open:
                raise Unavailable("session_closed", backend=self._backend)
            try:
                yield
            except KernelError as error:
                raise self._refused(str(error)) from error

    def _refused(self, reason: str) -> Unavailable:
        return Unavailable("backend_unavailable", backend=self._backend, reason=reason)

    def close(self) -> None:
        with self._lock:
            self._network.close()
