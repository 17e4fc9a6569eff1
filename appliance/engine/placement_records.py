"""What placement knows: a network, the backends that may compute it, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from appliance.contracts import UNTRIED, Artifact, Backend, EngineHost, Session, SessionOptions
from appliance.errors import Unavailable

CHOSEN, SLOWER, PASSED = "chosen", "slower", "not_needed"
DIFFERS, FAILED, UNUSABLE, CRASHED, DEMOTED = "differs", "failed", "unusable", "crashed", "demoted"
READY_TO_TAKE_OVER = (CHOSEN, SLOWER, PASSED, UNTRIED)
ENDED_ITS_PROCESS = "the process ended while it was tried"
GRAPHS = frozenset({"onnx", "openvino", "torch"})  # what any network may be exported to; other formats are of one alone

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


def chosen_of(records: Sequence[Record]) -> Record:
    return next(record for record in records if record.state == CHOSEN)


def describe(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def concerned(network: Network, host: EngineHost, records: Sequence[Record]) -> tuple[Record, ...]:
    """Without those of backends that are for another network and could not compute this one, however exported."""
    known = GRAPHS | {artifact.format for artifact in network.artifacts}
    return tuple(row for row in records if known.intersection(host.backends[row.backend].formats))


def look(network: Network, host: EngineHost) -> tuple[tuple[Record, ...], list[str]]:
    """One record per backend that is concerned, and the names of those that can be tried. Raises
    Unavailable("backend_missing").
    """
    records = tuple(probe_backend(network, name, backend) for name, backend in host.backends.items())
    names = [record.backend for record in records if record.state == PASSED]
    if not names:
        reasons = "; ".join(f"{record.backend}: {record.reason}" for record in records)
        raise Unavailable("backend_missing", reasons=reasons or "none installed")
    return concerned(network, host, records), names


def probe_backend(network: Network, name: str, backend: Backend) -> Record:
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


def open_session(network: Network, host: EngineHost, record: Record) -> Session:
    artifact = _suited(network, host.backends[record.backend])
    if artifact is None:
        raise Unavailable("backend_missing", reasons=f"{record.backend}: no suitable file of {network.name}")
    return host.backends[record.backend].load(
        artifact, SessionOptions(threads=host.threads, precision=network.arithmetic, cache_dir=host.cache_dir)
    )


def pin(records: Sequence[Record], name: str) -> tuple[Record, ...]:
    only = "the only one of engine.backends that can be used here"
    return tuple(replace(row, state=CHOSEN, reason=only) if row.backend == name else row for row in records)
