"""The networks in memory: a file is loaded once, however many voices are made of it, and several side by side."""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from appliance.contracts import EngineHost, JsonDict, VoiceAssets
from appliance.engine import heap
from appliance.engine.gpt_sovits import pairing
from appliance.engine.gpt_sovits.bert import BertConfig, ChineseBert
from appliance.engine.gpt_sovits.decode_loop import DecodeLoop
from appliance.engine.gpt_sovits.eres2net import SpeakerNet
from appliance.engine.gpt_sovits.hubert import Hubert, HubertConfig
from appliance.engine.gpt_sovits.loading import read_parts
from appliance.engine.gpt_sovits.placed import PlacedBert, PlacedHubert, PlacedSound
from appliance.engine.gpt_sovits.s1_exports import S1Decoders, module_backends
from appliance.engine.gpt_sovits.sovits import REST as REST_OF_S2
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

REST = "s2_rest"  # what no export computes of s2
# How many of each role stay in memory; the least recently used goes first. Two s1 and s2 of official size are 1.2 GB.
KEPT = {"s1": 2, "decoder": 2, "s2": 2, REST: 2, "hubert": 1, "bert": 1, "sv": 1}
PLACED = "placed:"  # before the role of what backends compute
SIDE_BY_SIDE = 2  # networks that are opened at the same time, beside what their caller does
TITLES = {"s1": "s1 (text to semantic)", "s2": "s2 (SoVITS)", **pairing.TITLES}


class Networks:
    """A shelf of loaded networks. Safe across threads; the networks themselves hold no state of a request."""

    def __init__(self, preparation: Preparation | None = None) -> None:
        self._preparation = preparation  # None: the networks themselves compute everything
        self._without: set[tuple[str, Path]] = set()  # roles that have spoken without an export
        self._moving: set[tuple[str, Path]] = set()  # and those whose export is being opened beside them
        self._is_apart = preparation is not None and bool(module_backends(preparation.host))
        self.turns = Turns(is_apart=self._is_apart)
        self._shelf: OrderedDict[tuple[str, Path], Any] = OrderedDict()
        self._turn = threading.Lock()  # never held while something is opened
        self._doors: dict[tuple[str, Path], threading.Lock] = {}  # one opens a network, who wants the same one waits
        self._expected: dict[tuple[str, Path], Future[object]] = {}
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="opening")

    def expect(self, voice: VoiceAssets, *roles: str) -> None:
        """Begin to open these networks of a voice side by side, the first ones first; who asks for one waits for that.

        What fails here is opened once more by who asks for it, and raises there. One after the other, as they are
        asked for, where backends are tried (a trial wants the machine for itself), where a device of its own computes,
        and after a crash, so that the next one has the right network to blame.
        """
        preparation = self._preparation
        if preparation is not None and (self._is_apart or not preparation.opens_side_by_side):
            return
        ways = {"s1": self._open_decoder, "s2": self.sound, "bert": self.bert, "hubert": self.hubert}
        for role in roles:
            if role in voice.files:
                self._begin((role, voice.files[role]), ways[role], voice)

    def _begin(self, key: tuple[str, Path], way: Callable[[VoiceAssets], object], voice: VoiceAssets) -> None:
        role, path = key
        with self._turn:
            begun = self._expected.get(key)
            if self._holds(role, path) or (begun is not None and not begun.done()):
                return
            self._expected[key] = self._pool.submit(way, voice)

    def is_open(self, voice: VoiceAssets) -> bool:
        """Whether s1 and s2 of a voice are at hand."""
        with self._turn:
            return all(role in voice.files and self._holds(role, voice.files[role]) for role in ("s1", "s2"))

    def _holds(self, role: str, path: Path) -> bool:
        names = (role, PLACED + role) if role != "s1" else ("decoder",)
        return any((name, path) in self._shelf for name in names)

    def _open_decoder(self, voice: VoiceAssets) -> None:
        self.decoder(voice).open()

    def s1(self, voice: VoiceAssets) -> TextToSemantic:
        """Raises Unavailable("model_file_missing"), Corrupt("voice_files_corrupt"); so do the others."""
        return self._get("s1", voice, TextToSemantic.from_tensors)

    def decoder(self, voice: VoiceAssets) -> DecodeLoop:
        """The loop that decodes with s1 for all its voices."""
        path = voice.files.get("s1")
        if path is None:
            raise Unavailable("model_file_missing", role="s1", title=TITLES["s1"])
        with self._door("decoder", path):
            held: DecodeLoop | None = self._take("decoder", path)
            if held is None:
                loop = self._make_loop(voice, path, self._find_s1(voice, path))
                self._put("decoder", path, loop)
                return loop
        if self._preparation is not None and not held.is_exported:
            self._move("decoder", path, lambda: self._renew_decoder(voice, path))
        return held

    def _renew_decoder(self, voice: VoiceAssets, path: Path) -> None:
        """A loop over what has been exported meanwhile, opened before a request gets it."""
        found = self._find_s1(voice, path)
        if not found:
            return
        loop = self._make_loop(voice, path, found)
        loop.open()
        self._put("decoder", path, loop)

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

    def s2_rest(self, voice: VoiceAssets) -> Synthesizer:
        """s2 with no more weights than what no export computes takes, a tenth of the file; see `sovits.REST`."""
        return self._get("s2", voice, _make_rest, REST)

    def sound(self, voice: VoiceAssets) -> Sound:
        """s2 on the backends that it has been exported for, or s2 itself."""

        def make(sessions: Mapping[str, PlacedNetwork]) -> PlacedSound:
            sound = PlacedSound(self.s2_rest(voice), sessions, lambda: self.s2(voice))
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
        heap.give_back()

    def close(self) -> None:
        """Forget all networks, also those that are being opened."""
        self._pool.shutdown(cancel_futures=True)
        self.drop()

    def _get(
        self, role: str, voice: VoiceAssets, make: Callable[[dict[str, Tensor], JsonDict], Network], kept_as: str = ""
    ) -> Network:
        path = voice.files.get(role)
        if path is None:
            raise Unavailable("model_file_missing", role=role, title=TITLES[role])
        with self._door(kept_as or role, path):
            found: Network | None = self._take(kept_as or role, path)
            if found is None:
                found = _load(role, voice, make, _read_rest if kept_as == REST else load_file)
                self._put(kept_as or role, path, found)
        return found

    def _door(self, role: str, path: Path) -> threading.Lock:
        with self._turn:
            return self._doors.setdefault((role, path), threading.Lock())

    def _take(self, role: str, path: Path) -> Any:
        """From the shelf, where it counts as used last; None where it is not."""
        with self._turn:
            if (role, path) in self._shelf:
                self._shelf.move_to_end((role, path))
            return self._shelf.get((role, path))

    def _put(self, role: str, path: Path, network: Any) -> None:
        with self._turn:
            self._shelf[role, path] = network
            self._shelf.move_to_end((role, path))
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
        with self._door(PLACED + role, path):
            found: Network | None = self._take(PLACED + role, path)
            if found is not None:
                return found
            if (role, path) not in self._without:
                return self._open(role, path, voice, make)
        self._move(role, path, lambda: self._open(role, path, voice, make))
        return None

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
        self._put(PLACED + role, path, made)
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
    return Synthesizer.from_tensors(_spoken(tensors), config).folded()


def _read_rest(path: Path) -> dict[str, Tensor]:
    return read_parts(path, REST_OF_S2)


def _make_rest(tensors: dict[str, Tensor], config: JsonDict) -> Synthesizer:
    return Synthesizer.from_tensors(_spoken(tensors), config).requires_grad_(False)


def _spoken(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the posterior encoder that pretrained files carry: it only teaches."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("enc_q.")}


def _load(
    role: str,
    voice: VoiceAssets,
    make: Callable[[dict[str, Tensor], JsonDict], Any],
    read: Callable[[Path], dict[str, Tensor]],
) -> Any:
    settings = _config(role, voice)
    try:
        return make(read(voice.files[role]), settings)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Corrupt("voice_files_corrupt", file=role, reason=str(error)[:300]) from error
