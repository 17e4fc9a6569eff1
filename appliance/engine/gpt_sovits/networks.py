"""The networks in memory: a file is loaded once, however many voices are made of it."""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from appliance.contracts import EngineHost, JsonDict, VoiceAssets
from appliance.engine.gpt_sovits import pairing
from appliance.engine.gpt_sovits.bert import BertConfig, ChineseBert
from appliance.engine.gpt_sovits.decode_loop import DecodeLoop
from appliance.engine.gpt_sovits.eres2net import SpeakerNet
from appliance.engine.gpt_sovits.hubert import Hubert, HubertConfig
from appliance.engine.gpt_sovits.placed import PlacedBert, PlacedHubert, PlacedSound
from appliance.engine.gpt_sovits.s1_exports import S1Decoders, module_backends
from appliance.engine.gpt_sovits.sovits import Synthesizer
from appliance.engine.gpt_sovits.streaming import Sound
from appliance.engine.gpt_sovits.t2s import TextToSemantic, TextToSemanticConfig
from appliance.engine.gpt_sovits.turns import Turns
from appliance.engine.gpt_sovits.wordpiece import WordPiece
from appliance.errors import Corrupt, Unavailable

if TYPE_CHECKING:
    from appliance.engine.artifact_store import Prepared
    from appliance.engine.gpt_sovits.graphs import Graph
    from appliance.engine.gpt_sovits.preparation import Preparation
    from appliance.engine.placement import PlacedNetwork

log = logging.getLogger(__name__)
Network = TypeVar("Network")

# How many of each role stay in memory; the least recently used goes first. Two s1 and s2 of official size are 1.2 GB.
KEPT = {"s1": 2, "decoder": 2, "s2": 2, "hubert": 1, "bert": 1, "sv": 1}
PLACED = "placed:"  # before the role of what backends compute
TITLES = {"s1": "s1 (text to semantic)", "s2": "s2 (SoVITS)", **pairing.TITLES}


class Networks:
    """A shelf of loaded networks. Safe across threads; the networks themselves hold no state of a request."""

    def __init__(self, preparation: Preparation | None = None) -> None:
        self._preparation = preparation  # None: the networks themselves compute everything
        self._without: set[tuple[str, Path]] = set()  # roles that have spoken without an export
        self._moving: set[tuple[str, Path]] = set()  # and those whose export is being opened beside them
        self.turns = Turns(is_apart=preparation is not None and bool(module_backends(preparation.host)))
        self._shelf: OrderedDict[tuple[str, Path], Any] = OrderedDict()
        self._turn = threading.Lock()

    def s1(self, voice: VoiceAssets) -> TextToSemantic:
        """Raises Unavailable("model_file_missing"), Corrupt("voice_files_corrupt"); so do the others."""
        return self._get("s1", voice, TextToSemantic.from_tensors)

    def decoder(self, voice: VoiceAssets) -> DecodeLoop:
        """The loop that decodes with s1 for all its voices."""
        path = voice.files.get("s1")
        if path is None:
            raise Unavailable("model_file_missing", role="s1", title=TITLES["s1"])
        with self._turn:
            held: DecodeLoop | None = self._shelf.pop(("decoder", path), None)
            if held is not None:
                self._keep("decoder", path, held)
            if held is not None and (held.is_exported or self._preparation is None):
                return held
        if held is not None:
            self._move("decoder", path, lambda: self._renew_decoder(voice, path))
            return held
        loop = self._make_loop(voice, path, self._find_s1(voice, path))
        with self._turn:
            self._keep("decoder", path, loop)
        return loop

    def _renew_decoder(self, voice: VoiceAssets, path: Path) -> None:
        """A loop over what has been exported meanwhile, opened before a request gets it."""
        found = self._find_s1(voice, path)
        if not found:
            return
        loop = self._make_loop(voice, path, found)
        loop.open()
        with self._turn:
            self._keep("decoder", path, loop)

    def _find_s1(self, voice: VoiceAssets, path: Path) -> Mapping[str, Prepared]:
        if self._preparation is None:
            return {}
        self._preparation.expect(voice.files)
        return self._preparation.find("s1", path, voice.files.get("s1_config")) or {}

    def _make_loop(self, voice: VoiceAssets, path: Path, prepared: Mapping[str, Prepared]) -> DecodeLoop:
        host = self._preparation.host if self._preparation else EngineHost({}, {}, path.parent)
        return S1Decoders(host, self.s1_config(voice), lambda: self.s1(voice), prepared, self.turns).loop()

    def s1_config(self, voice: VoiceAssets) -> TextToSemanticConfig:
        """The sizes of s1, without loading it. Raises Corrupt("voice_files_corrupt")."""
        try:
            return TextToSemanticConfig.from_dict(_config("s1", voice))
        except (KeyError, ValueError, TypeError) as error:
            raise Corrupt("voice_files_corrupt", file="s1", reason=str(error)[:300]) from error

    def decoder_rows(self) -> tuple[JsonDict, ...]:
        """How s1 is decoded, for `Engine.placement`."""
        with self._turn:
            loops = [network for (role, _), network in self._shelf.items() if role == "decoder"]
        return tuple(row for loop in loops[-1:] for row in loop.rows())

    def s2(self, voice: VoiceAssets) -> Synthesizer:
        return self._get("s2", voice, _make_s2)

    def sound(self, voice: VoiceAssets) -> Sound:
        """s2 on the backends that it has been exported for, or s2 itself."""

        def make(sessions: Mapping[str, PlacedNetwork]) -> PlacedSound:
            sound = PlacedSound(self.s2(voice), sessions)
            sound.warm_up()
            return sound

        return self._placed("s2", voice, make) or self.s2(voice)

    def hubert(self, voice: VoiceAssets) -> Hubert | PlacedHubert:
        def make(sessions: Mapping[str, PlacedNetwork]) -> PlacedHubert:
            return PlacedHubert(HubertConfig.from_dict(_config("hubert", voice)), sessions["hubert"])

        return self._placed("hubert", voice, make) or self._get("hubert", voice, Hubert.from_tensors)

    def bert(self, voice: VoiceAssets) -> ChineseBert:
        def make(sessions: Mapping[str, PlacedNetwork]) -> ChineseBert:
            config = _config("bert", voice)
            network = PlacedBert(BertConfig.from_dict(config), sessions["bert"])
            return ChineseBert(network, WordPiece.from_config(config))

        return self._placed("bert", voice, make) or self._get("bert", voice, ChineseBert.from_tensors)

    def speaker(self, voice: VoiceAssets) -> SpeakerNet:
        return self._get("sv", voice, SpeakerNet.from_tensors)

    def drop(self, *roles: str) -> None:
        """Forget the networks of `roles`, or all."""
        with self._turn:
            for key in [key for key in self._shelf if not roles or key[0].removeprefix(PLACED) in roles]:
                del self._shelf[key]
        if self._preparation is not None:
            for role in roles or KEPT:
                self._preparation.release(role)

    def _get(self, role: str, voice: VoiceAssets, make: Callable[[dict[str, Tensor], JsonDict], Network]) -> Network:
        path = voice.files.get(role)
        if path is None:
            raise Unavailable("model_file_missing", role=role, title=TITLES[role])
        with self._turn:
            found: Network = self._shelf.pop((role, path), None) or _load(role, voice, make)
            self._keep(role, path, found)
        return found

    def _keep(self, role: str, path: Path, network: Any) -> None:
        self._shelf[role, path] = network
        same = [key for key in self._shelf if key[0] == role]
        for key in same[: -KEPT[role.removeprefix(PLACED)]]:
            del self._shelf[key]

    def _placed(
        self, role: str, voice: VoiceAssets, make: Callable[[Mapping[str, PlacedNetwork]], Network]
    ) -> Network | None:
        """What backends compute of one role; None until it has been exported."""
        path = voice.files.get(role)
        if self._preparation is None or path is None:
            return None
        with self._turn:
            found: Network | None = self._shelf.pop((PLACED + role, path), None)
            if found is not None:
                self._keep(PLACED + role, path, found)
                return found
        if (role, path) in self._without:
            self._move(role, path, lambda: self._open(role, path, voice, make))
            return None
        return self._open(role, path, voice, make)

    def _open(
        self, role: str, path: Path, voice: VoiceAssets, make: Callable[[Mapping[str, PlacedNetwork]], Network]
    ) -> Network | None:
        """Onto the shelf, ready to be used; None, and remembered, where it has not been exported."""
        preparation = self._preparation
        if preparation is not None:
            preparation.expect(voice.files)
        graphs = self._graphs(role, voice)
        sessions = preparation.open(role, path, voice.files.get(f"{role}_config"), graphs) if preparation else None
        if sessions is None:
            self._without.add((role, path))
            return None
        made = make(sessions)
        with self._turn:
            self._keep(PLACED + role, path, made)
        self._without.discard((role, path))
        return made

    def _move(self, role: str, path: Path, work: Callable[[], object]) -> None:
        """Open what has been exported meanwhile beside the speech that goes on; a later request uses it."""
        with self._turn:
            if (role, path) in self._moving:
                return
            self._moving.add((role, path))

        def run() -> None:
            try:
                work()
            except Exception:
                log.exception("the export of %s is not used", role)
            finally:
                with self._turn:
                    self._moving.discard((role, path))

        threading.Thread(target=run, name=f"open {role}", daemon=True).start()

    def _graphs(self, role: str, voice: VoiceAssets) -> dict[str, Graph]:
        """The networks of a role as backends see them that run PyTorch itself; none where there is no such one."""
        if self._preparation is None or not module_backends(self._preparation.host):
            return {}
        from appliance.engine.gpt_sovits import graphs

        match role:
            case "s2":
                s2 = self.s2(voice)
                halves = {"s2.text": graphs.TextGraph(s2), "s2.frames": graphs.FramesGraph(s2)}
                return {**halves, "s2.voice": graphs.VoiceGraph(s2)}
            case "bert":
                return {"bert": graphs.BertGraph(self._get("bert", voice, ChineseBert.from_tensors))}
            case "hubert":
                return {"hubert": graphs.HubertGraph(self._get("hubert", voice, Hubert.from_tensors))}
        return {}


def _config(role: str, voice: VoiceAssets) -> JsonDict:
    """What lies beside the weights. Raises Corrupt("voice_files_corrupt")."""
    path = voice.files.get(f"{role}_config")
    try:
        found: JsonDict = json.loads(path.read_text("utf-8")) if path else {}
    except (OSError, ValueError) as error:
        raise Corrupt("voice_files_corrupt", file=role, reason=str(error)[:300]) from error
    return found


def _make_s2(tensors: dict[str, Tensor], config: JsonDict) -> Synthesizer:
    """Without the posterior encoder that pretrained files carry: it only teaches."""
    spoken = {name: tensor for name, tensor in tensors.items() if not name.startswith("enc_q.")}
    return Synthesizer.from_tensors(spoken, config).folded()


def _load(role: str, voice: VoiceAssets, make: Callable[[dict[str, Tensor], JsonDict], Any]) -> Any:
    settings = _config(role, voice)
    try:
        return make(load_file(voice.files[role]), settings)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Corrupt("voice_files_corrupt", file=role, reason=str(error)[:300]) from error
