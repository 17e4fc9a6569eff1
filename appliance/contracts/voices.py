"""What engines are given and what they give: voices, clauses to be spoken, clones to be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.contracts.sound import Audio, JsonDict


@dataclass(frozen=True)
class VoiceAssets:
    """What an engine needs to speak one voice version: nothing mutable, nothing of another voice."""

    key: str  # unique and stable per version ("sha256:…" of files and settings); engines may cache by it
    engine: str
    files: Mapping[str, Path] = field(default_factory=dict)  # role -> file in the blob store
    settings: JsonDict = field(default_factory=dict)  # engine's own, JSON


@dataclass(frozen=True)
class StarterVoice:
    """A voice that an engine brings with it, so that a fresh box can speak."""

    name: str
    title: str
    description: str
    gender: str  # "female" | "male"
    languages: tuple[str, ...]
    licence: str
    attribution: str
    files: Mapping[str, bytes] = field(default_factory=dict)  # role -> content, filed as blobs at first boot
    settings: JsonDict = field(default_factory=dict)


@dataclass(frozen=True)
class Pronunciation:
    """How a word is read where the front end's own reading is not wanted; `appliance.text.lexicon` applies it."""

    word: str  # as it is written
    reading: str  # pinyin, Jyutping, a word that sounds like it, or /symbols of an inventory/
    language: str = ""  # "zh", "en", ..; "" for a word that is the same in every language
    occurrence: int | None = None  # 0 for the first one in the text; None for all


@dataclass(frozen=True)
class SpeakTask:
    """One clause in one voice. Equal tasks give equal audio on one machine and backend."""

    text: str
    voice: VoiceAssets
    language: str = "auto"  # "zh" | "en" | "ja" | "auto" (by script, mixed allowed)
    speed: float = 1.0  # 0.5 .. 2.0, duration is divided by it
    seed: int = 0
    lexicon: tuple[Pronunciation, ...] = ()  # those that matter to `text`


@dataclass(frozen=True)
class AudioChunk:
    """A piece of an answer, in order. `timings` (ms per stage) comes with the last chunk of a clause."""

    audio: Audio
    timings: Mapping[str, float] = field(default_factory=dict)
    lufs: float | None = None  # how loud the voice speaks as a rule, where the engine knows: a chunk may be a word


@dataclass(frozen=True)
class Progress:
    """How far a long task is; crosses process borders as one JSON line."""

    stage: str  # stable word, e.g. "fit"; the catalogue has `stage.fit`
    fraction: float  # 0 .. 1 of the whole task
    eta_s: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """One labelled recording of a dataset."""

    recording_id: str
    path: Path  # derived, mono, 24 kHz or better
    transcript: str
    language: str


@dataclass(frozen=True)
class AdaptTask:
    """Make a voice from clips. The engine writes only under `work_dir` and may resume from what it finds there."""

    clips: tuple[Clip, ...]
    work_dir: Path
    seed: int = 0
    options: JsonDict = field(default_factory=dict)  # engine's own knobs, e.g. {"steps": 75}
    base: Mapping[str, Path] = field(default_factory=dict)  # role -> file of imported models to start from, if any
    samples_dir: Path | None = None  # for sounds of the voice as it learns, named STAGE-STEP.wav


@dataclass(frozen=True)
class AdaptedVoice:
    """The outcome of an adaptation: files (role -> path under work_dir), settings, and what was measured."""

    files: Mapping[str, Path]
    settings: JsonDict
    metrics: JsonDict
    base: str  # name of the starter voice it grew from, "" if none
    weights: Mapping[str, str] = field(default_factory=dict)  # what it was trained from: name -> sha256
    earlier: tuple[AdaptedVoice, ...] = ()  # other states of the same training, oldest first; an examination chooses
