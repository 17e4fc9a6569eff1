"""The trial: every candidate computes the same samples in turns, and who is right and fastest is chosen."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from appliance.contracts import EngineHost, Session
from appliance.engine.placement_cache import CRASHES_FORGIVEN, count_crashes, marked
from appliance.engine.placement_records import (
    CHOSEN,
    CRASHED,
    DIFFERS,
    ENDED_ITS_PROCESS,
    FAILED,
    PASSED,
    SLOWER,
    Arrays,
    Network,
    Record,
    describe,
    open_session,
)
from appliance.errors import Unavailable

log = logging.getLogger(__name__)
CLEARLY_FASTER = 0.85  # of the time of an earlier one
ROUNDS = 2  # each sample is timed so often per candidate, in turns, and the shortest time counts


@dataclass
class _Trial:
    """One candidate while it is measured."""

    record: Record
    session: Session
    outputs: list[Arrays]
    seconds: list[float]


def measure(network: Network, host: EngineHost, records: Sequence[Record]) -> tuple[Record, ...]:
    """Every candidate on every sample. Those that fail, crash or compute something else are marked."""
    samples = network.samples()
    found = {record.backend: record for record in records}
    trials: list[_Trial] = []
    try:
        for record in records:
            if record.state == PASSED:
                tried = _try(network, host, record, samples)
                if isinstance(tried, _Trial):
                    trials.append(tried)
                else:
                    found[record.backend] = tried
        for trial in _in_turns(trials):
            _time(trial, samples)
        reference = _reference(network, trials)
        for trial in trials:
            found[trial.record.backend] = _judge(network, trial, reference)
    finally:
        for trial in trials:
            trial.session.close()
    return tuple(found[record.backend] for record in records)


def _try(network: Network, host: EngineHost, record: Record, samples: Sequence[Arrays]) -> _Trial | Record:
    """Load and run once. A mark lies in the cache meanwhile, so that a crash of the process is remembered."""
    if count_crashes(network, host, record.backend) > CRASHES_FORGIVEN:
        return replace(record, state=CRASHED, reason=ENDED_ITS_PROCESS)  # remembered until a version changes
    try:
        with marked(network, host, record.backend):
            session = open_session(network, host, record)
            outputs = [session.run(feeds) for feeds in samples]
    except Exception as error:  # noqa: BLE001 - whatever it is, this backend is not for this network
        log.warning("%s does not run %s: %s", record.backend, network.name, describe(error))
        return replace(record, state=FAILED, reason=describe(error))
    return _Trial(record, session, list(outputs), [float("inf")] * len(samples))


def _in_turns(trials: Sequence[_Trial]) -> Iterator[_Trial]:
    """In turns, so that a busy moment of the machine meets all of them."""
    for _ in range(ROUNDS):
        yield from trials


def _time(trial: _Trial, samples: Sequence[Arrays]) -> None:
    for index, feeds in enumerate(samples):
        started = time.perf_counter()
        trial.session.run(feeds)
        trial.seconds[index] = min(trial.seconds[index], time.perf_counter() - started)


def _reference(network: Network, trials: Sequence[_Trial]) -> tuple[str, Sequence[Arrays]]:
    """Whose outputs count, and the outputs: the reference network's; else who runs the graph as published; else the
    first one's.
    """
    if network.answers is not None:
        return "the reference network", network.answers()
    published = network.artifacts[0].precision
    first = [trial for trial in trials if trial.record.precision == published] or list(trials)
    return (first[0].record.backend, first[0].outputs) if first else ("", ())


def _judge(network: Network, trial: _Trial, reference: tuple[str, Sequence[Arrays]]) -> Record:
    measured = replace(trial.record, milliseconds=round(1000 * sum(trial.seconds), 3))
    if not all(np.isfinite(values).all() for output in trial.outputs for values in output.values()):
        return replace(measured, state=DIFFERS, reason="it computes values that are not finite")
    pairs = zip(trial.outputs, reference[1], strict=True)
    distance = max(network.distance(ours, theirs) for ours, theirs in pairs)
    measured = replace(measured, distance=round(float(distance), 5))
    if not distance <= network.tolerance:
        reason = f"it is {distance:.3g} away from {reference[0]}; {network.tolerance:g} is allowed"
        return replace(measured, state=DIFFERS, reason=reason)
    return measured


def choose(network: Network, records: tuple[Record, ...]) -> tuple[Record, ...]:
    """Mark the winner. Raises Unavailable("backend_missing")."""
    best: Record | None = None
    for row in records:
        if row.state == PASSED and row.milliseconds is not None:
            earlier = best.milliseconds if best is not None and best.milliseconds is not None else float("inf")
            best = row if row.milliseconds < CLEARLY_FASTER * earlier else best
    if best is None:
        raise Unavailable("backend_missing", reasons="; ".join(f"{row.backend}: {row.reason}" for row in records))
    return tuple(_settle(row, best) for row in records)


def _settle(row: Record, best: Record) -> Record:
    if row == best:
        return replace(row, state=CHOSEN)
    return replace(row, state=SLOWER) if row.state == PASSED else row
