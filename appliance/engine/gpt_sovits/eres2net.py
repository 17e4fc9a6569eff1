"""ERes2NetV2, the speaker network: speech -> 20,480 numbers about whose voice it is; v2Pro adds them to its timbre.

A residual network over the picture of the mel bands. Inside a block the channels are split into parts that are
convolved one after the other, each together with what came out for the one before: added in the first two stages,
mixed by a gate in the last two. What speaker verification would do next (pooling, a layer of 192 numbers) is not used
here: the last picture is averaged over time. Axes: B batch, C channels, M mel bands, T frames. Parameters keep the
names of the official file. Formula source: Y. Chen et al., "ERes2NetV2" (2024).
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from appliance.engine.gpt_sovits.fbank import BANDS, log_mel_banks
from appliance.engine.gpt_sovits.loading import load_strictly, without_numbers

UNUSED = ("pool.", "seg_1.", "seg_bn_1.", "seg_2.")  # the head of speaker verification
HIGHEST = 20.0  # activations inside the blocks are clipped to 0 .. 20
GATE_REDUCTION = 4


@dataclass(frozen=True)
class SpeakerNetConfig:
    """Sizes of the network; the defaults are those of the official one ("w24s4ep4")."""

    channels: int = 64  # of the first stage; doubled by each further one
    base_width: int = 24  # channels of a part, per 64 of the stage
    parts: int = 4
    expansion: int = 4
    blocks: tuple[int, ...] = (3, 4, 6, 3)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> SpeakerNetConfig:
        """What `config` does not say is as in the official one."""
        return cls(
            channels=int(config.get("channels", cls.channels)),
            base_width=int(config.get("base_width", cls.base_width)),
            parts=int(config.get("parts", cls.parts)),
            expansion=int(config.get("expansion", cls.expansion)),
            blocks=tuple(config.get("blocks", cls.blocks)),
        )

    def planes(self, stage: int) -> int:
        return self.channels << stage

    def outside(self, stage: int) -> int:
        return self.planes(stage) * self.expansion

    @property
    def embedding(self) -> int:
        """Channels of the last stage times the mel bands left after three halvings."""
        return self.outside(3) * (BANDS // 8)


def convolution(inside: int, outside: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Without bias, keeping the size at stride 1."""
    return nn.Conv2d(inside, outside, kernel, stride, padding=kernel // 2, bias=False)


class Gate(nn.Module):
    """Mixes two pictures: a share of 0 .. 2 of the first, the rest to 2 of the second, per place and channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // GATE_REDUCTION
        self.local_att = nn.Sequential(
            nn.Conv2d(2 * channels, inner, 1),
            nn.BatchNorm2d(inner),
            nn.SiLU(),
            nn.Conv2d(inner, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        share = 1.0 + torch.tanh(self.local_att(torch.cat((x, y), dim=1)))
        return x * share + y * (2.0 - share)  # (B, C, M, T)


class Block(nn.Module):
    """clip(x' + expand(parts(reduce(x)))), x' being x in the shape of the result."""

    def __init__(self, inside: int, stage: int, stride: int, config: SpeakerNetConfig) -> None:
        super().__init__()
        outside = config.outside(stage)
        width = config.planes(stage) * config.base_width // 64
        self.conv1 = convolution(inside, width * config.parts, 1, stride)
        self.bn1 = nn.BatchNorm2d(width * config.parts)
        self.convs = nn.ModuleList(convolution(width, width, 3) for _ in range(config.parts))
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(config.parts))
        has_gates = stage >= 2
        self.fuse_models = nn.ModuleList(Gate(width) for _ in range(config.parts - 1)) if has_gates else None
        self.conv3 = convolution(width * config.parts, outside, 1)
        self.bn3 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Sequential()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(convolution(inside, outside, 1, stride), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = _clip(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self._convolve_parts(y)))
        return _clip(y + self.shortcut(x))  # (B, C, M, T)

    def _convolve_parts(self, x: Tensor) -> Tensor:
        done: list[Tensor] = []
        for number, part in enumerate(x.chunk(len(self.convs), dim=1)):
            y = self._join(number, done[-1], part) if done else part
            done.append(_clip(self.bns[number](self.convs[number](y))))
        return torch.cat(done, dim=1)

    def _join(self, number: int, before: Tensor, part: Tensor) -> Tensor:
        return before + part if self.fuse_models is None else self.fuse_models[number - 1](before, part)


def _clip(x: Tensor) -> Tensor:
    return x.clamp(0.0, HIGHEST)


class SpeakerNet(nn.Module):
    """The network. `forward` takes mel bands, `embed` a waveform."""

    def __init__(self, config: SpeakerNetConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = convolution(1, config.channels, 3)
        self.bn1 = nn.BatchNorm2d(config.channels)
        self.layer1 = _make_stage(config.channels, 0, 1, config)
        self.layer2 = _make_stage(config.outside(0), 1, 2, config)
        self.layer3 = _make_stage(config.outside(1), 2, 2, config)
        self.layer4 = _make_stage(config.outside(2), 3, 2, config)
        self.layer3_ds = convolution(config.outside(2), config.outside(3), 3, stride=2)
        self.fuse34 = Gate(config.outside(3))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> SpeakerNet:
        """Ready to run in float32. The official file has no config; its sizes are the defaults.

        Raises RuntimeError for tensors that are not this network's.
        """
        with without_numbers():
            network = cls(SpeakerNetConfig.from_dict(config or {}))
        return load_strictly(network, tensors, UNUSED)

    def forward(self, bands: Tensor) -> Tensor:
        """Log mel bands (B, T, M) -> (B, C * M / 8), channel by channel."""
        return self.picture(bands).mean(dim=-1)

    def picture(self, bands: Tensor) -> Tensor:
        """Log mel bands (B, T, M) -> (B, C * M / 8, T / 8), before it is averaged over time."""
        x = torch.relu(self.bn1(self.conv1(bands.transpose(1, 2)[:, None])))  # (B, C, M, T)
        third = self.layer3(self.layer2(self.layer1(x)))  # (B, C, M / 4, T / 4)
        fused = self.fuse34(self.layer4(third), self.layer3_ds(third))  # (B, C, M / 8, T / 8)
        return fused.flatten(1, 2)

    def embed(self, waveform: Tensor) -> Tensor:
        """Waveform (1, S) or (S,) at 16 kHz, within -1 .. 1 -> (1, 20480). Raises ValueError if shorter than 25 ms."""
        like = self.conv1.weight
        bands = log_mel_banks(waveform.detach().float().cpu().numpy().reshape(-1))
        return self(torch.from_numpy(bands)[None].to(like))


def _make_stage(inside: int, stage: int, stride: int, config: SpeakerNetConfig) -> nn.Sequential:
    outside, count = config.outside(stage), config.blocks[stage]
    first = Block(inside, stage, stride, config)
    return nn.Sequential(first, *(Block(outside, stage, 1, config) for _ in range(count - 1)))
