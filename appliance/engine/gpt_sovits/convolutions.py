"""Convolutions whose weight is stored as a length per row and a direction (weight normalisation).

The official files keep the pair `weight_g`, `weight_v`; training moves both. For serving, `fold` multiplies them once.
"""

# torch types some functions as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class _Normed(nn.Module):
    """Mixed into a convolution: `weight` becomes `weight_g * weight_v / |weight_v|`, one length per row of axis 0."""

    weight_g: nn.Parameter
    weight_v: nn.Parameter
    weight: Tensor  # only before and after: of the plain convolution, and once folded

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        weight = self.weight.detach()
        del self.weight
        self.weight_g = nn.Parameter(_row_lengths(weight))
        self.weight_v = nn.Parameter(weight)
        self.is_folded = False

    def kernel(self) -> Tensor:
        """The weight to convolve with, in float32 even if the pair is stored in half precision."""
        if self.is_folded:
            return self.weight
        direction = self.weight_v.float()
        return direction * (self.weight_g.float() / _row_lengths(direction))

    def fold(self) -> None:
        """Multiply once and forget the pair; the module cannot be trained any more. Idempotent."""
        if self.is_folded:
            return
        with torch.no_grad():
            weight = self.kernel().contiguous()
        del self.weight_g, self.weight_v
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.is_folded = True


def _row_lengths(weight: Tensor) -> Tensor:
    """(rows, …) -> (rows, 1, …). For transposed convolutions the rows are the input channels. Of a weight without
    numbers only the sizes: PyTorch would import a second's worth of itself to find them out.
    """
    if weight.is_meta:
        return weight.new_empty(weight.shape[0], *[1] * (weight.dim() - 1))
    return torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())), keepdim=True)


class NormedConv1d(_Normed, nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.kernel(), self.bias, self.stride, self.padding, self.dilation, self.groups)


class NormedConv2d(_Normed, nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), self.bias, self.stride, self.padding, self.dilation, self.groups)


class NormedConvTranspose1d(_Normed, nn.ConvTranspose1d):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # the length is always the natural one
        return F.conv_transpose1d(x, self.kernel(), self.bias, self.stride, self.padding)  # type: ignore[arg-type]


def fold_all(network: nn.Module) -> None:
    """Fold every weight-normed convolution of `network`."""
    for module in network.modules():
        if isinstance(module, _Normed):
            module.fold()
