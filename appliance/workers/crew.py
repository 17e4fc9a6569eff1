"""A crew: the worker processes of one role and the tasks that wait for them.

Each process takes one task at a time. When it dies or hangs, only the task it held is touched (it is retried once if
nothing of it has been delivered); the process is replaced and all other tasks go on.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from appliance.contracts import JsonDict
from appliance.errors import Cancelled, DeadlineExceeded, Unavailable, VoicedError, error_from_record
from appliance.workers.link import WorkerDied, WorkerLink, resident_bytes, start_worker
from appliance.workers.records import WorkerSpec

log = logging.getLogger(__name__)

RESTART_DELAYS_S = (0.0, 0.2, 1.0, 5.0, 15.0)  # by consecutive failures
ATTEMPTS = 2


@dataclass
class Ticket:
    """One task of one request, from the moment it waits until its last event."""

    number: int
    order: JsonDict
    priority: int  # higher goes first
    deadline_s: float  # of the work itself, waiting excluded
    events: asyncio.Queue[tuple[JsonDict, bytes] | VoicedError] = field(default_factory=asyncio.Queue)
    attempts: int = 0
    delivered: int = 0
    is_cancelled: bool = False
    link: WorkerLink | None = None  # while it is being worked on

    async def results(self) -> AsyncIterator[tuple[JsonDict, bytes]]:
        """Chunk events in order, then the `done` event. Raises the task's error."""
        while True:
            event = await self.events.get()
            if isinstance(event, VoicedError):
                raise event
            yield event
            if event[0]["event"] == "done":
                return


@dataclass
class _Seat:
    """One place in the crew; the process that sits there changes, the seat stays."""

    number: int
    link: WorkerLink | None = None
    state: str = "waiting"  # waiting | starting | ready | busy | failed
    served: int = 0
    restarts: int = 0


class Crew:
    """Starts `seats` processes of one role and feeds them. `idle_s` None keeps them for ever, else lazily as needed."""

    def __init__(self, spec: WorkerSpec, seats: int, start_timeout_s: float, idle_s: float | None = None) -> None:
        self._spec = spec
        self._start_timeout_s = start_timeout_s
        self._idle_s = idle_s
        self._seats = [_Seat(number) for number in range(seats)]
        self._waiting: list[tuple[int, int, Ticket]] = []
        self._arrived = asyncio.Condition()
        self._numbers = itertools.count(1)
        self._keepers: list[asyncio.Task[None]] = []
        self._settled = asyncio.Event()  # the first process is ready, or has failed
        self.failure: VoicedError | None = None  # why no process can be had, while that is so

    @property
    def depth(self) -> int:
        """Tasks that wait for a process."""
        return len(self._waiting)

    def start(self) -> None:
        self._keepers = [
            asyncio.create_task(self._keep(seat), name=f"{self._spec.role}-{seat.number}") for seat in self._seats
        ]

    async def stop(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for _, _, ticket in self._waiting:
            ticket.events.put_nowait(Unavailable("box_stopping"))
        self._waiting.clear()

    async def settled(self) -> None:
        """Wait until the first process is ready or has said why it cannot be. Raises that reason."""
        await self._settled.wait()
        if self.failure is not None:
            raise self.failure

    async def submit(self, order: JsonDict, priority: int, deadline_s: float) -> Ticket:
        """Queue a task. Raises why no process can be had, while that is so."""
        if self.failure is not None and self._idle_s is None and not any(seat.link for seat in self._seats):
            raise self.failure
        ticket = Ticket(next(self._numbers), order, priority, deadline_s)
        await self._enqueue(ticket)
        return ticket

    async def cancel(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more."""
        if ticket.is_cancelled:
            return
        ticket.is_cancelled = True
        if ticket.link is not None:
            await ticket.link.order({"op": "cancel", "task": ticket.number})

    def state(self) -> list[JsonDict]:
        return [
            {
                "id": f"{self._spec.role}-{seat.number}",
                "state": seat.state,
                "pid": seat.link.pid if seat.link else None,
                "served": seat.served,
                "restarts": seat.restarts,
                "resident_bytes": resident_bytes(seat.link.pid) if seat.link else 0,
                "uptime_s": round(time.time() - seat.link.started_at, 1) if seat.link else 0.0,
                "placement": seat.link.placement if seat.link else [],
            }
            for seat in self._seats
        ]

    async def _enqueue(self, ticket: Ticket) -> None:
        async with self._arrived:
            heapq.heappush(self._waiting, (-ticket.priority, ticket.number, ticket))
            self._arrived.notify()

    async def _next_ticket(self) -> Ticket:
        async with self._arrived:
            while True:
                while self._waiting:
                    ticket = heapq.heappop(self._waiting)[2]
                    if not ticket.is_cancelled:
                        return ticket
                await self._arrived.wait()

    async def _keep(self, seat: _Seat) -> None:
        """Keep one seat taken, for ever."""
        failures = 0
        held: Ticket | None = None
        while True:
            if self._idle_s is not None and held is None:
                seat.state = "waiting"
                held = await self._next_ticket()
            seat.state = "starting"
            await asyncio.sleep(RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S) - 1)])
            try:
                async with start_worker(self._spec, self._start_timeout_s) as link:
                    failures, self.failure = 0, None
                    first, held = held, None
                    await self._serve(seat, link, first)
            except WorkerDied:
                failures, seat.restarts = failures + 1, seat.restarts + 1
                log.warning("a %s process died", self._spec.role)
            except VoicedError as error:
                failures, self.failure = failures + 1, error
                log.error("no %s process: %s", self._spec.role, error)
            finally:
                self._settled.set()
                seat.link = None
            if held is not None and failures:  # it was to be this process's first task
                held.events.put_nowait(self.failure or Unavailable("worker_died"))
                held = None
            if self.failure is not None:
                seat.state = "failed"
                self._refuse_all(self.failure)

    def _refuse_all(self, reason: VoicedError) -> None:
        """While no process can be had, waiting makes no sense."""
        if any(seat.link is not None for seat in self._seats):
            return
        for _, _, ticket in self._waiting:
            ticket.events.put_nowait(reason)
        self._waiting.clear()

    async def _serve(self, seat: _Seat, link: WorkerLink, first: Ticket | None) -> None:
        """Work through tickets until the process has been idle long enough. Raises WorkerDied when it dies."""
        seat.link = link
        self._settled.set()
        ticket = first
        while True:
            if ticket is None:
                seat.state = "ready"
                ticket = await self._next_or_death(link)
                if ticket is None:
                    return
            seat.state = "busy"
            await self._work(link, ticket)
            seat.served += 1
            ticket = None

    async def _next_or_death(self, link: WorkerLink) -> Ticket | None:
        """The next ticket; None after idling. A process that dies while it idles is noticed here."""
        ticket = asyncio.ensure_future(self._next_ticket())
        event = asyncio.ensure_future(link.next_event())
        try:
            await asyncio.wait({ticket, event}, timeout=self._idle_s, return_when=asyncio.FIRST_COMPLETED)
            if event.done() and ticket.done():
                await self._enqueue(ticket.result())
            if event.done():
                event.result()  # raises WorkerDied; a late event of a cancelled task is dropped
                return await self._next_or_death(link)
            return ticket.result() if ticket.done() else None
        finally:
            ticket.cancel()
            event.cancel()
            await asyncio.gather(ticket, event, return_exceptions=True)

    async def _work(self, link: WorkerLink, ticket: Ticket) -> None:
        """One ticket on one process. Raises WorkerDied after the ticket has been put back or failed."""
        ticket.attempts += 1
        ticket.link = link
        ends_at = time.monotonic() + ticket.deadline_s
        await link.order({**ticket.order, "task": ticket.number})
        try:
            while True:
                header, payload = await link.next_event(max(0.0, ends_at - time.monotonic()))
                if header.get("task") != ticket.number:
                    continue
                if header["event"] == "error":
                    ticket.events.put_nowait(error_from_record(header["error"]))
                    return
                ticket.events.put_nowait((header, payload))
                ticket.delivered += 1
                if header["event"] == "done":
                    return
        except TimeoutError as error:
            link.kill()
            ticket.events.put_nowait(DeadlineExceeded("task_deadline", seconds=ticket.deadline_s))
            raise WorkerDied("killed after its deadline") from error
        except WorkerDied:
            await self._retry_or_fail(ticket)
            raise
        except asyncio.CancelledError:
            ticket.events.put_nowait(Unavailable("box_stopping"))
            raise
        finally:
            ticket.link = None

    async def _retry_or_fail(self, ticket: Ticket) -> None:
        if ticket.is_cancelled:
            ticket.events.put_nowait(Cancelled("request_cancelled"))
        elif ticket.delivered == 0 and ticket.attempts < ATTEMPTS:
            await self._enqueue(ticket)  # its old number puts it in front of its equals
        else:
            ticket.events.put_nowait(Unavailable("worker_died"))
