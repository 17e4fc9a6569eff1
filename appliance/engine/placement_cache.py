"""What was measured about backends, kept in the cache folder for as long as what it depends on stays the same."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from appliance.contracts import UNTRIED, EngineHost, JsonDict
from appliance.engine.placement_records import CHOSEN, SLOWER, Network, Record

RULE = 2  # raise it whenever other choices would be made from the same figures
FOLDER = "placement"
BUSY = 0.75  # processes that want a core, per core
CRASHES_FORGIVEN = 1  # a process may also have been stopped during a trial


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
    file_of(network, host).unlink(missing_ok=True)


def file_of(network: Network, host: EngineHost) -> Path:
    edition = f".{network.edition}" if network.edition else ""
    among = hashlib.sha256(" ".join(host.backends).encode()).hexdigest()[:8]  # a choice of fewer is another choice
    return host.cache_dir / FOLDER / f"{network.engine}.{network.name}{edition}.{host.threads}.{among}.json"


def key_of(network: Network, host: EngineHost) -> str:
    """Changes with all that a measurement depends on. Cheap: it asks no library."""
    facts = {
        "rule": RULE,
        "machine": [platform.machine(), _processor(), os.cpu_count()],
        "threads": host.threads,
        "graphs": [artifact.sha256 for artifact in network.artifacts],
        "backends": [[name, backend.release()] for name, backend in host.backends.items()],
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


def read_outcome(path: Path, key: str, *, whenever: bool = False) -> tuple[Record, ...] | None:
    """The stored records, when they were measured under the same circumstances.

    What a busy machine measured does not count on a quiet one, unless `whenever`: then it counts as not yet compared.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        is_doubtful = _was_busy(float(stored["load"]))
        if stored["key"] != key or (is_doubtful and not whenever):
            return None
        records = tuple(Record(**row) for row in stored["records"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if is_doubtful:
        again = "measured on a busy box; it is measured again"
        records = tuple(replace(row, state=UNTRIED, reason=again) if row.state == SLOWER else row for row in records)
    return records if any(record.state == CHOSEN for record in records) else None


def _was_busy(load: float) -> bool:
    """Whether the machine had other work when it was measured, and has much less now: then it is measured again."""
    return load > BUSY * (os.cpu_count() or 1) and os.getloadavg()[0] < load / 2


def write_outcome(path: Path, key: str, records: Sequence[Record]) -> None:
    rows = [asdict(record) for record in records]
    content = json.dumps({"key": key, "load": os.getloadavg()[0], "records": rows}, indent=1)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False, encoding="utf-8") as file:
        file.write(content)
    Path(file.name).replace(path)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process measures, the others wait for what it found."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _marks(network: Network, host: EngineHost, backend: str) -> tuple[Path, str]:
    return host.cache_dir / FOLDER, f".trying-{network.engine}-{network.name}-{backend}-"


def count_crashes(network: Network, host: EngineHost, backend: str) -> int:
    """How many processes ended while they tried it; counted once they are too many, then forgotten."""
    folder, stem = _marks(network, host, backend)
    left = [path for path in folder.glob(f"{stem}*") if not Path(f"/proc/{path.name.removeprefix(stem)}").exists()]
    if len(left) > CRASHES_FORGIVEN:
        for path in left:
            path.unlink(missing_ok=True)
    return len(left)


def any_crash(host: EngineHost, engine: str) -> bool:
    """Whether a process ended while it opened or tried a backend for a network of `engine`, and it is not known which:
    of several that were under way at once each has a mark.
    """
    marks = (host.cache_dir / FOLDER).glob(f".trying-{engine}-*")
    return any(not Path("/proc", path.name.rpartition("-")[2]).exists() for path in marks)


@contextmanager
def marked(network: Network, host: EngineHost, backend: str) -> Iterator[None]:
    """A mark lies in the cache while a backend is opened or tried, so that a crash of the process is remembered."""
    folder, stem = _marks(network, host, backend)
    if not folder.is_dir():
        yield
        return
    mark = folder / f"{stem}{os.getpid()}"
    mark.touch()
    try:
        yield
    finally:
        for path in folder.glob(f"{stem}*"):
            path.unlink(missing_ok=True)
