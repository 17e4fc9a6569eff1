"""A crew: the worker processes of one role and the tasks that wait for them.

A process takes one task at a time, or several where their engine makes them together (`Engine.parallel`). When it dies
or hangs, only the tasks it held are touched: those of which nothing has been delivered are tried again, each alone, so
that one which kills its process takes no other with it twice. The process is replaced and all other tasks go on.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field

from appliance.contracts import JsonDict
from appliance.errors import Cancelled, DeadlineExceeded, Unavailable, VoicedError, error_from_record
from appliance.workers.link import WorkerDied, WorkerLink, resident_bytes, start_worker
from appliance.workers.records import WorkerSpec

log = logging.getLogger(__name__)

RESTART_DELAYS_S = (0.0, 0.2, 1.0, 5.0, 15.0)  # by consecutive failures
ATTEMPTS = 2
VOICES_READY = 2  # the ones spoken last, which a new process makes ready before somebody asks
GRACE_S = 1.0  # for a task past its deadline to stop before its process is killed


@dataclass(eq=False)
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
    after: Ticket | None = None  # of the same request: it keeps the process busy enough
    is_alone: bool = False  # tried again after its process died in company
    is_late: bool = False
    ends_at: float = 0.0  # monotonic

    @property
    def engine(self) -> str:
        """Whose work it is; "" for what no engine does."""
        speak: JsonDict = self.order.get("speak", {})
        return str(speak.get("voice", {}).get("engine", ""))

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
    preparing: dict[int, str] = field(default_factory=dict)  # number of the order -> key of the voice


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
        self._voices: dict[str, JsonDict] = {}  # by key, the one spoken last at the end
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

    async def submit(self, order: JsonDict, priority: int, deadline_s: float, after: Ticket | None = None) -> Ticket:
        """Queue a task, which does not join `after` where that is worked on. Raises why no process can be had."""
        if self.failure is not None and self._idle_s is None and not any(seat.link for seat in self._seats):
            raise self.failure
        ticket = Ticket(next(self._numbers), order, priority, deadline_s, after=after)
        await self._enqueue(ticket)
        return ticket

    async def prepare(self, voice: JsonDict) -> None:
        """Have this voice made ready in all processes, now and whenever one is started."""
        self._remember(voice)
        for seat in self._seats:
            await self._make_ready(seat, voice)

    def _remember(self, voice: JsonDict) -> None:
        self._voices.pop(voice["key"], None)
        self._voices[voice["key"]] = voice
        for key in list(self._voices)[:-VOICES_READY]:
            del self._voices[key]

    def forget_voices(self) -> None:
        """Make none ready in processes to come but those that speak from now on."""
        self._voices.clear()

    async def _make_ready(self, seat: _Seat, voice: JsonDict) -> None:
        if seat.link is not None:
            number = next(self._numbers)
            seat.preparing[number] = voice["key"]
            await seat.link.order({"op": "prepare", "voice": voice, "task": number})

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
            self._arrived.notify_all()

    async def _next_ticket(self, link: WorkerLink | None = None, held: Collection[Ticket] = ()) -> Ticket:
        """The first one that waits, once the process behind `link` can take it beside those it holds."""
        async with self._arrived:
            while True:
                for entry in sorted(self._waiting):
                    ticket = entry[2]
                    if (
                        ticket.is_cancelled
                        or not held
                        or (ticket.after not in held and self._joins(ticket, link, held))
                    ):
                        self._waiting.remove(entry)
                        heapq.heapify(self._waiting)
                        if not ticket.is_cancelled:
                            return ticket
                    elif ticket.after not in held:
                        break  # nobody overtakes it
                await self._arrived.wait()

    def _joins(self, ticket: Ticket, link: WorkerLink | None, held: Collection[Ticket]) -> bool:
        """Whether `ticket` may be worked on together with `held`; a process that is free is better."""
        is_together = all(other.engine == ticket.engine and not other.is_alone for other in held)
        most = link.parallel.get(ticket.engine, 1) if link is not None else 1
        has_free = any(seat.state == "ready" for seat in self._seats)
        return is_together and not ticket.is_alone and len(held) < most and not has_free

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
                seat.preparing.clear()
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
        for voice in list(self._voices.values()):
            await self._make_ready(seat, voice)
        held: dict[int, Ticket] = {}
        ticket = first
        try:
            while True:
                if ticket is not None:
                    await self._hand_over(link, ticket, held)
                seat.state = "busy" if held else "ready"
                event, ticket = await self._next_turn(link, held)
                if event is not None and event[0].get("task") in seat.preparing:
                    self._prepared(seat, event[0])
                elif event is not None:
                    seat.served += await self._deliver(held, *event)
                elif ticket is None and held:
                    await self._end_late(link, held)
                elif ticket is None:
                    return
        except WorkerDied:
            for key in seat.preparing.values():  # it may have been this voice that it died of
                self._voices.pop(key, None)
            for ticket in held.values():
                await self._retry_or_fail(ticket, is_alone=len(held) == 1)
            raise
        except asyncio.CancelledError:
            for ticket in held.values():
                ticket.events.put_nowait(Unavailable("box_stopping"))
            raise

    def _prepared(self, seat: _Seat, header: JsonDict) -> None:
        """A voice that cannot be made ready is not tried again; who asks for it learns why."""
        key = seat.preparing.pop(header["task"])
        if header["event"] == "error":
            log.info("%s is not made ready: %s", key, error_from_record(header["error"]))
            self._voices.pop(key, None)

    async def _hand_over(self, link: WorkerLink, ticket: Ticket, held: dict[int, Ticket]) -> None:
        held[ticket.number] = ticket
        ticket.attempts += 1
        ticket.link = link
        ticket.ends_at = time.monotonic() + ticket.deadline_s
        if "speak" in ticket.order:
            self._remember(ticket.order["speak"]["voice"])
        await link.order({**ticket.order, "task": ticket.number})

    async def _next_turn(
        self, link: WorkerLink, held: Mapping[int, Ticket]
    ) -> tuple[tuple[JsonDict, bytes] | None, Ticket | None]:
        """What the process says and the ticket that it can take, whatever comes first; neither of them when a deadline
        is over, or when it has idled long enough. Raises WorkerDied.
        """
        left = [max(0.0, ticket.ends_at - time.monotonic()) for ticket in held.values()]
        timeout_s = min(left) if left else self._idle_s
        ticket = asyncio.ensure_future(self._next_ticket(link, held.values()))
        event = asyncio.ensure_future(link.next_event())
        try:
            await asyncio.wait({ticket, event}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if event.done() and event.exception() is not None and ticket.done():
                await self._enqueue(ticket.result())
            return event.result() if event.done() else None, ticket.result() if ticket.done() else None
        finally:
            ticket.cancel()
            event.cancel()
            await asyncio.gather(ticket, event, return_exceptions=True)

    async def _deliver(self, held: dict[int, Ticket], header: JsonDict, payload: bytes) -> int:
        """Pass an event on; returns how many tickets it was the last one of. What came too late is dropped."""
        ticket = held.get(header.get("task", 0))
        if ticket is None:
            return 0
        if header["event"] == "error":
            ticket.events.put_nowait(error_from_record(header["error"]))
        else:
            ticket.events.put_nowait((header, payload))
            ticket.delivered += 1
        if header["event"] not in ("error", "done"):
            return 0
        del held[ticket.number]
        ticket.link = None
        async with self._arrived:
            self._arrived.notify_all()  # somebody may join now
        return 1

    async def _end_late(self, link: WorkerLink, held: Mapping[int, Ticket]) -> None:
        """Ask tasks past their deadline to stop; a process that does not is killed. Raises WorkerDied."""
        now = time.monotonic()
        for ticket in [ticket for ticket in held.values() if ticket.ends_at <= now]:
            if ticket.is_late:
                link.kill()
                raise WorkerDied("killed after a deadline")
            ticket.is_late = True
            ticket.ends_at = now + GRACE_S
            ticket.events.put_nowait(DeadlineExceeded("task_deadline", seconds=ticket.deadline_s))
            await link.order({"op": "cancel", "task": ticket.number})

    async def _retry_or_fail(self, ticket: Ticket, is_alone: bool) -> None:
        """Of a ticket whose process died; in company it may not have been its own doing."""
        ticket.link = None
        if ticket.is_late:
            return
        if ticket.is_cancelled:
            ticket.events.put_nowait(Cancelled("request_cancelled"))
        elif ticket.delivered == 0 and (not is_alone or ticket.attempts < ATTEMPTS):
            ticket.attempts -= 0 if is_alone else 1
            ticket.is_alone = ticket.is_alone or not is_alone
            await self._enqueue(ticket)  # its old number puts it in front of its equals
        else:
            ticket.events.put_nowait(Unavailable("worker_died"))
