"""What the daemon tells a worker process when it starts, and how tasks look on the wire (JSON, never pickle)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from appliance.contracts import JsonDict, Pronunciation, QualityReport, Reason, SpeakTask, Transcript, VoiceAssets
from appliance.settings import IntakeSettings, PluginSettings

SPEAKER = "speaker"  # holds engines
LISTENER = "listener"  # checks recordings and writes down what is said


@dataclass(frozen=True)
class WorkerSpec:
    """Everything a worker process needs to know; it reads no settings of its own."""

    role: str
    engine: str  # loaded at start by a speaker
    backends: tuple[str, ...]  # in order of preference; empty: all that can be used
    transcriber: str
    threads: int
    cache_dir: Path
    plugins: PluginSettings
    drop_in_dir: Path
    intake: IntakeSettings
    prepares: bool = False  # whether it may export networks and compare backends in a child while it speaks
    quiet_s: float = 30.0  # without a task, before backends are compared

    def as_json(self) -> JsonDict:
        return {
            "role": self.role,
            "engine": self.engine,
            "backends": list(self.backends),
            "transcriber": self.transcriber,
            "threads": self.threads,
            "cache_dir": str(self.cache_dir),
            "plugins": self.plugins.model_dump(mode="json"),
            "drop_in_dir": str(self.drop_in_dir),
            "intake": self.intake.model_dump(mode="json"),
            "prepares": self.prepares,
            "quiet_s": self.quiet_s,
        }

    @classmethod
    def from_json(cls, record: JsonDict) -> WorkerSpec:
        return cls(
            role=record["role"],
            engine=record["engine"],
            backends=tuple(record["backends"]),
            transcriber=record["transcriber"],
            threads=record["threads"],
            cache_dir=Path(record["cache_dir"]),
            plugins=PluginSettings.model_validate(record["plugins"]),
            drop_in_dir=Path(record["drop_in_dir"]),
            intake=IntakeSettings.model_validate(record["intake"]),
            prepares=bool(record["prepares"]),
            quiet_s=float(record["quiet_s"]),
        )


def voice_as_json(voice: VoiceAssets) -> JsonDict:
    files = {role: str(path) for role, path in voice.files.items()}
    return {"key": voice.key, "engine": voice.engine, "files": files, "settings": voice.settings}


def voice_from_json(record: JsonDict) -> VoiceAssets:
    files = {role: Path(path) for role, path in record["files"].items()}
    return VoiceAssets(record["key"], record["engine"], files, record["settings"])


def speak_task_as_json(task: SpeakTask) -> JsonDict:
    return {
        "text": task.text,
        "language": task.language,
        "speed": task.speed,
        "seed": task.seed,
        "voice": voice_as_json(task.voice),
        "lexicon": [asdict(entry) for entry in task.lexicon],
    }


def speak_task_from_json(record: JsonDict) -> SpeakTask:
    assets = voice_from_json(record["voice"])
    lexicon = tuple(Pronunciation(**entry) for entry in record["lexicon"])
    return SpeakTask(record["text"], assets, record["language"], record["speed"], record["seed"], lexicon)


def report_as_json(report: QualityReport) -> JsonDict:
    return asdict(report)


def report_from_json(record: JsonDict) -> QualityReport:
    def reasons(rows: list[dict[str, Any]]) -> tuple[Reason, ...]:
        return tuple(Reason(row["code"], row["measured"]) for row in rows)

    return QualityReport(
        record["accepted"], reasons(record["reasons"]), reasons(record["warnings"]), record["measures"]
    )


def transcript_from_json(record: JsonDict) -> Transcript:
    return Transcript(record["text"], record["language"], record["confidence"])
