"""ERes2NetV2 as what it was trained for: two recordings in, the voice of one person or of two?

The engine takes the speaker network's last picture, averaged over time. Verification goes on from there with the head
that the official file has too: mean and deviation over time, and a layer down to 192 numbers. The mel bands have their
mean over time taken off, as that head was trained. Source: Y. Chen et al., "ERes2NetV2" (2024), and its published code.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from appliance.contracts import Samples
from appliance.engine.gpt_sovits.eres2net import SpeakerNet
from appliance.engine.gpt_sovits.fbank import WINDOW, log_mel_banks
from appliance.errors import Corrupt, InvalidInput

HEAD = ("seg_1.weight", "seg_1.bias")
FLOOR = 1e-8  # under the root, of a voice that does not move at all


class Verifier:
    """The network with its head."""

    def __init__(self, network: SpeakerNet, weight: Tensor, bias: Tensor) -> None:
        """`weight`: (numbers, 2 * embedding of the network)."""
        width = 2 * network.config.embedding
        if weight.shape[1:] != (width,) or bias.shape != weight.shape[:1]:
            raise RuntimeError(f"the head takes {tuple(weight.shape[1:])}, the network gives {width}")
        self._network, self._weight, self._bias = network, weight.float(), bias.float()

    @classmethod
    def from_file(cls, path: Path) -> Verifier:
        """From imported weights. Raises Corrupt("voice_files_corrupt"), also where the file has no head."""
        try:
            return cls.from_tensors(load_file(path))
        except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
            raise Corrupt("voice_files_corrupt", file="sv", reason=str(error)[:300]) from error

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Mapping[str, object] | None = None) -> Verifier:
        """Raises KeyError without a head, RuntimeError for tensors of another network."""
        weight, bias = (tensors[name] for name in HEAD)
        return cls(SpeakerNet.from_tensors(tensors, config), weight, bias)

    def embed(self, samples: Samples) -> NDArray[np.float32]:
        """(n,) at 16 kHz -> (192,), of length 1. Raises InvalidInput("speech_too_short")."""
        if len(samples) < WINDOW:
            raise InvalidInput("speech_too_short", duration_s=round(len(samples) / 16_000, 2), required_s=0.03)
        bands = torch.from_numpy(log_mel_banks(samples))
        with torch.inference_mode():
            picture = self._network.picture((bands - bands.mean(dim=0))[None])  # (1, embedding, T)
            spread = picture.var(dim=-1, unbiased=picture.shape[-1] > 1).add(FLOOR).sqrt()
            pooled = torch.cat((picture.mean(dim=-1), spread), dim=1)
            found = torch.nn.functional.linear(pooled, self._weight, self._bias)[0].numpy()
        length = float(np.linalg.norm(found))
        if not np.isfinite(length) or length == 0.0:
            raise Corrupt("voice_files_corrupt", file="sv", reason="it gives no numbers")
        return np.asarray(found / length, np.float32)
