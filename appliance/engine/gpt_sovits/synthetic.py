"""Networks of official size with random weights, to measure speed where no weights have been imported.

What comes out of them is noise, never speech; how long it takes is what real weights take. Equal everywhere: the
numbers come from seeds.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from appliance.audio.files import write_wav
from appliance.contracts import Audio, JsonDict, VoiceAssets
from appliance.engine.artifact_store import sha256_of
from appliance.engine.gpt_sovits.bert import Bert, BertConfig
from appliance.engine.gpt_sovits.eres2net import SpeakerNet, SpeakerNetConfig
from appliance.engine.gpt_sovits.hubert import Hubert, HubertConfig
from appliance.engine.gpt_sovits.pairing import ENGINE
from appliance.engine.gpt_sovits.sovits import Synthesizer, SynthesizerConfig
from appliance.engine.gpt_sovits.t2s import TextToSemantic, TextToSemanticConfig

S1: JsonDict = {"model": {"phoneme_vocab_size": 732, "vocab_size": 1025, "hidden_dim": 512, "head": 16, "n_layer": 24}}
S2: Mapping[str, JsonDict] = {  # version -> what differs from the sizes of v2
    "v2": {},
    "v2Pro": {"gin_channels": 1024},
    "v2ProPlus": {
        "gin_channels": 1024,
        "upsample_initial_channel": 768,
        "upsample_kernel_sizes": [20, 16, 8, 2, 2],
    },
}
REFERENCE_S, PITCH_HZ = 5.0, 140.0  # of the first speaker's clip; others' differ in both
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CHARACTERS = (0x4E00, 21_128)  # first ideograph, size of the vocabulary
TRANSCRIPT = "今天天气很好，我们一起去公园散步，好不好？"


def synthetic_voice(folder: Path, version: str, speaker: int = 0) -> VoiceAssets:
    """Files of all networks that `version` needs and a clip of `speaker` under `folder`, written once; about 2.5 GB.

    All speakers have the same networks, as voices made of clips alone have.

    Raises KeyError for another version, OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    networks: dict[str, tuple[str, JsonDict]] = {
        "s1": ("s1", S1),
        "s2": (f"s2_{version}", {"model": {**S2[version], "version": version}}),
        "hubert": ("hubert", {}),
        "bert": ("bert", {"vocabulary": _vocabulary()}),
    }
    if version != "v2":
        networks["sv"] = ("sv", {})
    files: dict[str, Path] = {"reference": _clip(folder, speaker)}
    for role, (name, config) in networks.items():
        files[role] = _weights(folder / f"{name}.safetensors", role, config)
        files[f"{role}_config"] = folder / f"{name}.json"
        files[f"{role}_config"].write_text(json.dumps(config), "utf-8")
    key = f"synthetic:{version}" + (f":{speaker}" if speaker else "")
    return VoiceAssets(key, ENGINE, files, {"transcript": TRANSCRIPT, "language": "zh"})


def _weights(path: Path, role: str, config: JsonDict) -> Path:
    """A file that is named by its content, as imported ones are; `path` becomes a link to it."""
    if path.is_symlink() and path.is_file():
        return path.resolve()
    if not path.is_file():
        _draw(path, role, config)
    digest = sha256_of(path)
    named = path.parent / "sha256" / digest[:2] / digest[2:]
    named.parent.mkdir(parents=True, exist_ok=True)
    path.replace(named)
    path.symlink_to(named.relative_to(path.parent))
    return named.resolve()


def _draw(path: Path, role: str, config: JsonDict) -> None:
    makers: Mapping[str, type[nn.Module]] = {"s1": TextToSemantic, "s2": Synthesizer, "hubert": Hubert, "bert": Bert}
    if role == "sv":
        network: nn.Module = SpeakerNet(SpeakerNetConfig())
    else:
        sizes = {"s1": TextToSemanticConfig, "s2": SynthesizerConfig, "hubert": HubertConfig, "bert": BertConfig}
        network = makers[role](sizes[role].from_dict(config))  # type: ignore[attr-defined]
    draft = path.with_suffix(".draft")
    tensors = fill(network, path.stem)
    if role == "s1":
        tensors["ar_predict_layer.weight"][-1] = 0.0  # no answer ends by itself: its length is the workload's
    save_file(tensors, draft)
    draft.replace(path)


def fill(network: nn.Module, salt: str) -> dict[str, Tensor]:
    """Weights as training might leave them: rows of length about one, small biases, gains near one."""
    tensors = {}
    for name, like in network.state_dict().items():
        generator = torch.Generator().manual_seed(zlib.crc32(f"{salt}/{name}".encode()))
        noise = torch.randn(like.shape, generator=generator)
        last = name.rpartition(".")[2]
        if last in ("weight_g", "gamma", "alpha", "inited", "running_var") or (last == "weight" and like.dim() == 1):
            tensors[name] = 1.0 + 0.05 * noise
        elif like.dim() <= 1:
            tensors[name] = 0.05 * noise
        elif "embedding" in name or last == "embed":
            tensors[name] = noise
        else:
            tensors[name] = noise / max(1.0, like[0].numel()) ** 0.5
    return tensors


def _vocabulary() -> list[str]:
    first, size = CHARACTERS
    return [*MARKS, *"，。！？、：；“”…—", *(chr(first + i) for i in range(size - len(MARKS) - 11))]


def _clip(folder: Path, speaker: int) -> Path:
    """A tone with harmonics and words' rhythm, four to seven seconds long."""
    rate, seconds = 32_000, 4.0 + (REFERENCE_S - 4.0 + 0.7 * speaker) % 3.0
    time = np.arange(int(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * PITCH_HZ * (1.0 + 0.05 * speaker) * k * time) / k for k in range(1, 20))
    noise = 0.01 * np.random.default_rng(speaker).standard_normal(len(time))
    path = folder / (f"reference_{speaker}.wav" if speaker else "reference.wav")
    write_wav(path, Audio((0.1 * tone * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * time)) + noise).astype(np.float32), rate))
    return path
