"""Networks of official size with random weights, to measure speed where no weights have been imported.

What comes out of them is noise, never speech; how long it takes is what real weights take. Equal everywhere: the
numbers come from seeds.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits.bert import Bert, BertConfig
from appliance.engine.gpt_sovits.eres2net import SpeakerNet, SpeakerNetConfig
from appliance.engine.gpt_sovits.hubert import Hubert, HubertConfig
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

SEED_WAVE_HZ = 140.0  # pitch of the clip that stands for a reference


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
