"""The invertible flow between the prior of the text and the latent of the sound, and the posterior encoder.

Axes: B batch, C channels, T frames of 20 ms. `ge` is the timbre, (B, G, 1). Masks as in `attentions`.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from appliance.engine.gpt_sovits.attentions import masked
from appliance.engine.gpt_sovits.convolutions import NormedConv1d


@dataclass(frozen=True)
class WaveNetSizes:
    channels: int
    kernel: int
    layers: int
    timbre: int


class WaveNet(nn.Module):
    """Gated convolutions with skip connections, told the timbre in every layer (WN of WaveGlow, dilation 1)."""

    def __init__(self, sizes: WaveNetSizes) -> None:
        super().__init__()
        width, count = sizes.channels, sizes.layers
        self.width = width
        self.cond_layer = NormedConv1d(sizes.timbre, 2 * width * count, 1)
        self.in_layers = nn.ModuleList(
            NormedConv1d(width, 2 * width, sizes.kernel, padding=sizes.kernel // 2) for _ in range(count)
        )
        self.res_skip_layers = nn.ModuleList(
            NormedConv1d(width, width if i + 1 == count else 2 * width, 1) for i in range(count)
        )

    def forward(self, x: Tensor, mask: Tensor | None, ge: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        timbres = self.cond_layer(ge).chunk(len(self.in_layers), dim=1)  # (B, 2C, 1) each
        total = torch.zeros_like(x)
        for convolve, split, timbre in zip(self.in_layers, self.res_skip_layers, timbres, strict=True):
            signal, gate = (convolve(x) + timbre).chunk(2, dim=1)
            out = split(torch.tanh(signal) * torch.sigmoid(gate))
            if out.shape[1] == self.width:  # the last layer has nothing to hand on
                total = total + out
            else:
                x = masked(x + out[:, : self.width], mask)
                total = total + out[:, self.width :]
        return masked(total, mask)


class Coupling(nn.Module):
    """Shift one half of the channels by a function of the other half and the timbre (mean only, so no determinant)."""

    def __init__(self, channels: int, sizes: WaveNetSizes) -> None:
        super().__init__()
        self.pre = nn.Conv1d(channels // 2, sizes.channels, 1)
        self.enc = WaveNet(sizes)
        self.post = nn.Conv1d(sizes.channels, channels // 2, 1)
        nn.init.zeros_(self.post.weight)
        if self.post.bias is not None:
            nn.init.zeros_(self.post.bias)

    def forward(self, x: Tensor, mask: Tensor | None, ge: Tensor, is_inverse: bool) -> Tensor:
        kept, moved = x.chunk(2, dim=1)
        hidden = self.enc(masked(self.pre(kept), mask), mask, ge)
        shift = masked(self.post(hidden), mask)
        moved = masked(moved - shift, mask) if is_inverse else shift + masked(moved, mask)
        return torch.cat([kept, moved], dim=1)


class Flip(nn.Module):
    """Reverse the channels, so that the next coupling moves the other half. Its own inverse."""

    def forward(self, x: Tensor, mask: Tensor | None, ge: Tensor, is_inverse: bool) -> Tensor:
        return x.flip(1)


class Flow(nn.Module):
    """Couplings and flips in turn."""

    def __init__(self, channels: int, couplings: int, sizes: WaveNetSizes) -> None:
        super().__init__()
        self.flows = nn.ModuleList()
        for _ in range(couplings):
            self.flows.extend([Coupling(channels, sizes), Flip()])

    def forward(self, x: Tensor, mask: Tensor | None, ge: Tensor, is_inverse: bool = False) -> Tensor:
        """(B, C, T) -> (B, C, T): latent of sound to prior, or back when inverse."""
        for step in reversed(self.flows) if is_inverse else self.flows:
            x = step(x, mask, ge, is_inverse)
        return x


class PosteriorEncoder(nn.Module):
    """Spectrogram -> the distribution of its latent. Training only; fine-tuned files leave it out."""

    def __init__(self, bins: int, channels: int, sizes: WaveNetSizes) -> None:
        super().__init__()
        self.pre = nn.Conv1d(bins, sizes.channels, 1)
        self.enc = WaveNet(sizes)
        self.proj = nn.Conv1d(sizes.channels, 2 * channels, 1)

    def forward(self, spectrogram: Tensor, mask: Tensor | None, ge: Tensor) -> tuple[Tensor, Tensor]:
        """(B, bins, T) -> mean and log deviation, (B, C, T) each."""
        hidden = self.enc(masked(self.pre(spectrogram), mask), mask, ge)
        mean, log_deviation = masked(self.proj(hidden), mask).chunk(2, dim=1)
        return mean, log_deviation
