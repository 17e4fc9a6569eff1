"""Guessing gets slower with every wrong guess. Kept in memory and bounded: a restart forgives, and takes seconds."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

FREE = 5  # wrong guesses before waiting begins: people mistype
LONGEST_S = 900.0
FORGET_S = 3600.0  # after the last wrong guess
MOST_KEYS = 10_000


class Throttle:
    """Failures per key (an address, a login)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # key -> (count, time of the last)

    def wait_s(self, key: str) -> float:
        """Seconds until the next guess is looked at; 0 when it may come."""
        count, last = self._failures.get(key, (0, 0.0))
        if count < FREE:
            return 0.0
        delay = min(LONGEST_S, 2.0 ** min(count - FREE, 10))
        return max(0.0, last + delay - self._clock())

    def failed(self, key: str) -> int:
        """One more wrong guess; returns how many there were."""
        count, last = self._failures.pop(key, (0, 0.0))
        now = self._clock()
        count = 1 if now - last > FORGET_S else count + 1
        self._failures[key] = (count, now)
        while len(self._failures) > MOST_KEYS:
            self._failures.popitem(last=False)
        return count

    def count(self, key: str) -> int:
        """How many wrong guesses are remembered."""
        return self._failures.get(key, (0, 0.0))[0]

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)
