"""The transformer of s2: attention with learnt relative positions nearby, layer norm after each residual.

Axes: B batch, C channels, T positions that ask, S positions that answer, H heads, D = C / H. Masks are 1 where
something is and 0 in the padding; None means that nothing is padded.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

MASKED_SCORE = -1e4  # finite, as in the official network: a row without any key spreads evenly instead of becoming NaN


@dataclass(frozen=True)
class EncoderSizes:
    channels: int
    inner: int  # width of the feed-forward part
    heads: int
    kernel: int  # of the feed-forward convolutions
    window: int  # relative positions are learnt for distances up to this
    dropout: float


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


class ChannelNorm(nn.Module):
    """Layer norm over the channel axis of (B, C, T)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.transpose(1, 2), self.gamma.shape, self.gamma, self.beta, 1e-5).transpose(1, 2)


class Attention(nn.Module):
    """Dot-product attention by 1x1 convolutions; with a window above 0 also relative terms, shared by the heads.

    score_ij = (k_j + E_k[j - i]) · q_i / sqrt(D),  out_i = sum_j p_ij (v_j + E_v[j - i]),  E = 0 beyond the window.
    """

    def __init__(self, channels: int, heads: int, window: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.conv_q, self.conv_k, self.conv_v, self.conv_o = (nn.Conv1d(channels, channels, 1) for _ in range(4))
        self.drop = nn.Dropout(dropout)
        if window:
            rows, width = 2 * window + 1, channels // heads
            self.emb_rel_k = nn.Parameter(nn.init.normal_(torch.empty(1, rows, width), std=width**-0.5))
            self.emb_rel_v = nn.Parameter(nn.init.normal_(torch.empty(1, rows, width), std=width**-0.5))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, T), (B, C, S), mask (B, 1, T, S) -> (B, C, T)."""
        q, k, v = (self._by_head(part) for part in (self.conv_q(x), self.conv_k(context), self.conv_v(context)))
        q = q / math.sqrt(q.shape[-1])
        scores = q @ k.transpose(2, 3)  # (B, H, T, S)
        if self.window:
            scores = scores + self._spread(q @ self.emb_rel_k[0].T)
        if mask is not None:
            scores = scores.masked_fill(mask == 0, MASKED_SCORE)
        weights = self.drop(torch.softmax(scores, dim=3))
        out = weights @ v  # (B, H, T, D)
        if self.window:
            out = out + self._near(weights) @ self.emb_rel_v[0]
        return self.conv_o(out.transpose(2, 3).flatten(1, 2))

    def _by_head(self, x: Tensor) -> Tensor:
        batch, channels, length = x.shape  # not `unflatten`: a trace of it keeps the length as a constant
        return x.view(batch, self.heads, channels // self.heads, length).transpose(2, 3)  # (B, H, T, D)

    def _spread(self, by_distance: Tensor) -> Tensor:
        """(B, H, T, 2w + 1) by distance -> (B, H, T, T) by position, zero beyond the window."""
        length = by_distance.shape[2]
        at = torch.arange(length, device=by_distance.device)
        distance = at[None, :] - at[:, None]  # (T, T)
        row = (distance.clamp(-self.window, self.window) + self.window).expand(*by_distance.shape[:2], -1, -1)
        return by_distance.gather(3, row) * (distance.abs() <= self.window)

    def _near(self, weights: Tensor) -> Tensor:
        """(B, H, T, T) by position -> (B, H, T, 2w + 1) by distance."""
        length, rows = weights.shape[2], 2 * self.window + 1
        at = torch.arange(length, device=weights.device)[:, None] + torch.arange(rows, device=weights.device)
        return F.pad(weights, (self.window, self.window)).gather(3, at.expand(*weights.shape[:2], -1, -1))


class FeedForward(nn.Module):
    """Two convolutions over time with a ReLU between."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.pad = ((sizes.kernel - 1) // 2, sizes.kernel // 2)
        self.conv_1 = nn.Conv1d(sizes.channels, sizes.inner, sizes.kernel)
        self.conv_2 = nn.Conv1d(sizes.inner, sizes.channels, sizes.kernel)
        self.drop = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.drop(torch.relu(self.conv_1(F.pad(masked(x, mask), self.pad))))  # (B, inner, T)
        return masked(self.conv_2(F.pad(masked(x, mask), self.pad)), mask)


class Encoder(nn.Module):
    """Layers of self-attention and feed-forward over one sequence."""

    def __init__(self, sizes: EncoderSizes, layers: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(sizes.dropout)
        self.attn_layers = nn.ModuleList(
            Attention(sizes.channels, sizes.heads, sizes.window, sizes.dropout) for _ in range(layers)
        )
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(sizes.channels) for _ in range(layers))
        self.ffn_layers = nn.ModuleList(FeedForward(sizes) for _ in range(layers))
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(sizes.channels) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, T), mask (B, 1, T) -> (B, C, T)."""
        pairs = None if mask is None else mask.unsqueeze(2) * mask.unsqueeze(3)  # (B, 1, T, T)
        x = masked(x, mask)
        layers = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True)
        for attention, norm_1, feed_forward, norm_2 in layers:
            x = norm_1(x + self.drop(attention(x, x, pairs)))
            x = norm_2(x + self.drop(feed_forward(x, mask)))
        return masked(x, mask)
