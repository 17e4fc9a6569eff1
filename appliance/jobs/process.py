"""The child process of a job, seen from the daemon: start it, read its lines, end it with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from appliance.contracts import JsonDict
from appliance.jobs.records import ChildSpec
from appliance.settings import child_environment

LINE_LIMIT = 8 << 20  # bytes; an examination's report is about 20 KB
GRACE_S = 5.0  # between SIGTERM and SIGKILL
LOG_LIMIT = 4 << 20  # bytes of log.txt kept from earlier runs


class ChildProcess:
    """One running child in a process group of its own. Built by `start_child`."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader) -> None:
        self._process = process
        self._reader = reader
        self._is_stopped = False

    @property
    def pid(self) -> int:
        return self._process.pid

    async def lines(self) -> AsyncGenerator[JsonDict, None]:
        """What the child says, until it closes its end; a line that is no JSON ends it (the child is broken)."""
        while True:
            try:
                line = await self._reader.readline()
                if not line.endswith(b"\n"):
                    return
                yield dict(json.loads(line))
            except (ValueError, TypeError, ConnectionError):
                return

    async def wait(self) -> int:
        """The exit status; negative: the number of the signal that ended it."""
        return await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, a moment, SIGKILL, to the whole group. Idempotent."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), GRACE_S)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._process.wait()
        self._signal(signal.SIGKILL)  # what the child itself had started

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


@contextlib.asynccontextmanager
async def start_child(spec: ChildSpec) -> AsyncIterator[ChildProcess]:
    """Start `appliance.jobs.child` and hand it its spec; at the end of the block the process group is gone."""
    ours, theirs = socket.socketpair()
    with theirs, _open_log(Path(spec.job_dir) / "log.txt") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "appliance.jobs.child", "--fd", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=child_environment(int(spec.clone["threads"])),
            start_new_session=True,
        )
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
    child = ChildProcess(process, reader)
    try:
        writer.write(json.dumps(spec.as_json()).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        yield child
    finally:
        await asyncio.shield(child.stop())
        writer.close()


@contextlib.contextmanager
def _open_log(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.is_file() and path.stat().st_size > LOG_LIMIT:
        path.unlink()
    with path.open("ab") as log:
        yield log
