"""The GPT-SoVITS engine: text -> phones -> speech tokens -> sound, in the voice of a reference clip.

Nothing here imports PyTorch before `load`, so that a box without it can say so.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

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
from appliance.engine.gpt_sovits.pairing import ENGINE, SAMPLE_RATE
from appliance.errors import InvalidInput, Unavailable
from appliance.text.cleaning import has_speech
from appliance.text.lexicon import share_readings

if TYPE_CHECKING:
    from appliance.engine.gpt_sovits.networks import Networks
    from appliance.engine.gpt_sovits.preparation import Preparation
    from appliance.engine.gpt_sovits.reading import Reader
    from appliance.engine.gpt_sovits.turns import Listener
    from appliance.engine.gpt_sovits.voice import PreparedVoice

LANGUAGES = ("zh", "en", "ja", "ko", "yue")
SPEED_RANGE = (0.5, 2.0)
LIBRARIES = ("torch", "safetensors")
PREPARED_VOICES = 64  # a few hundred kilobytes each
REHEARSED = 20  # characters of its transcript that a voice says to nobody, as far as the first part of the sound
FRAMING = 10  # characters: what reading costs whatever the length


@dataclass(frozen=True)
class _Loaded:
    """All that `load` makes; one reference, so that closing cannot leave half of it."""

    host: EngineHost
    networks: Networks
    preparation: Preparation


class GptSovitsEngine(Engine):
    """Speaks with imported official weights; a network is loaded when the first voice that needs it speaks.

    Equal tasks give equal samples, whoever else speaks at the same time: all noise comes from generators seeded by the
    task, and the networks hold nothing between calls.
    """

    name = ENGINE
    sample_rate = SAMPLE_RATE
    languages = LANGUAGES
    parallel = 8  # the tokens of all of them are decoded in one batch

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None
        self._voices: OrderedDict[str, PreparedVoice] = OrderedDict()
        self._turn = threading.Lock()

    def probe(self) -> Probe:
        """Whether PyTorch is installed; weights belong to voices, not to the engine."""
        missing = [name for name in LIBRARIES if find_spec(name) is None]
        if missing:
            return Probe(usable=False, reason=f"not installed: {', '.join(missing)}; pip install 'voiced[clone]'")
        return Probe(usable=True)

    def starter_voices(self) -> tuple[StarterVoice, ...]:
        """None: voices are made of weights that the operator imports."""
        return ()

    def load(self, host: EngineHost) -> None:
        """Import PyTorch. Idempotent. Raises Unavailable("gpt_sovits_library_missing")."""
        found = self.probe()
        if not found.usable:
            raise Unavailable("gpt_sovits_library_missing", reason=found.reason)
        import torch

        from appliance.engine.gpt_sovits.networks import Networks
        from appliance.engine.gpt_sovits.preparation import Preparation

        with self._turn:
            if self._loaded is None:
                torch.set_num_threads(host.threads)
                preparation = Preparation(host)
                self._loaded = _Loaded(host, Networks(preparation), preparation)

    def verifier(self, weights: Path) -> Callable[[Samples], Samples]:
        from appliance.engine.gpt_sovits.verification import Verifier

        return Verifier.from_file(weights).embed

    def placement(self) -> tuple[JsonDict, ...]:
        loaded = self._loaded
        return () if loaded is None else (*loaded.preparation.rows(), *loaded.networks.decoder_rows())

    def speak(self, task: SpeakTask, cancelled: threading.Event) -> Iterator[AudioChunk]:
        """Speak one clause; `timings` of the last chunk has prepare, frontend, prefill, tokens and sound in ms.

        Raises what `Engine.speak` says, and for the voice Unavailable("model_file_missing"),
        InvalidInput (reference_…, model_pair_wrong), Corrupt("voice_files_corrupt").
        """
        loaded = self._loaded
        if loaded is None:
            raise Unavailable("engine_not_loaded", engine=self.name)
        if not SPEED_RANGE[0] <= task.speed <= SPEED_RANGE[1]:
            raise InvalidInput("speed_out_of_range", speed=task.speed, lowest=SPEED_RANGE[0], highest=SPEED_RANGE[1])
        if not has_speech(task.text):
            raise InvalidInput("text_not_speakable", text=task.text[:40])
        with loaded.networks.turns.listener(cancelled) as listener:
            yield from self._speak(task, loaded, listener)

    def _speak(self, task: SpeakTask, loaded: _Loaded, listener: Listener) -> Generator[AudioChunk]:
        from appliance.engine.gpt_sovits import speaking

        clock, networks = speaking.Clock(), loaded.networks
        self._expect(task.voice, networks, task.text, task.language)
        with clock.time("prepare"):
            reader = self._reader(task.voice, loaded, listener)
            voice = self._voice(task.voice, networks, reader)
        with clock.time("frontend"):
            cut = speaking.cut_pieces(task.text, task.language, voice.settings.cut_method)
            entries = share_readings(cut, task.lexicon)
            pieces = [reader.read(piece, task.language, own) for piece, own in zip(cut, entries, strict=True)]
        turn = speaking.Turn(networks.turns, listener, clock)
        decoder = networks.decoder(task.voice)
        decoder.open()  # before it is anybody's turn
        speaker = speaking.Speaker(decoder, networks.sound(task.voice), voice, task.speed, turn)
        noise = speaking.RequestNoise(task.seed)
        for number, piece in enumerate(pieces, start=1):
            for samples, is_last in speaker.speak(piece, noise):
                timings = clock.milliseconds() if is_last and number == len(pieces) else {}
                yield AudioChunk(Audio(samples, SAMPLE_RATE), timings)

    def prepare(self, voice: VoiceAssets) -> None:
        """See `Engine.prepare`; raises for the voice what `speak` raises."""
        loaded = self._loaded
        if loaded is None:
            raise Unavailable("engine_not_loaded", engine=self.name)
        networks = loaded.networks
        self._expect(voice, networks)
        with networks.turns.listener(threading.Event()) as listener:
            settings = self._voice(voice, networks, self._reader(voice, loaded, listener)).settings
            networks.sound(voice)
            networks.decoder(voice).open()
            words = settings.transcript[:REHEARSED]
            if has_speech(words):  # backends prepare more when they compute for the first time
                with closing(self._speak(SpeakTask(words, voice, settings.language), loaded, listener)) as sound:
                    next(sound, None)

    def can_adapt(self) -> Probe:
        """Whether PyTorch is here; the weights to start from come with the task."""
        return self.probe()

    def adapt(self, task: AdaptTask, host: EngineHost, report: Callable[[Progress], None]) -> AdaptedVoice:
        """Fine-tune; see `appliance.engine.gpt_sovits.adapt`."""
        able = self.can_adapt()
        if not able.usable:
            raise Unavailable("cloning_unavailable", reason=able.reason)
        from appliance.engine.gpt_sovits.adapt import adapt

        adapted: AdaptedVoice = adapt(task, host, report)
        return adapted

    def close(self) -> None:
        with self._turn:
            loaded, self._loaded = self._loaded, None
            self._voices.clear()
        if loaded is not None:
            loaded.networks.close()
            loaded.preparation.close()

    def _expect(self, voice: VoiceAssets, networks: Networks, text: str = "", language: str = "") -> None:
        """Begin to open, side by side, what this voice will take for this text, in the order in which it is needed."""
        from appliance.engine.gpt_sovits.reading import takes_bert

        with self._turn:
            is_new = voice.key not in self._voices
        if not is_new and networks.is_open(voice):
            return
        said = str(voice.settings.get("transcript") or "")
        spoken = [(text, language), *([(said, str(voice.settings.get("language") or "auto"))] if is_new else ())]
        roles = ["bert"] if any(takes_bert(*one) for one in spoken) else []
        networks.expect(voice, *roles, *(["hubert"] if is_new and said.strip() else ()), "s2", "s1")

    def _reader(self, voice: VoiceAssets, loaded: _Loaded, listener: Listener) -> Reader:
        from appliance.engine.gpt_sovits.reading import Reader
        from appliance.engine.gpt_sovits.turns import READ, Work
        from appliance.engine.gpt_sovits.voice import inventory_of

        networks = loaded.networks
        inventory = inventory_of(networks.s2_rest(voice))

        def turn(characters: int) -> AbstractContextManager[object]:
            return networks.turns.turn(listener, Work(READ, characters + FRAMING))

        return Reader(loaded.host.frontends, inventory, partial(networks.bert, voice), turn)

    def _voice(self, assets: VoiceAssets, networks: Networks, reader: Reader) -> PreparedVoice:
        """The voice behind `assets.key`: prepared once, then from the cache of the last used ones.

        Two threads may prepare the same voice at once; both get the same numbers.
        """
        from appliance.engine.gpt_sovits.voice import prepare_voice

        with self._turn:
            found = self._voices.pop(assets.key, None)
            if found is not None:
                self._voices[assets.key] = found
                return found
        prepared = prepare_voice(assets, networks, reader)
        networks.drop("hubert", "sv")  # only references are listened to
        with self._turn:
            self._voices[assets.key] = prepared
            while len(self._voices) > PREPARED_VOICES:
                self._voices.popitem(last=False)
        return prepared
