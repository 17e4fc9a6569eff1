"""Recordings as they are judged and written down: recognisers, verdicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from appliance.contracts.backends import Probe
from appliance.contracts.sound import Audio, JsonDict


@dataclass(frozen=True)
class Transcript:
    text: str
    language: str
    confidence: float  # mean token probability, 0 .. 1


class Transcriber(ABC):
    """A speech recogniser."""

    name: str
    languages: tuple[str, ...]

    @abstractmethod
    def probe(self) -> Probe: ...

    @abstractmethod
    def load(self, threads: int, cache_dir: Path) -> None:
        """Load the model; costs seconds. Prepared files may go under `cache_dir`. Raises Unavailable, Corrupt."""

    @abstractmethod
    def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Write down what is said; `language` None detects it. Any sample rate."""


@dataclass(frozen=True)
class Reason:
    """One thing wrong with a recording: a catalogue code and the figures for its sentences."""

    code: str  # e.g. "snr_too_low"
    measured: JsonDict = field(default_factory=dict)


@dataclass(frozen=True)
class QualityReport:
    """The verdict on one recording."""

    accepted: bool
    reasons: tuple[Reason, ...]  # why not
    warnings: tuple[Reason, ...]  # accepted all the same
    measures: JsonDict  # duration_s, sample_rate, channels, snr_db, clipped_share, speech_share, dnsmos, …
