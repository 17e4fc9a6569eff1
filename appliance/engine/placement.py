"""Placement: which backend runs which network of an engine, why, and who takes over when it fails.

Every usable backend that the site allows is tried on samples of the engine's own: it has to compute what the published
graph computes (within the engine's tolerance), and the fastest wins. The earlier one keeps its place unless a later one
is clearly faster; a single one is taken without a trial. The outcome is kept in the cache folder for as long as
machine, graphs and versions stay the same.

A process that speaks does not try (`EngineHost.measures`): it takes what was measured, or the first backend that loads
and leaves the others "untried" until a child has measured them and it is asked to `reconsider`.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from appliance.contracts import UNTRIED, EngineHost, Session
from appliance.engine.placement_cache import (
    CRASHES_FORGIVEN,
    alone,
    count_crashes,
    file_of,
    forget,
    key_of,
    marked,
    read_outcome,
    write_outcome,
)
from appliance.engine.placement_records import (
    CHOSEN,
    DEMOTED,
    ENDED_ITS_PROCESS,
    FAILED,
    PASSED,
    READY_TO_TAKE_OVER,
    UNUSABLE,
    Arrays,
    Network,
    Record,
    chosen_of,
    concerned,
    describe,
    look,
    open_session,
    pin,
    probe_backend,
)
from appliance.engine.placement_trial import choose, measure
from appliance.errors import Corrupt, Unavailable, VoicedError

log = logging.getLogger(__name__)


class PlacedNetwork(Session):
    """A network on its chosen backend. When that fails on what another one can compute, the other one takes over, and
    the caller notices nothing but the time it took. Callers of several threads wait for each other.
    """

    def __init__(self, network: Network, host: EngineHost, records: tuple[Record, ...]) -> None:
        self._network = network
        self._host = host
        self.records = records
        self._current = chosen_of(records)
        with marked(network, host, self._current.backend):
            self._session: Session | None = open_session(network, host, self._current)
        self._turn = threading.Lock()
        self.inputs, self.outputs = self._session.inputs, self._session.outputs

    @property
    def prepares_lengths(self) -> bool:
        session = self._session
        return session is None or session.prepares_lengths

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Execute once. Raises what the chosen backend raised when no other one can do it either."""
        return dict(self._compute(feeds, is_lent=False))

    def lend(self, feeds: Arrays) -> Arrays:
        """As `Session.lend`, and raises what `run` raises. For networks with one caller."""
        return self._compute(feeds, is_lent=True)

    def _compute(self, feeds: Arrays, is_lent: bool) -> Arrays:
        with self._turn:
            if self._session is None:
                raise Unavailable("session_closed", backend=self._current.backend)
            try:
                return self._session.lend(feeds) if is_lent else self._session.run(feeds)
            except Exception as error:  # a runtime raises what it likes
                results = self._take_over(feeds, error)
                if results is None:
                    raise
                return results

    def reconsider(self) -> bool:
        """Take up what has been measured meanwhile; whether another backend computes from now on.

        One that does not load is left out of account: who computes now goes on.
        """
        stored = read_outcome(file_of(self._network, self._host), key_of(self._network, self._host))
        if stored is None:
            return False
        with self._turn:
            chosen = chosen_of(stored)
            if self._session is None or (chosen.backend, chosen.precision) == _what(self._current):
                self.records, self._current = stored, chosen
                return False
            try:
                with marked(self._network, self._host, chosen.backend):
                    session = open_session(self._network, self._host, chosen)
            except Exception as error:  # noqa: BLE001 - a runtime raises what it likes
                log.warning("%s stays where it is: %s", self._network.name, describe(error))
                return False
            self._session.close()
            self._session, self.records, self._current = session, stored, chosen
            return True

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None

    def _take_over(self, feeds: Arrays, error: Exception) -> dict[str, NDArray[Any]] | None:
        """The results of the first other candidate that can compute `feeds`, which is the chosen one from now on."""
        waiting = [row for row in self.records if row.state in READY_TO_TAKE_OVER and row != self._current]
        for record in sorted(waiting, key=lambda row: (row.milliseconds is None, row.milliseconds or 0.0)):
            session: Session | None = None
            try:
                session = open_session(self._network, self._host, record)
                results = session.run(feeds)
            except Exception as other:  # noqa: BLE001 - the next one may still do it
                log.warning("%s did not take over: %s", record.backend, describe(other))
                if session is not None:
                    session.close()
                continue
            self._swap(record, session, describe(error))
            return results
        return None

    def _swap(self, record: Record, session: Session, reason: str) -> None:
        old, self._session = self._session, session
        demoted, chosen = self._current, replace(record, state=CHOSEN)
        changed = {demoted: replace(demoted, state=DEMOTED, reason=reason), record: chosen}
        self.records = tuple(changed.get(row, row) for row in self.records)
        self._current = chosen
        log.error("%s: %s failed (%s); %s takes over", self._network.name, demoted.backend, reason, chosen.backend)
        forget(self._network, self._host)
        if old is not None:
            old.close()


def place(network: Network, host: EngineHost) -> PlacedNetwork:
    """Open `network` on the backend that suits this machine. Raises Unavailable("backend_missing") with all reasons,
    or what loading the only candidate raised.
    """
    if not host.measures:
        return _open_untried(network, host)
    records = _settle_now(network, host)
    try:
        return PlacedNetwork(network, host, records)
    except VoicedError:
        forget(network, host)  # what was measured is not true any more: the next start measures again
        raise


def _settle_now(network: Network, host: EngineHost) -> tuple[Record, ...]:
    """What was measured, or is now."""
    records, names = look(network, host)
    needs_trial = len(names) > 1 or network.answers is not None
    if len(host.backends) == 1 and not needs_trial:
        return pin(records, names[0])
    key, file = key_of(network, host), file_of(network, host)
    file.parent.mkdir(parents=True, exist_ok=True)
    with alone(file.parent):
        stored = read_outcome(file, key)
        if stored is None or {row.backend for row in stored if row.state != UNUSABLE} != set(names):
            measured = measure(network, host, records) if needs_trial else ()
            stored = choose(network, measured) if needs_trial else pin(records, names[0])
            write_outcome(file, key, stored)
    return stored


def _open_untried(network: Network, host: EngineHost) -> PlacedNetwork:
    """On the backend that was measured to be best, or on the first that loads. Raises Corrupt("artifact_corrupt") for
    a damaged file, which another backend would not read either, and what loading the last candidate raised.
    """
    file = file_of(network, host)
    file.parent.mkdir(parents=True, exist_ok=True)
    stored = read_outcome(file, key_of(network, host), whenever=True)
    records = _first_usable(network, host) if stored is None else stored
    while True:
        current = chosen_of(records)
        try:
            if count_crashes(network, host, current.backend) > CRASHES_FORGIVEN:
                raise Unavailable("backend_unavailable", backend=current.backend, reason=ENDED_ITS_PROCESS)
            return PlacedNetwork(network, host, records)
        except Corrupt:
            raise
        except Exception as error:  # a runtime raises what it likes
            log.warning("%s does not open %s: %s", current.backend, network.name, describe(error))
            forget(network, host)
            failed = replace(current, state=FAILED, reason=describe(error))
            rest = [row for row in records if row.state in READY_TO_TAKE_OVER and row != current]
            if not rest:
                raise
            rows = {current: failed, rest[0]: replace(rest[0], state=CHOSEN)}
            records = tuple(rows.get(row, row) for row in records)


def _first_usable(network: Network, host: EngineHost) -> tuple[Record, ...]:
    """The first usable one is chosen, those behind it are looked at later. Raises Unavailable("backend_missing")."""
    records: list[Record] = []
    has_one = False
    for name, backend in host.backends.items():
        if has_one and backend.release():
            records.append(Record(network.name, name, UNTRIED, reason="not measured yet"))
            continue
        row = probe_backend(network, name, backend)
        if row.state == PASSED and not has_one:
            row, has_one = replace(row, state=CHOSEN, reason="the first that can be used; not measured yet"), True
        records.append(row)
    if not has_one:
        reasons = "; ".join(f"{record.backend}: {record.reason}" for record in records)
        raise Unavailable("backend_missing", reasons=reasons or "none installed")
    if len(records) == 1:
        return pin(records, records[0].backend)
    return concerned(network, host, records)


def _what(record: Record) -> tuple[str, str]:
    return record.backend, record.precision
