"""The child process of a job, seen from the daemon: start it, read its lines, end it with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from appliance.contracts import JsonDict
from appliance.environment import child_environment
from appliance.jobs.records import ChildSpec

log = logging.getLogger(__name__)

LINE_LIMIT = 8 << 20  # bytes; an examination's report is about 20 KB
POLL_S = 0.05
GRACE_S = 5.0  # between SIGTERM and SIGKILL
LOG_LIMIT = 4 << 20  # bytes of log.txt kept from earlier runs


@dataclass(frozen=True)
class Ended:
    """What a child left: its last word (`done` or `failed`), or none and how it died."""

    word: JsonDict | None
    status: int
    was_stopped: bool  # by us
    was_cancelled: bool


class ChildProcess(ABC):
    """One running child. Built by `start_child`."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._pid = 0
        self.is_stopped = False  # by us

    @property
    def pid(self) -> int:
        """0 until the child has said who it is."""
        return self._pid

    async def lines(self) -> AsyncGenerator[JsonDict, None]:
        """What the child says, until it closes its end; a line that is no JSON ends it (the child is broken)."""
        while True:
            try:
                line = await self._reader.readline()
                if not line.endswith(b"\n"):
                    return
                said = dict(json.loads(line))
            except (ValueError, TypeError, ConnectionError):
                return
            if said.get("event") == "started":
                self._pid = int(said["pid"])
            else:
                yield said

    @abstractmethod
    async def wait(self) -> int:
        """The exit status; negative: the number of the signal that ended it."""

    @abstractmethod
    async def stop(self, grace_s: float = GRACE_S) -> None:
        """SIGTERM, a moment, SIGKILL, to the child and what it had started. Idempotent."""


class SpawnedChild(ChildProcess):
    """Started by this process, in a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._process = process
        self._pid = process.pid

    async def wait(self) -> int:
        return await self._process.wait()

    async def stop(self, grace_s: float = GRACE_S) -> None:
        if self.is_stopped:
            return
        self.is_stopped = True
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._process.wait()
        self._signal(signal.SIGKILL)  # what the child itself had started

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class ActivatedChild(ChildProcess):
    """Started by the service manager for our connection, in a unit and a slice of its own (`clone.socket`).

    How it ended is the service manager's knowledge; for us it is gone when its process is.
    """

    async def wait(self) -> int:
        while self._is_alive():  # noqa: ASYNC110 - nobody tells us about a process that is not our child
            await asyncio.sleep(POLL_S)
        return 0

    async def stop(self, grace_s: float = GRACE_S) -> None:
        self.is_stopped = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._is_alive():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self._pid, number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.wait(), grace_s)

    def _is_alive(self) -> bool:
        """A process that we may not signal is another one that got the number since."""
        try:
            os.kill(self._pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return self._pid > 0


@contextlib.asynccontextmanager
async def start_child(spec: ChildSpec) -> AsyncIterator[ChildProcess]:
    """Start `appliance.jobs.child` and hand it its spec; at the end of the block it is gone.

    Through the service manager where `clone.socket` names its socket and somebody listens there, else as our own child.
    """
    socket_path = spec.socket
    writer, child = (await _activate(Path(socket_path)) if socket_path else None) or await _spawn(spec)
    try:
        writer.write(json.dumps(spec.as_json()).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        yield child
    finally:
        await asyncio.shield(child.stop())
        writer.close()


_Started = tuple[asyncio.StreamWriter, ChildProcess]


async def _activate(path: Path) -> _Started | None:
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=LINE_LIMIT)
    except OSError as error:
        log.warning("nobody starts trainers at %s (%s): the daemon starts this one itself", path, error)
        return None
    return writer, ActivatedChild(reader)


async def _spawn(spec: ChildSpec) -> _Started:
    ours, theirs = socket.socketpair()
    with theirs, _open_log(Path(spec.job_dir) / "log.txt") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "appliance.jobs.child", "--fd", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=child_environment(spec.threads),
            start_new_session=True,
        )
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
    return writer, SpawnedChild(process, reader)


@contextlib.contextmanager
def _open_log(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.is_file() and path.stat().st_size > LOG_LIMIT:
        path.unlink()
    with path.open("ab") as log:
        yield log
