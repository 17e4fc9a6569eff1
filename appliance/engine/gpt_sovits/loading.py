"""Tensors of a file -> a network that is ready to run, with nothing missing and nothing unknown left over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Network = TypeVar("Network", bound=nn.Module)

# The two names that a weight-normed layer's length and direction go by; newer PyTorch writes the second kind.
NORMED_NAMES = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


class _Undrawn(TorchFunctionMode):
    """Under it no first weights are drawn."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.__name__ in ("uniform_", "normal_", "kaiming_uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_numbers() -> Iterator[None]:
    """Networks made under it have sizes only: their numbers come from a file. Drawing first ones, even of tensors that
    hold nothing, would cost PyTorch a second.
    """
    with torch.device("meta"), _Undrawn():
        yield


def load_strictly(network: Network, tensors: Mapping[str, Tensor], unused: Sequence[str] = ()) -> Network:
    """`network` with `tensors`, in float32 and without gradients. It may have been made `without_numbers`.

    Names that begin with one of `unused` are left out: parts of the file that have no work here. All others must be
    the network's own. Raises RuntimeError that names what is missing, unknown or of another shape.
    """
    state = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
        if not name.startswith(tuple(unused))
    }
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def read_parts(path: Path, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of a file whose names begin with one of `prefixes`; of all others the sizes only ("meta" tensors).

    Raises OSError, SafetensorError.
    """
    with safe_open(path, "pt") as file:
        names = file.keys()
        found = {name: file.get_tensor(name) for name in names if name.startswith(prefixes)}
        others = {name: file.get_slice(name).get_shape() for name in names if name not in found}
    return found | {name: torch.empty(shape, device="meta") for name, shape in others.items()}


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Names less `prefix` where they have it: the files of a network with a head call the trunk by its name."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each pair of length and direction multiplied into one `.weight`; other tensors stay. Raises KeyError."""
    folded = dict(tensors)
    for length_name, direction_name in NORMED_NAMES:
        for name in [name for name in folded if name.endswith(length_name)]:
            stem = name.removesuffix(length_name)
            folded[f"{stem}.weight"] = _multiply(folded.pop(name), folded.pop(stem + direction_name))
    return folded


def _multiply(length: Tensor, direction: Tensor) -> Tensor:
    """The axes that `length` does not have (size 1) are those that the norm of `direction` runs over."""
    length, direction = length.float(), direction.float()
    axes = [axis for axis in range(direction.dim()) if length.shape[axis] == 1]
    lengths: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
    return direction * (length / lengths)
