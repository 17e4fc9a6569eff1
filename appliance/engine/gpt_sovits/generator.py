"""The vocoder: HiFi-GAN from latent frames to waveform, told the timbre.

Axes: B batch, C channels, T frames of 20 ms; 640 T samples at 32 kHz come out.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from appliance.engine.gpt_sovits.convolutions import NormedConv1d, NormedConvTranspose1d

SLOPE = 0.1
LAST_SLOPE = 0.01  # before the last convolution the official network uses another slope


@dataclass(frozen=True)
class GeneratorSizes:
    latent: int
    timbre: int
    initial: int  # channels after the first convolution; halved by each stage
    rates: tuple[int, ...]
    kernels: tuple[int, ...]  # of the transposed convolutions
    block_kernels: tuple[int, ...]
    block_dilations: tuple[tuple[int, ...], ...]  # per block kernel


class ResidualBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair with a residual."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()

        def convolution(dilation: int) -> NormedConv1d:
            return NormedConv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)

        self.convs1 = nn.ModuleList(convolution(d) for d in dilations)
        self.convs2 = nn.ModuleList(convolution(1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x  # (B, C, T)


class Generator(nn.Module):
    """Stages of: upsample, then the mean of blocks with different kernels."""

    def __init__(self, sizes: GeneratorSizes) -> None:
        super().__init__()
        self.conv_pre = nn.Conv1d(sizes.latent, sizes.initial, 7, padding=3)
        self.cond = nn.Conv1d(sizes.timbre, sizes.initial, 1)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for stage, (rate, kernel) in enumerate(zip(sizes.rates, sizes.kernels, strict=True)):
            wide, narrow = sizes.initial >> stage, sizes.initial >> (stage + 1)
            self.ups.append(NormedConvTranspose1d(wide, narrow, kernel, stride=rate, padding=(kernel - rate) // 2))
            self.resblocks.extend(
                ResidualBlock(narrow, size, dilations)
                for size, dilations in zip(sizes.block_kernels, sizes.block_dilations, strict=True)
            )
        self.conv_post = nn.Conv1d(sizes.initial >> len(sizes.rates), 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor, ge: Tensor) -> Tensor:
        """(B, latent, T), (B, timbre, 1) -> (B, 1, S), within -1 .. 1."""
        x = self.conv_pre(x) + self.cond(ge)  # (B, initial, T)
        per_stage = len(self.resblocks) // len(self.ups)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            blocks = self.resblocks[stage * per_stage : (stage + 1) * per_stage]
            total = blocks[0](x)
            for block in blocks[1:]:
                total = total + block(x)
            x = total / per_stage
        return torch.tanh(self.conv_post(F.leaky_relu(x, LAST_SLOPE)))
