"""Placement: which backend runs which network of an engine, why, and who takes over when it fails.

Every usable backend of the settings is tried on samples of the engine's own: it has to compute what the published graph
computes (within the engine's tolerance), and the fastest wins. The earlier one in `engine.backends` keeps its place
unless a later one is clearly faster; a single name is taken without a trial. The outcome is kept in the cache folder
for as long as machine, graphs and versions stay the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Artifact, Backend, EngineHost, JsonDict, Session, SessionOptions
from appliance.errors import Unavailable, VoicedError

log = logging.getLogger(__name__)

RULE = 1  # raise it whenever this file would choose otherwise from the same figures
FOLDER = "placement"
CLEARLY_FASTER = 0.85  # of the time of an earlier one
ROUNDS = 2  # each sample is timed so often per candidate, in turns, and the shortest time counts
BUSY = 0.75  # processes that want a core, per core
CRASHES_FORGIVEN = 1  # a process may also have been stopped during a trial

CHOSEN, SLOWER, PASSED = "chosen", "slower", "not_needed"
DIFFERS, FAILED, UNUSABLE, CRASHED, DEMOTED = "differs", "failed", "unusable", "crashed", "demoted"
READY_TO_TAKE_OVER = (CHOSEN, SLOWER, PASSED)

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Network:
    """One network of an engine, as far as placement has to know it."""

    engine: str
    name: str
    artifacts: tuple[Artifact, ...]  # the same network in several precisions, the published one first
    samples: Callable[[], Sequence[Arrays]]  # feeds of different lengths; asked for only when there is a trial
    distance: Callable[[Arrays, Arrays], float]  # of outputs from the published ones; 0 is equal
    tolerance: float
    arithmetic: str = ""  # "f32" where a backend's own choice of less would be wrong
    answers: Callable[[], Sequence[Arrays]] | None = None  # of a reference network to `samples`: every backend is tried
    edition: str = ""  # tells networks apart that have the same name: those of different weights


@dataclass(frozen=True)
class Record:
    """What became of one backend for one network."""

    network: str
    backend: str
    state: str  # one of the words above
    precision: str = ""  # of the artifact
    version: str = ""
    milliseconds: float | None = None  # for all samples together
    distance: float | None = None
    reason: str = ""


class PlacedNetwork(Session):
    """A network on its chosen backend. When that fails on what another one can compute, the other one takes over, and
    the caller notices nothing but the time it took. Callers of several threads wait for each other.
    """

    def __init__(self, network: Network, host: EngineHost, records: tuple[Record, ...]) -> None:
        self._network = network
        self._host = host
        self.records = records
        self._current = next(record for record in records if record.state == CHOSEN)
        self._session: Session | None = _open(network, host, self._current)
        self._turn = threading.Lock()
        self.inputs, self.outputs = self._session.inputs, self._session.outputs

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Execute once. Raises what the chosen backend raised when no other one can do it either."""
        with self._turn:
            if self._session is None:
                raise Unavailable("session_closed", backend=self._current.backend)
            try:
                return self._session.run(feeds)
            except Exception as error:  # a runtime raises what it likes
                results = self._take_over(feeds, error)
                if results is None:
                    raise
                return results

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
                session = _open(self._network, self._host, record)
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
    records, names = _look(network, host)
    if len(names) == 1 and network.answers is None:
        return PlacedNetwork(network, host, _pin(records, names[0]))
    folder = host.cache_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(network, host, records)
    with _alone(folder):
        stored = _read(_file(network, host), key)
        if stored is None:
            stored = _choose(network, _measure(network, host, records))
            _write(_file(network, host), key, stored)
    try:
        return PlacedNetwork(network, host, stored)
    except VoicedError:
        forget(network, host)  # what was measured is not true any more: the next start measures again
        raise


def known_placements(cache_dir: Path, engine: str) -> tuple[JsonDict, ...]:
    """Rows of the latest measured placement of each network of `engine`, for those who only look."""
    latest: dict[str, list[JsonDict]] = {}
    files = (cache_dir / FOLDER).glob(f"{engine}.*.json")
    for path in sorted(files, key=lambda path: path.stat().st_mtime):
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["records"]
            latest[rows[0]["network"]] = rows
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            continue
    return tuple(row for rows in latest.values() for row in rows)


def forget(network: Network, host: EngineHost) -> None:
    """Measure again at the next start."""
    _file(network, host).unlink(missing_ok=True)


def describe(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


# ---------------------------------------------------------------- candidates


def _look(network: Network, host: EngineHost) -> tuple[tuple[Record, ...], list[str]]:
    """One record per backend, and the names of those that can be tried. Raises Unavailable("backend_missing")."""
    records = tuple(_probe(network, name, backend) for name, backend in host.backends.items())
    names = [record.backend for record in records if record.state == PASSED]
    if not names:
        reasons = "; ".join(f"{record.backend}: {record.reason}" for record in records)
        raise Unavailable("backend_missing", reasons=reasons or "none installed")
    return records, names


def _probe(network: Network, name: str, backend: Backend) -> Record:
    try:
        probe = backend.probe()
    except Exception as error:  # noqa: BLE001 - a plugin's probe may raise anything
        return Record(network.name, name, UNUSABLE, reason=describe(error))
    if not probe.usable:
        return Record(network.name, name, UNUSABLE, version=probe.version, reason=probe.reason)
    artifact = _suited(network, backend)
    if artifact is None:
        kinds = ", ".join(f"{artifact.format} ({artifact.precision})" for artifact in network.artifacts)
        return Record(network.name, name, UNUSABLE, version=probe.version, reason=f"does not read {kinds}")
    return Record(network.name, name, PASSED, artifact.precision, probe.version)


def _suited(network: Network, backend: Backend) -> Artifact | None:
    """The artifact in the precision that the backend is best at."""
    readable = [artifact for artifact in network.artifacts if artifact.format in backend.formats]
    ranked = [artifact for kind in backend.precisions for artifact in readable if artifact.precision == kind]
    return ranked[0] if ranked else None


def _open(network: Network, host: EngineHost, record: Record) -> Session:
    artifact = _suited(network, host.backends[record.backend])
    if artifact is None:
        raise Unavailable("backend_missing", reasons=f"{record.backend}: no suitable file of {network.name}")
    return host.backends[record.backend].load(
        artifact, SessionOptions(threads=host.threads, precision=network.arithmetic, cache_dir=host.cache_dir)
    )


def _pin(records: Sequence[Record], name: str) -> tuple[Record, ...]:
    only = "the only one of engine.backends that can be used here"
    return tuple(replace(row, state=CHOSEN, reason=only) if row.backend == name else row for row in records)


# ---------------------------------------------------------------- the trial


@dataclass
class _Trial:
    """One candidate while it is measured."""

    record: Record
    session: Session
    outputs: list[Arrays]
    seconds: list[float]


def _measure(network: Network, host: EngineHost, records: Sequence[Record]) -> tuple[Record, ...]:
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
    marks = host.cache_dir / FOLDER
    stem = f".trying-{network.engine}-{network.name}-{record.backend}-"
    left = [path for path in marks.glob(f"{stem}*") if not Path(f"/proc/{path.name.removeprefix(stem)}").exists()]
    if len(left) > CRASHES_FORGIVEN:
        for path in left:
            path.unlink(missing_ok=True)  # the outcome remembers it, until a version changes
        return replace(record, state=CRASHED, reason="the process ended while it was tried")
    mark = marks / f"{stem}{os.getpid()}"
    mark.touch()
    try:
        session = _open(network, host, record)
        outputs = [session.run(feeds) for feeds in samples]
    except Exception as error:  # noqa: BLE001 - whatever it is, this backend is not for this network
        log.warning("%s does not run %s: %s", record.backend, network.name, describe(error))
        return replace(record, state=FAILED, reason=describe(error))
    finally:
        for path in (mark, *left):
            path.unlink(missing_ok=True)
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


def _choose(network: Network, records: tuple[Record, ...]) -> tuple[Record, ...]:
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


# ---------------------------------------------------------------- the cache


def _file(network: Network, host: EngineHost) -> Path:
    edition = f".{network.edition}" if network.edition else ""
    return host.cache_dir / FOLDER / f"{network.engine}.{network.name}{edition}.{host.threads}.json"


def _key(network: Network, host: EngineHost, records: Sequence[Record]) -> str:
    """Changes with all that a measurement depends on."""
    facts = {
        "rule": RULE,
        "machine": [platform.machine(), _processor(), os.cpu_count()],
        "threads": host.threads,
        "graphs": [artifact.sha256 for artifact in network.artifacts],
        "backends": [asdict(record) for record in records],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def processor_key() -> str:
    """Short; changes with the kind of processor."""
    return hashlib.sha256(json.dumps([platform.machine(), _processor()]).encode()).hexdigest()[:16]


def _processor() -> list[str]:
    """Model and instructions of the processor, as the kernel names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [platform.processor()]
    return sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})


def _read(path: Path, key: str) -> tuple[Record, ...] | None:
    """The stored records, when they were measured under the same circumstances."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] != key or _was_busy(float(stored["load"])):
            return None
        records = tuple(Record(**row) for row in stored["records"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return records if any(record.state == CHOSEN for record in records) else None


def _was_busy(load: float) -> bool:
    """Whether the machine had other work when it was measured, and has much less now: then it is measured again."""
    return load > BUSY * (os.cpu_count() or 1) and os.getloadavg()[0] < load / 2


def _write(path: Path, key: str, records: Sequence[Record]) -> None:
    rows = [asdict(record) for record in records]
    content = json.dumps({"key": key, "load": os.getloadavg()[0], "records": rows}, indent=1)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False, encoding="utf-8") as file:
        file.write(content)
    Path(file.name).replace(path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process measures, the others wait for what it found."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
