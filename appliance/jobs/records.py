"""What a job is, what it is asked for, and what its child is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from appliance.contracts import JsonDict
from appliance.messages import text

QUEUED, RUNNING, PAUSED, DONE, FAILED, CANCELLED = "queued", "running", "paused", "done", "failed", "cancelled"
UNFINISHED = (QUEUED, RUNNING, PAUSED)
ENDED = (DONE, FAILED, CANCELLED)
CLONE, IMPORT, SLICE, OPTIMIZE = "clone", "import", "slice", "optimize"


@dataclass(frozen=True)
class CloneRequest:
    """Make a voice, or its next version, from recordings of one speaker."""

    voice: str
    recording_ids: tuple[str, ...]
    language: str = "auto"  # of the recordings; "auto": as each was labelled
    steps: int | None = None  # None: as the settings say
    title: str = ""  # of a new voice; empty: its id
    engine: str = ""  # empty: the box's default
    seed: int = 0
    base: tuple[str, ...] = ()  # imported s1 and s2 to start from, where the engine takes weights; empty: the newest
    rank: int = 0  # of low-rank additions that learn instead of s1 itself; 0: all of it learns


@dataclass(frozen=True)
class ImportRequest:
    """File the models that are found in `paths`."""

    paths: tuple[Path, ...]  # files and folders on this machine
    licence: str = ""  # SPDX, of all of them; empty: as far as the files are known
    upload: Path | None = None  # a folder of the state directory with received files; the job takes it over


@dataclass(frozen=True)
class SliceRequest:
    """Cut a long recording into clips."""

    path: Path  # read, never moved
    filename: str
    speaker: str = ""
    language: str = "auto"


@dataclass(frozen=True)
class OptimizeRequest:
    """Prepare weights for the backends of this box."""

    models: tuple[str, ...] = ()  # ids or names
    voice: str = ""  # those that this voice or version ("anna@3") speaks with
    backends: tuple[str, ...] = ()  # empty: those that the box may use


@dataclass(frozen=True)
class Job:
    """One row. `fraction` only grows, except when a broken run is taken up again from its last checkpoint."""

    tenant: str
    id: str
    kind: str
    state: str  # queued | running | paused | done | failed | cancelled
    stage: str  # stable word; the catalogue has `stage.WORD`
    fraction: float  # 0 .. 1
    eta_s: float | None
    metrics: Mapping[str, float]  # of the last progress: loss and the like
    spec: JsonDict
    result: JsonDict | None
    error: JsonDict | None  # {"kind", "code", "measured"}
    crashes: int  # how often its child died without a word
    died_at: float | None  # `fraction` at the last such death
    stuck: int  # how often in a row it died just there
    is_cancelling: bool
    is_pausing: bool
    created_at: str
    started_at: str | None
    finished_at: str | None
    changed_at: str

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    def as_json(self, language: str = "en") -> JsonDict:
        """For doors: without the tenant; the error and the reasons of the examination in words."""
        row = {key: value for key, value in asdict(self).items() if key != "tenant"}
        if self.error is not None:
            row["error"] = explain(self.error, language)
        if self.result and "exam" in self.result:
            reasons = [explain(reason, language) for reason in self.result["exam"]["reasons"]]
            row["result"] = self.result | {"exam": self.result["exam"] | {"reasons": reasons}}
        if self.result and "skipped" in self.result:
            row["result"] = self.result | {"skipped": [explain(one, language) for one in self.result["skipped"]]}
        return row


def explain(error: JsonDict, language: str = "en") -> JsonDict:
    """A stored error with its sentences."""
    code, measured = str(error["code"]), dict(error.get("measured") or {})
    return {
        "code": code,
        "message": text(f"{code}.message", language, **measured),
        "remedy": text(f"{code}.remedy", language, **measured),
        "measured": measured,
    }


@dataclass(frozen=True)
class ChildSpec:
    """Everything that the child of a job needs to know; it reads no settings of its own."""

    kind: str  # says what `task` is: CloneTask, ImportTask, …
    job: str
    job_dir: str  # the child writes here and in the cache only
    threads: int
    nice: int
    socket: str | None  # where a service manager starts children, None: the daemon does
    task: JsonDict
    memory_mb: int = 0  # that it may allocate; 0: no bound

    def as_json(self) -> JsonDict:
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonDict) -> ChildSpec:
        return cls(**record)


@dataclass(frozen=True)
class CloneTask:
    """What the child of a clone job is told."""

    cache_dir: str
    engine: str
    backends: tuple[str, ...]
    transcriber: str
    plugins: JsonDict  # PluginSettings
    drop_in_dir: str
    clone: JsonDict  # CloneSettings: threads, thresholds
    clips: tuple[JsonDict, ...]  # recording, path, sha256, transcript, language, duration_s
    language: str
    steps: int
    seed: int
    max_duration_s: float
    base: JsonDict = field(default_factory=dict)  # role -> {"path", "sha256"} of imported weights
    options: JsonDict = field(default_factory=dict)  # of the engine, beside steps and threads

    def as_json(self) -> JsonDict:
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonDict) -> CloneTask:
        lists = {key: tuple(record[key]) for key in ("backends", "clips")}
        return cls(**record | lists)


@dataclass(frozen=True)
class ImportTask:
    """What the child of an import job is told."""

    paths: tuple[str, ...]  # files are meant one by one; in folders, what is no model of ours is passed over

    def as_json(self) -> JsonDict:
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonDict) -> ImportTask:
        return cls(tuple(record["paths"]))


@dataclass(frozen=True)
class OptimizeTask:
    """What the child of an optimize job is told."""

    files: tuple[JsonDict, ...]  # role, name, weights, config
    backends: tuple[str, ...]
    cache_dir: str
    plugins: JsonDict  # PluginSettings
    drop_in_dir: str

    def as_json(self) -> JsonDict:
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonDict) -> OptimizeTask:
        lists = {key: tuple(record[key]) for key in ("files", "backends")}
        return cls(**record | lists)


@dataclass(frozen=True)
class SliceTask:
    """What the child of a slice job is told."""

    path: str
    language: str
    cache_dir: str
    transcriber: str
    plugins: JsonDict  # PluginSettings
    drop_in_dir: str
    intake: JsonDict  # IntakeSettings

    def as_json(self) -> JsonDict:
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonDict) -> SliceTask:
        return cls(**record)
