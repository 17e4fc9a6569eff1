"""The records and abstract classes that rooms and plugins share. Numpy and the standard library only."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]  # (n,) mono, full scale = 1.0
JsonDict = dict[str, Any]


@dataclass(frozen=True)
class Audio:
    """Mono sound in memory."""

    samples: Samples  # (n,)
    sample_rate: int  # Hz

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate


# ---------------------------------------------------------------- text


@dataclass(frozen=True)
class WordSpan:
    """One written unit (a word, or a Chinese character) and the phones it became."""

    text: str
    start: int  # first phone of this word in Utterance.phones
    end: int  # one past its last phone

    # GPT-SoVITS' word2ph is `end - start` per character.


@dataclass(frozen=True)
class Utterance:
    """Text of one language, ready for an engine."""

    language: str
    normalized: str  # numbers, dates and signs spoken out
    phones: tuple[str, ...]  # symbols of the inventory that was asked for
    words: tuple[WordSpan, ...] = ()


class TextFrontend(ABC):
    """Text of one language -> phones of a named inventory. Stateless after construction, safe across threads."""

    language: str
    inventories: tuple[str, ...]  # e.g. ("kokoro",), later ("kokoro", "gpt_sovits_v2")

    @abstractmethod
    def analyse(self, text: str, inventory: str) -> Utterance:
        """Normalise `text` and turn it into phones. Raises InvalidInput("inventory_unknown") for another inventory."""


# ---------------------------------------------------------------- backends


@dataclass(frozen=True)
class Device:
    name: str  # "cpu", "cuda:0", "GPU.0"
    description: str
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Probe:
    """Whether something can be used on this machine, and why not."""

    usable: bool
    devices: tuple[Device, ...] = ()
    version: str = ""
    reason: str = ""  # empty when usable
    notes: tuple[str, ...] = ()  # what is missing beside what works, e.g. why a GPU is not among the devices


@dataclass(frozen=True)
class Artifact:
    """One network as a backend can load it: a graph file, or the torch module that graphs are exported from."""

    path: Path  # the graph; for "torch" the weights
    format: str  # "onnx", "openvino", "torch"
    sha256: str = ""  # of the file; checked before parsing when given: runtimes do not notice flipped bytes
    precision: str = "float"  # "int8": products of dynamically scaled integers; "int8_weights": weights in 8 bits only
    module: Callable[[], Any] | None = None  # "torch" only: makes the module; its `input_names` and `output_names` are
    # those of the graph, its `forward` takes the inputs in that order, and it has no other state than its weights


@dataclass(frozen=True)
class SessionOptions:
    threads: int = 1
    device: str = ""  # one of those that `probe` names; "" is the one the backend is there for
    precision: str = ""  # "f32" for a network that bears nothing less; "" leaves it to the backend
    cache_dir: Path | None = None  # where a backend may keep what it compiled; may be lost at any time
    spins: bool = False  # threads may spin inside a run: for graphs of many nodes that each take microseconds


class Session(ABC):
    """A loaded graph. One caller at a time."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Execute once; keys of the result are the names in `outputs`."""

    def lend(self, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """As `run`, but results may be memory of the session: good to be read until its next call."""
        return self.run(feeds)

    def bind(self, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """A call that executes once on memory of the caller: inputs are read from `arrays`, outputs written to them.

        They have to be contiguous and keep place, shape and type; what they contain may change between calls. Where the
        graph is made for it, an output may be the memory of an input: a cache that grows in place.
        """
        feeds = {name: arrays[name] for name in self.inputs}

        def run() -> None:
            for name, values in self.run(feeds).items():
                np.copyto(arrays[name], values)

        return run

    def type_of(self, name: str) -> np.dtype[Any]:
        """Of the elements that `bind` takes for a float input or output."""
        return np.dtype(np.float32)

    @abstractmethod
    def close(self) -> None:
        """Give memory back; idempotent."""

    def device_memory(self) -> int | None:
        """Bytes that this graph holds on a device of its own; None where it lives in the memory of the process."""
        return None


class Backend(ABC):
    """A hardware runtime. Constructing is free, probing cheap, loading explicit."""

    name: str
    formats: tuple[str, ...]
    precisions: tuple[str, ...] = ("int8", "float")  # `Artifact.precision` that it computes correctly, fastest first

    @abstractmethod
    def probe(self) -> Probe: ...

    def release(self) -> str:
        """Changes when what `probe` or a measurement found may not hold any more: version of the library, and whether
        the device is there at all. "" where it cannot be used, which makes `probe` cheap. Loads nothing heavy.
        """
        return self.probe().version

    @abstractmethod
    def load(self, artifact: Artifact, options: SessionOptions) -> Session:
        """Verify the digest, build a session. Raises Corrupt, Unavailable."""

    def take_module(self, module: Any) -> Any:
        """A torch module moved to the device, in the precision of this backend: for an engine that keeps state there.

        Only for those that have "torch" among their `formats`. Raises Unavailable.
        """
        raise NotImplementedError(self.name)


# ---------------------------------------------------------------- engines and voices


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


# ---------------------------------------------------------------- recognition


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


# ---------------------------------------------------------------- quality


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


# ---------------------------------------------------------------- channels


@dataclass(frozen=True)
class DeliveredLine:
    """A rendered line on its way to a channel."""

    name: str  # files and prompts are called so: letters, digits, "-" and "_"
    line: str  # of the script; several names when a variable has several values
    text: str
    language: str
    voice_version: str  # "anna@3"
    rendition: str
    sha256: str  # of the file
    path: Path  # FLAC, mono
    duration_s: float
    values: Mapping[str, str] = field(default_factory=dict)  # of the variables

    def told(self) -> JsonDict:
        """What a receiver is told of it, as JSON values."""
        return {
            "name": self.name,
            "line": self.line,
            "text": self.text,
            "language": self.language,
            "voice_version": self.voice_version,
            "rendition": self.rendition,
            "duration_s": round(self.duration_s, 3),
            "values": dict(self.values),
        }


@dataclass(frozen=True)
class Delivery:
    """A publication on its way to a channel. The same publication always has the same content."""

    tenant: str
    script: str
    title: str
    number: int  # of the publication
    revision: int
    lines: tuple[DeliveredLine, ...]

    def told(self) -> JsonDict:
        """What a receiver is told of it beside its lines."""
        head = {"script": self.script, "title": self.title}
        return {**head, "publication": self.number, "revision": self.revision}


@dataclass(frozen=True)
class PeerLink:
    """Another box of this kind that was paired with this one, as a channel reaches it."""

    url: str
    send: Callable[[str, str, bytes], JsonDict]  # method, path, body -> answer; signed, in order, raises Unavailable
    uuid: str = ""
    name: str = ""


class PeerLinks(Protocol):
    """Whoever knows the paired boxes."""

    async def link(self, tenant: str, named: str, timeout_s: float) -> PeerLink | None:
        """How the tenant ("": whichever) reaches the peer with that uuid or name; None: it is paired with none."""
        ...


@dataclass(frozen=True)
class PeerGrant:
    """What a paired box may say aloud here: nothing, until somebody allows it."""

    zones: tuple[str, ...] = ()  # "*": all zones of this box
    priority: str = "normal"  # the most urgent that it may use

    def as_json(self) -> JsonDict:
        """For doors."""
        return {"zones": list(self.zones), "priority": self.priority}


@dataclass(frozen=True)
class ChannelHost:
    """What the box lends a channel."""

    exports: Path  # a folder for what has no other place
    folders: tuple[Path, ...]  # folders outside it that the site allows
    peers: Mapping[str, PeerLink] = field(default_factory=dict)  # by uuid
    url: str = ""  # of this box
    # a file, its format, what is to be said of it -> the same with signed provenance (C2PA); blocks. Raises Unavailable
    sign: Callable[[bytes, str, JsonDict], bytes] | None = None
    signs_all: bool = False  # the site wants it of every channel that does not say otherwise


class StagedDelivery(ABC):
    """A delivery that is complete at the channel and not yet seen by anybody there."""

    @abstractmethod
    def commit(self) -> None:
        """Let the channel carry it from now on. Raises Unavailable, StorageFull; doing it twice is doing it once."""

    @abstractmethod
    def revert(self) -> None:
        """Let the channel carry what it carried before, committed or not; nothing of this delivery stays visible."""


class Channel(ABC):
    """A place where publications go. Stateless; all methods block and run in a thread."""

    kind: str
    purpose = "publish"  # what speakers must have agreed to

    @abstractmethod
    def check(self, settings: JsonDict, host: ChannelHost) -> JsonDict:
        """The settings of one channel as they are kept. Raises InvalidInput("channel_settings_invalid")."""

    @abstractmethod
    def prepare(self, delivery: Delivery, settings: JsonDict, host: ChannelHost) -> StagedDelivery:
        """Bring everything to the channel without showing it. Doing it again goes on where it broke off.

        Raises Unavailable, StorageFull, Forbidden.
        """
