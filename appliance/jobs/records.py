"""What a job is, and what a clone job is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from appliance.contracts import JsonDict
from appliance.messages import text

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)
CLONE = "clone"


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


@dataclass(frozen=True)
class Job:
    """One row. `fraction` only grows, except when a broken run is taken up again from its last checkpoint."""

    tenant: str
    id: str
    kind: str
    state: str  # queued | running | done | failed | cancelled
    stage: str  # stable word; the catalogue has `stage.WORD`
    fraction: float  # 0 .. 1
    eta_s: float | None
    metrics: Mapping[str, float]  # of the last progress: loss and the like
    spec: JsonDict
    result: JsonDict | None
    error: JsonDict | None  # {"kind", "code", "measured"}
    crashes: int  # how often its child died without a word
    is_cancelling: bool
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
    """Everything that the child of a clone job needs to know; it reads no settings of its own."""

    job: str
    job_dir: str  # the child writes here and in the cache only
    cache_dir: str
    engine: str
    backends: tuple[str, ...]
    transcriber: str
    plugins: JsonDict  # PluginSettings
    drop_in_dir: str
    clone: JsonDict  # CloneSettings: threads, nice, thresholds
    clips: tuple[JsonDict, ...]  # recording, path, sha256, transcript, language, duration_s
    language: str
    steps: int
    seed: int
    max_duration_s: float

    def as_json(self) -> JsonDict:
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonDict) -> ChildSpec:
        lists = {key: tuple(record[key]) for key in ("backends", "clips")}
        return cls(**record | lists)
