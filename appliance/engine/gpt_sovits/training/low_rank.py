"""Low-rank additions to s1 (LoRA, E. Hu et al. 2021): W + B A, of which only A and B learn.

They sit on the projections of every block as parametrisations, so that the network computes, speaks and is saved under
its own names; `merged` gives the sums as plain weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from appliance.engine.gpt_sovits.t2s import Attention, TextToSemantic

_PREFIX, _ORIGINAL = "parametrizations.", ".original"


class LowRank(nn.Module):
    """W (rows, columns) -> W + B A. B begins at zero: at first nothing is changed."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        down = torch.randn(rank, columns, generator=generator) / columns**0.5
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(torch.zeros(rows, rank).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def add_low_rank(network: TextToSemantic, rank: int, seed: int) -> list[nn.Parameter]:
    """Freeze `network` and add to it; gives what learns, always in the same order. Raises ValueError for no rank."""
    if rank < 1:
        raise ValueError("a rank is at least 1")
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    learning: list[nn.Parameter] = []
    for module in list(network.h.modules()):
        names = {"in_proj_weight"} if isinstance(module, Attention) else {"weight"} if _is_linear(module) else set()
        for name in names:
            addition = LowRank(getattr(module, name), rank, generator)
            parametrize.register_parametrization(module, name, addition)
            learning += [addition.down, addition.up]
    return learning


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


@torch.no_grad()
def merged(network: TextToSemantic) -> dict[str, Tensor]:
    """The weights under the names that a network without additions has."""
    found: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        owner, is_added, rest = name.partition(_PREFIX)
        if not is_added:
            found[name] = tensor
        elif rest.endswith(_ORIGINAL):
            plain = rest.removesuffix(_ORIGINAL)
            module = network.get_submodule(owner.rstrip(".")) if owner else network
            found[owner + plain] = getattr(module, plain).detach().clone()
    return found
