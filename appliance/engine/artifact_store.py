"""Exported networks in the cache: a folder per network and weights, with a manifest that says what lies in it.

A folder is named by the digest of what it was made from, written under a temporary name and renamed when it is whole.
It is only used where it was made: another version of voiced, of a backend or another processor makes it anew. What is
damaged, foreign or outdated is refused by name; the engine computes with its reference network meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.artifacts import READ_AT_ONCE
from appliance.contracts import Artifact, Backend, JsonDict
from appliance.errors import Corrupt, Unavailable

EXPORTER = 1  # raise it whenever exported graphs or manifests would differ
FOLDER = "artifacts"
MANIFEST, EXAM = "manifest.json", "exam.npz"
BLOB = re.compile(r"/sha256/([0-9a-f]{2})/([0-9a-f]{62})$")  # a file that is named by its content

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Source:
    """What a network is made from."""

    engine: str
    network: str  # e.g. "s2.voice"
    weights: str  # sha256 of the file of weights
    config: str = ""  # sha256 of the file of sizes

    @property
    def folder(self) -> str:
        key = hashlib.sha256(f"{self.weights}/{self.config}".encode()).hexdigest()
        return f"{self.engine}.{self.network}.{key[:24]}"


@dataclass(frozen=True)
class Circumstances:
    """What the outcome of an export depends on beside its source."""

    voiced: str
    processor: str  # digest of model and instructions
    backends: Mapping[str, str]  # usable ones and their versions
    library: str  # that exported, with its version

    def differs_from(self, then: Circumstances) -> str:
        """What has changed since `then` so that an export of then does not serve; "" when it does.

        It serves whoever may use some of the backends that it was made for.
        """
        changed = [name for name in ("voiced", "processor", "library") if getattr(self, name) != getattr(then, name)]
        changed += [name for name, version in self.backends.items() if then.backends.get(name) != version]
        return changed[0] if changed else ""


@dataclass(frozen=True)
class Port:
    """An input or output: sizes are numbers, or names where they may differ from call to call."""

    name: str
    shape: tuple[int | str, ...]
    kind: str = "float32"


@dataclass(frozen=True)
class Examination:
    """How far one backend is from the reference network, with one artifact."""

    backend: str
    version: str
    distance: float | None
    tolerance: float
    passed: bool
    milliseconds: float | None = None  # for all samples together
    reason: str = ""


@dataclass(frozen=True)
class Exported:
    """One graph file."""

    file: str
    format: str
    precision: str
    sha256: str  # of the file; of an OpenVINO graph the .xml and the .bin one after the other
    bytes: int
    exams: tuple[Examination, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether it may be used: some backend passed with it, or none on this machine can read it to tell."""
        return not self.exams or any(exam.passed for exam in self.exams)


@dataclass(frozen=True)
class Manifest:
    """What lies in a folder."""

    source: Source
    circumstances: Circumstances
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    artifacts: tuple[Exported, ...]
    exam_sha256: str
    exporter: int = EXPORTER

    def as_json(self) -> JsonDict:
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonDict) -> Manifest:
        """Raises KeyError, TypeError, ValueError for anything that `as_json` did not write."""
        plain = dict(record)
        plain["source"] = Source(**record["source"])
        plain["circumstances"] = Circumstances(**record["circumstances"])
        for side in ("inputs", "outputs"):
            plain[side] = tuple(Port(port["name"], tuple(port["shape"]), port["kind"]) for port in record[side])
        plain["artifacts"] = tuple(
            Exported(**{**row, "exams": tuple(Examination(**exam) for exam in row["exams"])})
            for row in record["artifacts"]
        )
        return cls(**plain)


@dataclass(frozen=True)
class Prepared:
    """A folder that may be used."""

    folder: Path
    manifest: Manifest

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Those that passed the exam."""
        return tuple(
            Artifact(self.folder / row.file, row.format, row.sha256, row.precision)
            for row in self.manifest.artifacts
            if row.passed
        )

    def exam(self) -> tuple[list[Arrays], list[Arrays]]:
        """Feeds, and what the reference network made of them. Raises Corrupt("artifact_corrupt")."""
        path = self.folder / EXAM
        try:
            found = sha256_of(path)
            if found != self.manifest.exam_sha256:
                raise Corrupt("artifact_corrupt", file=EXAM, expected=self.manifest.exam_sha256[:12], actual=found[:12])
            with np.load(path, allow_pickle=False) as file:
                return read_samples(file, "feed"), read_samples(file, "output")
        except (OSError, ValueError, KeyError) as error:
            raise Corrupt("artifact_corrupt", file=EXAM, expected="samples", actual=str(error)[:60]) from error


def read_samples(file: Mapping[str, NDArray[Any]], kind: str) -> list[Arrays]:
    """Arrays named "kind.number.name" -> by number, then name."""
    samples: dict[int, dict[str, NDArray[Any]]] = {}
    for key in file:
        what, number, name = key.split(".", 2)
        if what == kind:
            samples.setdefault(int(number), {})[name] = file[key]
    return [samples[number] for number in sorted(samples)]


def write_samples(path: Path, feeds: Sequence[Arrays], outputs: Sequence[Arrays]) -> str:
    """Returns the digest of the file."""
    arrays: dict[str, Any] = {}
    for kind, samples in (("feed", feeds), ("output", outputs)):
        for number, sample in enumerate(samples):
            arrays |= {f"{kind}.{number}.{name}": np.asarray(values) for name, values in sample.items()}
    np.savez(path, **arrays)
    return sha256_of(path)


class ArtifactStore:
    """The cache's folder of exported networks."""

    def __init__(self, cache_dir: Path) -> None:
        self.root = cache_dir / FOLDER

    def find(self, source: Source, now: Circumstances) -> Prepared | None:
        """What was exported from `source` under the same circumstances; None when nothing was.

        Raises Corrupt (artifact_corrupt, artifact_foreign), Unavailable("artifact_outdated"), each naming what it is.
        """
        folder = self.root / source.folder
        if not folder.is_dir():
            return None
        try:
            record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if record.get("exporter") != EXPORTER:
                raise Unavailable("artifact_outdated", network=source.network, what="voiced")
            manifest = Manifest.from_json(record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt("artifact_corrupt", file=MANIFEST, expected="a manifest", actual=str(error)[:60]) from error
        if manifest.source != source:
            raise Corrupt("artifact_foreign", network=source.network, found=manifest.source.network)
        changed = now.differs_from(manifest.circumstances)
        if changed:
            raise Unavailable("artifact_outdated", network=source.network, what=changed)
        for row in manifest.artifacts:
            if Path(row.file).name != row.file or not (folder / row.file).is_file():
                raise Corrupt("artifact_corrupt", file=row.file, expected=row.sha256[:12], actual="–")
        return Prepared(folder, manifest)

    def put(self, draft: Path, manifest: Manifest) -> Prepared:
        """Move a folder of finished files to its place; what was there before goes."""
        (draft / MANIFEST).write_text(json.dumps(manifest.as_json(), indent=1), encoding="utf-8")
        place = self.root / manifest.source.folder
        shutil.rmtree(place, ignore_errors=True)
        draft.chmod(0o700)
        draft.replace(place)
        return Prepared(place, manifest)

    def remove(self, source: Source) -> None:
        """Forget what was exported from `source`; idempotent."""
        shutil.rmtree(self.root / source.folder, ignore_errors=True)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder to write into; gone afterwards unless `put` moved it."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def alone(self, source: Source) -> Iterator[None]:
        """One process exports a network, others wait for it."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.root / f".{source.folder}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def sha256_of(*paths: Path) -> str:
    """Of the contents of `paths`, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(READ_AT_ONCE):
                digest.update(chunk)
    return digest.hexdigest()


def digest_of_source(path: Path | None) -> str:
    """The digest of a file: its name in the blob store, else of its content; "" for no file."""
    if path is None:
        return ""
    named = BLOB.search(path.as_posix())
    return named[1] + named[2] if named else sha256_of(path)


def usable_backends(backends: Mapping[str, Backend]) -> dict[str, str]:
    """Name -> version of those whose probe says yes."""
    probes = {name: backend.probe() for name, backend in backends.items()}
    return {name: probe.version for name, probe in probes.items() if probe.usable}
