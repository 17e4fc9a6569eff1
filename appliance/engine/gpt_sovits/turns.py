"""Turns on the processor: of all who speak at once one computes at a time, and who needs it most goes next.

A network uses every core, so two at a time would only make each other late. Work comes in units that nobody
interrupts: a step of decoding (for everybody at once), a prompt, a part of the sound. Before each one it is decided
anew (`choose`):

1. Who has heard nothing yet, in order of arrival, as long as that makes nobody fall silent who is listening already:
   what those have left to hear must last for this unit and for their own next parts.
2. Otherwise who listens, first the one that has to be begun with soonest.

So when more is asked for than the machine can make in time, who came last waits, and nobody stutters; after
`PATIENCE_S` it is let in all the same. How long a unit takes is learned from those before it (`Pace`). When sound runs
out is reckoned from its own length: nobody plays faster than that.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from appliance.errors import Cancelled

PATIENCE_S = 5.0  # a newcomer waits so long for the ease of those who listen already
LOOK_S = 0.02  # who waits looks again after this time, e.g. whether it was cancelled
PAUSE_S = 0.02  # between two units of one listener; nobody else is begun with meanwhile
NEWEST = 0.3  # weight of the newest measurement
CAUTION = 1.25  # units may take so much longer than they took lately before somebody falls silent for it

READ, PREFILL, STEP, SOUND = "read", "prefill", "step", "sound"
LANES = {READ: READ, PREFILL: STEP, STEP: STEP, SOUND: SOUND}  # where each has a processor of its own


@dataclass(frozen=True)
class Work:
    """A unit of work."""

    kind: str  # one of the words above
    amount: float = 1.0  # characters; rows; steps; frames
    network: int = 0  # tells networks apart that take differently long


class Pace:
    """How long work takes, as it took lately."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, int], float] = {}  # per 1 of `amount`

    def seconds(self, work: Work) -> float:
        """0 for what nobody has measured yet."""
        return work.amount * self._seconds.get((work.kind, work.network), 0.0)

    def learn(self, work: Work, seconds: float) -> None:
        key, each = (work.kind, work.network), seconds / work.amount
        before = self._seconds.get(key, each)
        self._seconds[key] = before + NEWEST * (each - before)


@dataclass(eq=False)
class Listener:
    """Whom one request is spoken for. Times in seconds of `Turns.now`."""

    arrived: float
    cancelled: threading.Event = field(default_factory=threading.Event)
    ends: float | None = None  # when all that was handed over will have been heard; None: nothing was yet
    needs: Callable[[], Sequence[Work]] = tuple  # what its next part still takes
    wanted: Work | None = None  # what it waits for a turn for
    rests: float | None = None  # since when it does neither compute nor wait; None: it does, or it is away
    units: int = 1  # made in the turn that it has


def choose(now: float, listeners: Sequence[Listener], seconds: Callable[[Work], float]) -> Listener | None:
    """Who computes next; it may be one that is between two units. None when nobody can."""
    there = [one for one in listeners if one.wanted or (one.rests is not None and now - one.rests < PAUSE_S)]
    hearing = [_Need.of(one, one.ends, seconds) for one in listeners if one.ends is not None]
    ready = [(need.begin, need.listener) for need in hearing if need.listener in there]
    new = min((one for one in there if one.ends is None), key=lambda one: one.arrived, default=None)
    if new is not None:
        unit = CAUTION * seconds(new.wanted) if new.wanted else 0.0
        if not ready or now - new.arrived >= PATIENCE_S or unit <= _spare(now, hearing):
            return new
    return min(ready, key=lambda row: row[0], default=(0.0, None))[1]


@dataclass(frozen=True)
class _Need:
    """What somebody who listens needs until the next part can be heard."""

    listener: Listener
    ends: float  # its sound
    steps: float  # seconds of decoding, which is done at once for all of the same network
    network: int
    rest: float  # seconds

    @classmethod
    def of(cls, one: Listener, ends: float, seconds: Callable[[Work], float]) -> _Need:
        works = one.needs()
        steps = [work for work in works if work.kind == STEP]
        decoding = sum(map(seconds, steps))
        return cls(one, ends, decoding, steps[0].network if steps else 0, sum(map(seconds, works)) - decoding)

    @property
    def begin(self) -> float:
        """When it has to be begun with at the latest."""
        return self.ends - self.steps - self.rest


def _spare(now: float, hearing: Sequence[_Need]) -> float:
    """Seconds in which nothing has to be done for those who listen."""
    spare, rest = math.inf, 0.0
    steps: dict[int, float] = {}  # per network
    for need in sorted(hearing, key=lambda need: need.ends):
        if need.listener.wanted is None and need.listener.rests is None and need.begin < now:
            continue  # away and late: who does not fetch its sound is not waited for
        steps[need.network] = max(steps.get(need.network, 0.0), need.steps)
        rest += need.rest
        spare = min(spare, need.ends - now - CAUTION * (sum(steps.values()) + rest))
    return spare


class Turns:
    """The turns of one engine. Every listener has one thread."""

    now = staticmethod(time.monotonic)

    def __init__(self, is_apart: bool = False) -> None:
        """`is_apart`: each kind of work has a processor of its own, or shares one well (a GPU)."""
        self.pace = Pace()
        self._is_apart = is_apart
        self._listeners: dict[Listener, None] = {}  # in order of their first work
        self._busy: dict[str, Listener] = {}
        self._changed = threading.Condition()

    @contextmanager
    def listener(self, cancelled: threading.Event) -> Iterator[Listener]:
        """A new listener, who is there until the end of the block."""
        one = Listener(self.now(), cancelled)
        try:
            yield one
        finally:
            with self._changed:
                self._listeners.pop(one, None)
                self._changed.notify_all()

    @contextmanager
    def turn(self, one: Listener, work: Work, is_done: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Wait for a turn and compute inside the block; False, at once, when `is_done` meanwhile.

        Raises Cancelled("speech_cancelled") while it waits.
        """
        lane = LANES[work.kind] if self._is_apart else ""
        if not self._take(one, work, lane, is_done):
            yield False
            return
        started, one.units = time.perf_counter(), 1
        try:
            yield True
            self.pace.learn(replace(work, amount=work.amount * one.units), time.perf_counter() - started)
        finally:
            with self._changed:
                del self._busy[lane]
                one.rests = self.now()
                self._changed.notify_all()

    def goes_on(self, one: Listener) -> bool:
        """Whether `one` may make another such unit in the turn that it has: nobody else is there to be asked."""
        if len(self._listeners) > 1 or one.cancelled.is_set():
            return False
        one.units += 1
        return True

    def hand_over(self, one: Listener, seconds: float) -> None:
        """The listener was given so much sound, and is away until `come_back`."""
        with self._changed:
            one.ends = max(self.now(), one.ends or 0.0) + seconds
            one.rests = None
            self._changed.notify_all()

    def come_back(self, one: Listener) -> None:
        with self._changed:
            one.rests = self.now()

    def _take(self, one: Listener, work: Work, lane: str, is_done: Callable[[], bool]) -> bool:
        with self._changed:
            one.wanted, one.rests = work, None
            self._listeners[one] = None
            try:
                while not is_done():
                    if one.cancelled.is_set():
                        raise Cancelled("speech_cancelled")
                    if lane not in self._busy and self._choose(lane) is one:
                        self._busy[lane] = one
                        return True
                    self._changed.wait(LOOK_S)
                one.rests = self.now()
                return False
            finally:
                one.wanted = None
                self._changed.notify_all()

    def _choose(self, lane: str) -> Listener | None:
        """Among those who wait for this lane, or for none."""
        there = [one for one in self._listeners if not lane or one.wanted is None or LANES[one.wanted.kind] == lane]
        return choose(self.now(), there, self.pace.seconds)
