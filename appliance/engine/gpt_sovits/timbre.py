"""The reference encoder: a spectrogram of somebody's speech -> one vector of their timbre (mel-style encoder).

Axes: B batch, T frames, W width. Masks are 1 where something is, None where nothing is padded.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from appliance.engine.gpt_sovits.attentions import masked

DROPOUT = 0.1  # in training, whatever the configuration says


class NamedLinear(nn.Module):
    """A linear layer one name deeper, as in the official tensors."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.fc = nn.Linear(inside, outside)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


class NamedConvolution(nn.Module):
    """A convolution that keeps the length, one name deeper."""

    def __init__(self, inside: int, outside: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inside, outside, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class GatedBlock(nn.Module):
    """x + a * sigmoid(b), both from one convolution."""

    def __init__(self, width: int, kernel: int = 5) -> None:
        super().__init__()
        self.conv1 = NamedConvolution(width, 2 * width, kernel)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        signal, gate = self.conv1(x).chunk(2, dim=1)
        return x + self.drop(signal * torch.sigmoid(gate))  # (B, W, T)


class FrameAttention(nn.Module):
    """Self-attention over frames with a residual. Scores are divided by sqrt(W), not by the root of a head's width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.temperature = heads, math.sqrt(width)
        self.w_qs, self.w_ks, self.w_vs, self.fc = (nn.Linear(width, width) for _ in range(4))
        self.weight_drop, self.drop = nn.Dropout(DROPOUT), nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, W), mask (B, 1, T) -> (B, T, W)."""
        q, k, v = (part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.w_qs, self.w_ks, self.w_vs))
        scores = q @ k.transpose(2, 3) / self.temperature  # (B, heads, T, T)
        if mask is not None:
            scores = scores.masked_fill(mask.unsqueeze(1) == 0, -math.inf)
        out = (self.weight_drop(torch.softmax(scores, dim=3)) @ v).transpose(1, 2).flatten(2)
        return self.drop(self.fc(out)) + x


class ReferenceEncoder(nn.Module):
    """Frames -> frames -> mean."""

    def __init__(self, bins: int, width: int, heads: int, outside: int) -> None:
        super().__init__()
        self.bins = bins
        self.spectral = nn.Sequential(
            NamedLinear(bins, width),
            nn.Mish(),
            nn.Dropout(DROPOUT),
            NamedLinear(width, width),
            nn.Mish(),
            nn.Dropout(DROPOUT),
        )
        self.temporal = nn.Sequential(GatedBlock(width), GatedBlock(width))
        self.slf_attn = FrameAttention(width, heads)
        self.fc = NamedLinear(width, outside)

    def forward(self, spectrogram: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, >= bins, T), mask (B, 1, T) -> (B, outside, 1). Only the lowest `bins` are heard (v2: up to 11 kHz)."""
        x = self.spectral(masked(spectrogram[:, : self.bins], mask).transpose(1, 2)).transpose(1, 2)  # (B, W, T)
        x = masked(self.temporal(x), mask).transpose(1, 2)
        x = self.fc(self.slf_attn(x, mask)).transpose(1, 2)  # (B, outside, T)
        if mask is None:
            return x.mean(dim=2, keepdim=True)
        return (x * mask).sum(dim=2, keepdim=True) / mask.sum(dim=2, keepdim=True)
