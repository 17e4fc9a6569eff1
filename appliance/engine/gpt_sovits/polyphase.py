"""Transposed convolutions as ordinary ones: what runtimes compute fast, with the same numbers.

A transposed convolution of stride u puts the taps q = r + padding + d·u of its kernel on every output of phase r
(r = 0 .. u-1), which reads input n - d. So its outputs are u·C channels of one ordinary convolution over the inputs,
interleaved. (Polyphase decomposition of an interpolation filter.)
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import copy

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from appliance.engine.gpt_sovits.convolutions import NormedConvTranspose1d
from appliance.engine.gpt_sovits.generator import Generator


class PolyphaseConv1d(nn.Module):
    """Computes what a folded transposed convolution does, for lengths times its stride."""

    def __init__(self, transposed: NormedConvTranspose1d) -> None:
        super().__init__()
        taps, rate, padding = transposed.kernel_size[0], transposed.stride[0], int(transposed.padding[0])
        if taps - 2 * padding != rate:
            raise ValueError(f"kernel {taps} with padding {padding} does not give {rate} outputs for each input")
        kernel = transposed.kernel()  # (inside, outside, taps)
        first, last = -((rate - 1 + padding) // rate), (taps - 1 - padding) // rate  # delays that meet any tap
        inside, outside = kernel.shape[:2]
        weight = kernel.new_zeros(rate, outside, inside, last - first + 1)
        for phase in range(rate):
            for delay in range(first, last + 1):
                tap = phase + padding + delay * rate
                if 0 <= tap < taps:
                    weight[phase, :, :, last - delay] = kernel[:, :, tap].T
        bias = kernel.new_zeros(outside) if transposed.bias is None else transposed.bias.detach()
        self.rate, self.outside = rate, outside
        self.around = (last, -first)  # zeros before and after the input
        self.weight = nn.Parameter(weight.flatten(0, 1), requires_grad=False)  # (rate * outside, inside, delays)
        self.bias = nn.Parameter(bias.repeat(rate), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(1, inside, T) -> (1, outside, rate * T)."""
        phases = F.conv1d(F.pad(x, self.around), self.weight, self.bias)
        return phases.view(self.rate, self.outside, -1).permute(1, 2, 0).reshape(1, self.outside, -1)


def with_polyphase(generator: Generator) -> Generator:
    """A vocoder that shares all weights with folded `generator`, but upsamples by ordinary convolutions."""
    twin = copy.copy(generator)
    twin._modules = dict(generator._modules)  # a shallow copy shares this table: the original keeps its own stages
    twin.ups = nn.ModuleList(PolyphaseConv1d(up) for up in generator.ups if isinstance(up, NormedConvTranspose1d))
    return twin
