"""Voices of tiny networks with random weights, in the files that an import would have stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

from appliance.audio.files import write_wav
from appliance.contracts import Audio, EngineHost, SpeakTask, TextFrontend, Utterance, VoiceAssets, WordSpan
from appliance.engine.gpt_sovits.bert import Bert, BertConfig
from appliance.engine.gpt_sovits.eres2net import SpeakerNet, SpeakerNetConfig
from appliance.engine.gpt_sovits.hubert import Hubert, HubertConfig
from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine
from appliance.engine.gpt_sovits.sovits import Synthesizer, SynthesizerConfig
from appliance.engine.gpt_sovits.t2s import TextToSemantic, TextToSemanticConfig
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_SYMBOLS, MARKS

S1 = {"phoneme_vocab_size": 732, "vocab_size": 1025, "hidden_dim": 32, "head": 2, "n_layer": 2, "EOS": 1024}
S2 = {
    "inter_channels": 16,
    "hidden_channels": 16,
    "filter_channels": 32,
    "n_layers": 2,
    "upsample_initial_channel": 32,
    "gin_channels": 32,
    "mixer_width": 32,
}
HUBERT = {"num_hidden_layers": 1, "intermediate_size": 64, "conv_dim": [16] * 7}
BERT = {"num_hidden_layers": 3, "intermediate_size": 64, "vocab_size": 64}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"今天下雨了你好吗我们去看海的店关门欢迎再见春夏秋冬，。！？."]
SPEAKER: dict[str, Any] = {"channels": 8, "base_width": 8, "expansion": 32, "blocks": [1, 1, 1, 1]}
TEXT = "今天下雨了，我们去看海。"


class Syllables(TextFrontend):
    """Two phones for every letter, by its code point: enough to drive the networks without a dictionary."""

    inventories = ("gpt_sovits_v1", "gpt_sovits_v2")

    def __init__(self, language: str) -> None:
        self.language = language

    def analyse(self, text: str, inventory: str) -> Utterance:
        symbols = GPT_SOVITS_SYMBOLS[inventory]
        phones: list[str] = []
        words: list[WordSpan] = []
        marks = {"，": ",", "。": ".", "！": "!", "？": "?"}
        for written in text:
            mark = marks.get(written, written)
            read = [mark] if mark in MARKS else [symbols[(ord(written) * k) % len(symbols)] for k in (1, 7)]
            words.append(WordSpan(written, len(phones), len(phones) + len(read)))
            phones += read
        return Utterance(self.language, text, tuple(phones), tuple(words))


def clip(seconds: float, pitch: float = 120.0, rate: int = 44_100, seed: int = 0) -> Audio:
    """Something that has a pitch and words' rhythm."""
    time = np.arange(int(seconds * rate)) / rate
    voice = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 20))
    rhythm = 0.5 + 0.5 * np.sin(2 * np.pi * 3.0 * time)
    noise = np.random.default_rng(seed).standard_normal(len(time)) * 0.01
    return Audio((0.1 * voice * rhythm + noise).astype(np.float32), rate)


def random_weights(network: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Weights as training might leave them: small biases, lengths and gains near one, no dead layer."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, tensor in network.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.dim() > 1:
            tensors[name] = noise / max(1.0, tensor[0].numel() ** 0.5)
        elif name.endswith(("bias", "beta", "mean")):
            tensors[name] = 0.1 * noise
        else:
            tensors[name] = 1.0 + 0.1 * noise.abs()
        if name.endswith("weight_g"):
            tensors[name] = 1.0 + 0.1 * noise
    return tensors


def write_folder(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> Path:
    """A model folder as `transformers` writes it."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def hubert_file(folder: Path) -> Path:
    tensors = random_weights(Hubert(HubertConfig.from_dict(HUBERT)), 0)
    name = "encoder.pos_conv_embed.conv.weight"
    weight = tensors.pop(name)
    tensors |= {f"{name}_g": weight.norm(dim=(0, 1), keepdim=True), f"{name}_v": weight}
    return write_folder(folder, tensors, {"model_type": "hubert", **HUBERT})


def bert_file(folder: Path) -> Path:
    all_layers = BertConfig.from_dict({**BERT, "num_hidden_layers": BERT["num_hidden_layers"] + 2})
    tensors = {f"bert.{name}": tensor for name, tensor in random_weights(Bert(all_layers), 0).items()}
    path = write_folder(folder, tensors, {"model_type": "bert", **BERT})
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), "utf-8")
    return path


class Models:
    """Writes model files, and makes voices of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bert = self._file("bert", Bert(BertConfig.from_dict(BERT)), {**BERT, "vocabulary": VOCABULARY})
        self._hubert = self._file("hubert", Hubert(HubertConfig.from_dict(HUBERT)), HUBERT)

    def _file(self, name: str, network: torch.nn.Module, config: object, seed: int = 0) -> tuple[Path, Path]:
        weights, settings = self.folder / f"{name}.safetensors", self.folder / f"{name}.json"
        save_file({key: value.contiguous() for key, value in random_weights(network, seed).items()}, weights)
        settings.write_text(json.dumps(config), "utf-8")
        return weights, settings

    def s1(self, seed: int, **sizes: int) -> tuple[Path, Path]:
        config = {"model": {**S1, **sizes}}
        return self._file(f"s1_{seed}", TextToSemantic(TextToSemanticConfig.from_dict(config)), config, seed)

    def s2(self, seed: int, version: str = "v2") -> tuple[Path, Path]:
        config = {"model": {**S2, "version": version}}
        return self._file(f"s2_{seed}", Synthesizer(SynthesizerConfig.from_dict(config)), config, seed)

    def speaker(self) -> tuple[Path, Path]:
        return self._file("sv", SpeakerNet(SpeakerNetConfig(**SPEAKER)), SPEAKER)

    def reference(self, name: str, audio: Audio) -> Path:
        path = self.folder / f"{name}.wav"
        write_wav(path, audio)
        return path

    def voice(self, key: str, networks: dict[str, tuple[Path, Path]], *clips: Path, **settings: object) -> VoiceAssets:
        networks = {"bert": self._bert, "hubert": self._hubert, **networks}
        files = {role: weights for role, (weights, _) in networks.items()}
        files |= {f"{role}_config": config for role, (_, config) in networks.items()}
        roles = ["reference", *(f"reference_{number}" for number in range(2, len(clips) + 1))]
        files |= dict(zip(roles, clips, strict=True))
        return VoiceAssets(key, "gpt_sovits", files, {"transcript": "你好吗", "language": "zh", **settings})


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def anna(models: Models) -> VoiceAssets:
    networks = {"s1": models.s1(1), "s2": models.s2(2)}
    return models.voice("anna", networks, models.reference("anna", clip(3.5, 210.0)))


@pytest.fixture(scope="session")
def bruno(models: Models) -> VoiceAssets:
    """Another s1, a v2Pro s2, and two references."""
    networks = {"s1": models.s1(3), "s2": models.s2(4, "v2Pro"), "sv": models.speaker()}
    clips = [models.reference("bruno", clip(4.0, 110.0)), models.reference("bruno_2", clip(3.2, 90.0, 16_000))]
    return models.voice("bruno", networks, *clips, transcript="我们去看海。")


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> EngineHost:
    frontends = {language: Syllables(language) for language in ("zh", "en", "ja")}
    return EngineHost({}, frontends, tmp_path_factory.mktemp("cache"), threads=1)


@pytest.fixture(scope="session")
def engine(host: EngineHost) -> Iterator[GptSovitsEngine]:
    before = torch.get_num_threads()
    engine = GptSovitsEngine()
    engine.load(host)
    yield engine
    engine.close()
    torch.set_num_threads(before)


Say = Callable[[SpeakTask], NDArray[np.float32]]


@pytest.fixture(scope="session")
def say(engine: GptSovitsEngine) -> Say:
    def speak(task: SpeakTask) -> NDArray[np.float32]:
        return np.concatenate([chunk.audio.samples for chunk in engine.speak(task, threading.Event())])

    return speak
