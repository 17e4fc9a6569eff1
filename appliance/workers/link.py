"""The daemon's end of one worker process: start it, talk to it, notice that it died or hangs, end it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.contracts import JsonDict
from appliance.environment import child_environment
from appliance.errors import DeadlineExceeded, Unavailable, error_from_record
from appliance.framing import FrameStream, FramingError, open_frame_stream
from appliance.workers.records import WorkerSpec

log = logging.getLogger(__name__)

SILENT_TURNS = 8  # s; a worker says every second that it runs: stopped, swapped out, deadlocked ones are replaced
EXIT_S = 2.0


class WorkerDied(Exception):
    """The process ended or fell silent while it was needed."""


class WorkerLink:
    """One running worker process. Built by `start_worker`."""

    def __init__(self, process: asyncio.subprocess.Process, stream: FrameStream, events: asyncio.Queue[Event]) -> None:
        self._process = process
        self._stream = stream
        self._events = events
        self.last_heard = time.monotonic()
        self.started_at = time.time()
        self.placement: list[JsonDict] = []  # which backend runs which network, as the worker said last
        self.parallel: dict[str, int] = {}  # loaded engine -> tasks that it makes together

    @property
    def pid(self) -> int:
        return self._process.pid

    async def order(self, order: JsonDict) -> None:
        """Send an order; a worker that is gone shows at the next `next_event`."""
        with contextlib.suppress(ConnectionError):
            await self._stream.write(order)

    async def next_event(self, timeout_s: float | None = None) -> tuple[JsonDict, bytes]:
        """The next thing the worker says (heartbeats excepted). Raises WorkerDied, TimeoutError."""
        event = await asyncio.wait_for(self._events.get(), timeout_s)
        if event is None:
            self._events.put_nowait(None)  # whoever asks again learns the same
            raise WorkerDied(f"worker {self.pid} is gone")
        return event

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


Event = tuple[JsonDict, bytes] | None  # None: the process is gone


@asynccontextmanager
async def start_worker(spec: WorkerSpec, timeout_s: float) -> AsyncIterator[WorkerLink]:
    """Start a worker and wait until it is ready; ends it on leaving.

    Raises what the worker's own loading raised (Unavailable, Corrupt, …), WorkerDied, DeadlineExceeded.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "appliance.workers.process", "--fd", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env=child_environment(spec.threads),
            start_new_session=True,
        )
    stream = await open_frame_stream(ours)
    link = WorkerLink(process, stream, asyncio.Queue())
    listening = asyncio.create_task(_listen(link, stream))
    watching = asyncio.create_task(_watch(link))
    try:
        await link.order(spec.as_json())
        await _wait_ready(link, timeout_s)
        yield link
    finally:
        watching.cancel()
        await stream.close()  # the worker ends itself at EOF
        try:
            await asyncio.wait_for(process.wait(), EXIT_S)
        except TimeoutError:
            link.kill()
            await process.wait()
        listening.cancel()
        await asyncio.gather(watching, listening, return_exceptions=True)


async def _wait_ready(link: WorkerLink, timeout_s: float) -> None:
    try:
        header, _ = await link.next_event(timeout_s)
    except TimeoutError as error:
        link.kill()
        raise DeadlineExceeded("worker_start_timeout", seconds=timeout_s) from error
    if header["event"] == "failed":
        raise error_from_record(header["error"])
    if header["event"] != "ready":
        raise Unavailable("worker_died")


async def _listen(link: WorkerLink, stream: FrameStream) -> None:
    try:
        while True:
            header, payload = await stream.read()
            link.last_heard = time.monotonic()
            link.placement = header.get("placement", link.placement)
            link.parallel = header.get("parallel", link.parallel)
            if header["event"] not in ("alive", "placed"):
                link._events.put_nowait((header, payload))
    except (EOFError, FramingError, OSError):
        link._events.put_nowait(None)


async def _watch(link: WorkerLink) -> None:
    """Kill a worker that stays silent. Counted in our own turns, so that a daemon which slept blames nobody."""
    silent_turns, heard = 0, link.last_heard
    while silent_turns < SILENT_TURNS:
        await asyncio.sleep(1.0)
        silent_turns = silent_turns + 1 if link.last_heard == heard else 0
        heard = link.last_heard
    log.warning("worker %d has been silent for %d s: replacing it", link.pid, silent_turns)
    link.kill()


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - procfs
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
