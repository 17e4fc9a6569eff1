"""The judges of s2's training: one hears the waveform, the others every 2nd, 3rd, 5th … sample of it (HiFi-GAN).

Names follow the official `s2D*.pth`. Axes: B batch, C channels, S samples.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from appliance.engine.gpt_sovits.convolutions import NormedConv1d, NormedConv2d

SLOPE = 0.1
PERIODS = (2, 3, 5, 7, 11)
PRO_PERIODS = (*PERIODS, 17, 23)
WIDTHS = (1, 32, 128, 512, 1024, 1024)


class Verdict(NamedTuple):
    score: Tensor  # (B, n), 1 = real
    features: list[Tensor]  # of every layer, the last included


class ScaleJudge(nn.Module):
    """Grouped convolutions over the waveform itself."""

    LAYERS = ((1, 16, 15, 1, 1), (16, 64, 41, 4, 4), (64, 256, 41, 4, 16), (256, 1024, 41, 4, 64))
    MORE_LAYERS = ((1024, 1024, 41, 4, 256), (1024, 1024, 5, 1, 1))

    def __init__(self, narrowing: int = 1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(self._layer(narrowing, *sizes) for sizes in self.LAYERS + self.MORE_LAYERS)
        self.conv_post = NormedConv1d(_narrowed(1024, narrowing), 1, 3, padding=1)

    @staticmethod
    def _layer(narrowing: int, inside: int, outside: int, kernel: int, stride: int, groups: int) -> NormedConv1d:
        inside, outside = _narrowed(inside, narrowing), _narrowed(outside, narrowing)
        parts = math.gcd(groups, inside, outside)
        return NormedConv1d(inside, outside, kernel, stride=stride, groups=parts, padding=kernel // 2)

    def forward(self, x: Tensor) -> Verdict:
        """(B, 1, S)."""
        return _judge(x, self.convs, self.conv_post)


class PeriodJudge(nn.Module):
    """Folds the waveform into rows of `period` samples and convolves down the columns."""

    def __init__(self, period: int, narrowing: int = 1) -> None:
        super().__init__()
        self.period = period
        pairs = list(pairwise(_narrowed(width, narrowing) for width in WIDTHS))
        self.convs = nn.ModuleList(
            NormedConv2d(inside, outside, (5, 1), stride=(1 if i + 1 == len(pairs) else 3, 1), padding=(2, 0))
            for i, (inside, outside) in enumerate(pairs)
        )
        self.conv_post = NormedConv2d(pairs[-1][1], 1, (3, 1), padding=(1, 0))

    def forward(self, x: Tensor) -> Verdict:
        """(B, 1, S); the end is mirrored up to a whole row."""
        x = F.pad(x, (0, -x.shape[2] % self.period), mode="reflect")
        return _judge(x.unflatten(2, (-1, self.period)), self.convs, self.conv_post)


class Discriminator(nn.Module):
    """All judges: scale first, then one per period. `narrowing` divides their widths; official ones have 1."""

    def __init__(self, periods: tuple[int, ...] = PERIODS, narrowing: int = 1) -> None:
        super().__init__()
        judges = [ScaleJudge(narrowing), *(PeriodJudge(period, narrowing) for period in periods)]
        self.discriminators = nn.ModuleList(judges)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Discriminator:
        """In float32, ready to learn; periods and widths as the tensors show. Raises KeyError, RuntimeError."""
        count = len({name.split(".")[1] for name in tensors})
        narrowing = 1024 // tensors["discriminators.0.conv_post.weight_v"].shape[1]
        judges = cls(PERIODS if count <= len(PERIODS) + 1 else PRO_PERIODS, narrowing)
        judges.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return judges

    def forward(self, x: Tensor) -> list[Verdict]:
        """(B, 1, S) -> one verdict per judge."""
        return [judge(x) for judge in self.discriminators]


def _narrowed(width: int, narrowing: int) -> int:
    return max(1, width // narrowing)


def _judge(x: Tensor, layers: nn.ModuleList, last: nn.Module) -> Verdict:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    x = last(x)
    return Verdict(x.flatten(1), [*features, x])
