"""Logits -> the next speech token, in the order of operations that the official service uses.

Penalty for repetition, top-p, temperature, top-k, softmax, then the draw argmax(p / q) with q exponential. The order
matters: top-p looks at logits before the temperature, and drops the token that crosses the threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Noise = Callable[[int], Tensor]  # count -> (count,) exponential numbers with rate 1, on the CPU


@dataclass(frozen=True)
class SamplingSettings:
    """How freely tokens are drawn; the defaults are the official service's."""

    top_k: int = 15  # 0 keeps all
    top_p: float = 1.0
    temperature: float = 1.0
    repetition_penalty: float = 1.35


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that were there before less likely, each once: (v,) logits, (v,) bool."""
    if penalty == 1.0:
        return logits
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def probabilities(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """Penalised logits (v,) -> what to draw from, (v,)."""
    if settings.top_p < 1.0:
        logits = _keep_likely(logits, settings.top_p)
    logits = logits / max(settings.temperature, 1e-5)
    if 0 < settings.top_k < len(logits):
        least = torch.topk(logits, settings.top_k).values[-1]
        logits = logits.masked_fill(logits < least, -torch.inf)  # ties stay
    return torch.softmax(logits, dim=-1)


def draw(likely: Tensor, noise: Tensor) -> int:
    """A token with probability `likely` (v,), decided by exponential `noise` (v,)."""
    return int(torch.argmax(likely / noise))


def seeded_noise(seed: int) -> Noise:
    """Noise of one request, from a generator of its own: who else speaks does not change it."""
    generator = torch.Generator().manual_seed(seed)
    return lambda count: torch.empty(count).exponential_(1.0, generator=generator)


def _keep_likely(logits: Tensor, top_p: float) -> Tensor:
    ordered, index = torch.sort(logits, descending=True)
    is_beyond = torch.cumsum(torch.softmax(ordered, dim=-1), dim=-1) > top_p
    is_beyond[0] = False
    return logits.masked_fill(torch.zeros_like(is_beyond).scatter(0, index, is_beyond), -torch.inf)
