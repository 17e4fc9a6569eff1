"""Model families that speak."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.contracts.backends import Backend, Probe
from appliance.contracts.sound import JsonDict, Samples
from appliance.contracts.text import TextFrontend
from appliance.contracts.voices import (
    AdaptedVoice,
    AdaptTask,
    AudioChunk,
    Progress,
    SpeakTask,
    StarterVoice,
    VoiceAssets,
)


@dataclass(frozen=True)
class EngineHost:
    """What the process around an engine lends it."""

    backends: Mapping[str, Backend]
    frontends: Mapping[str, TextFrontend]
    cache_dir: Path  # may be lost at any time; prepared graphs live here by digest
    threads: int = 1
    prepares: bool = False  # whether a child may export networks to the cache while the engine speaks
    drop_in_dir: Path | None = None  # where more plugins come from, for such a child
    measures: bool = True  # whether backends may be tried here and now; else what was measured counts, or the first one


UNTRIED = "untried"  # state of a row of `Engine.placement`: this backend may do better, and nobody has measured it yet


class Engine(ABC):
    """A model family that speaks."""

    name: str
    sample_rate: int  # Hz
    languages: tuple[str, ...]
    parallel: int = 1  # calls of `speak` that gain from going on at the same time, each in a thread of its own

    @abstractmethod
    def probe(self) -> Probe:
        """Are the weights and libraries here? Cheap, loads nothing."""

    @abstractmethod
    def starter_voices(self) -> tuple[StarterVoice, ...]:
        """Voices that come with the engine; may be empty."""

    @abstractmethod
    def load(self, host: EngineHost) -> None:
        """Load models; costs seconds. Raises Unavailable, Corrupt."""

    @abstractmethod
    def speak(self, task: SpeakTask, cancelled: threading.Event) -> Iterator[AudioChunk]:
        """Speak one clause. Raises InvalidInput for text it cannot pronounce, Cancelled once `cancelled` is set."""

    def prepare(self, voice: VoiceAssets) -> None:
        """Make ready what speaking in this voice takes, so that its first sentence is as quick as the next; costs
        seconds. Nobody has to call it. Raises what `speak` raises for the voice.
        """
        return

    def placement(self) -> tuple[JsonDict, ...]:
        """What was considered for each network of a loaded engine: rows of network, backend, state and why."""
        return ()

    def reconsider(self) -> None:
        """Take up what has been measured since `load`. Called while nothing is spoken; may take seconds."""
        return

    def can_adapt(self) -> Probe:
        """Whether this box can clone with this engine (libraries for training present?)."""
        return Probe(usable=False, reason="this engine does not clone")

    def adapt(self, task: AdaptTask, host: EngineHost, report: Callable[[Progress], None]) -> AdaptedVoice:
        """Clone. Runs in a child process of its own, may take minutes, resumes from `task.work_dir`."""
        raise NotImplementedError

    def verifier(self, weights: Path) -> Callable[[Samples], Samples]:
        """Speech (n,) at 16 kHz -> an embedding (d,) of length 1 that tells speakers apart, by imported weights.

        Raises Corrupt, Unavailable. The embedding may raise InvalidInput("speech_too_short").
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give memory back; idempotent."""
        return
