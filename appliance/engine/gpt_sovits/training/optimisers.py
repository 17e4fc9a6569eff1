"""What moves the weights: ScaledAdam for s1, AdamW in groups for s2. Both are torch optimisers, so their state is
saved and loaded with `state_dict`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

SLOW_PARTS = ("enc_p.text_embedding", "enc_p.encoder_text", "enc_p.mrte")  # what s2 knows of text, learnt more slowly

Group = dict[str, Any]
State = dict[str, Any]


@dataclass(frozen=True)
class ScaledAdamSettings:
    """As upstream trains s1."""

    lr: float = 0.002
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    scale_rate: float = 0.1  # how much slower scales (and single numbers) move than directions
    scale_period: int = 4  # steps between two changes of scale
    least_rms: float = 1e-5  # a tensor below is not shrunk, and moves as if it were this large
    most_rms: float = 3.0  # a tensor above is shrunk
    most_scalar: float = 10.0  # bound of a parameter that is one number, either sign
    clip: float = 2.0  # gradients above this multiple of their median size count less
    clip_period: int = 1000  # steps the median is taken over; no clipping before


class ScaledAdam(Optimizer):
    """Adam whose steps are relative to the size of a tensor, and which learns that size by itself (after icefall).

    A tensor p with gradient g moves by d, which decays by beta1 a step and takes in (1 - beta1) of
    - direction: -lr * rms(p) * g / sqrt(mean square of g), each element for itself;
    - scale, every 4th step: p * s, where s is an Adam step of `scale_rate` * lr on the gradient of ln(scale), sum(p g).
    A tensor of one number has no direction: it makes a plain Adam step of `scale_rate` * lr.
    rms(p) is refreshed every 4th step, before the direction. There is no bias correction of the first moment, so first
    steps are small. Clipping touches the gradient of the scale only, as in the version that upstream ships.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], settings: ScaledAdamSettings | None = None) -> None:
        super().__init__(parameters, asdict(settings or ScaledAdamSettings()))

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient. `closure` is not supported: ValueError."""
        if closure is not None:
            raise ValueError("ScaledAdam takes no closure")
        for group in self.param_groups:
            taught = [(p, p.grad, self.state[p]) for p in group["params"] if p.grad is not None]
            for p, _, state in taught:
                if not state:
                    state.update(_first_state(p, group))
            factor = _clip_factor(group, taught)
            for p, gradient, state in taught:
                _move(p, gradient, state, group, factor)
        return None


def _clip_factor(group: Group, taught: list[tuple[Tensor, Tensor, State]]) -> float:
    """0..1: 1 until the median of `clip_period` steps is known. The norms are kept with the first parameter."""
    if not taught or taught[0][2]["step"] == 0:
        return 1.0
    kept, period = taught[0][2], int(group["clip_period"])
    step: int = kept["step"]
    sizes = [(gradient * state.get("rms", 1.0)).square().sum() for _, gradient, state in taught]
    norm = torch.stack(sizes).sum().sqrt()  # in units of each tensor's own size
    norms: Tensor = kept.setdefault("norms", torch.zeros(period, device=norm.device))
    norms[step % period] = norm
    if step % period == 0:
        kept["norm_limit"] = group["clip"] * float(norms.sort().values[period // 4 * 2])
    limit: float | None = kept.get("norm_limit")
    return 1.0 if limit is None else min(1.0, limit / (float(norm) + 1e-20))


def _first_state(p: Tensor, group: Group) -> State:
    state: State = {"step": 0, "move": torch.zeros_like(p), "square": torch.zeros_like(p)}
    if p.numel() > 1:
        state["rms"] = p.square().mean().sqrt()
        state["scale_gradients"] = torch.zeros(group["scale_period"], dtype=p.dtype, device=p.device)
        state["scale_square"] = torch.zeros_like(state["rms"])
    return state


def _move(p: Tensor, gradient: Tensor, state: State, group: Group, factor: float) -> None:
    state["move"].mul_(group["betas"][0])
    state["square"].lerp_(gradient.square(), 1 - group["betas"][1])
    if "rms" in state:
        _note_scale(p, (p * gradient).sum() * factor, state, group)
        _add_direction(gradient, state, group)
    else:
        _add_scalar(gradient, state, group)
        p.clamp_(-group["most_scalar"], group["most_scalar"])
    p.add_(state["move"])
    state["step"] += 1


def _note_scale(p: Tensor, gradient: Tensor, state: State, group: Group) -> None:
    """Keeps the `gradient` of the scale, one number; at the end of a period, moves the scale."""
    period, gradients = group["scale_period"], state["scale_gradients"]
    place = state["step"] % period
    gradients[place] = gradient
    if place != period - 1:
        return
    state["rms"].copy_(p.square().mean().sqrt())
    decay = group["betas"][1] ** period  # one decay per period is worth `period` decays per step
    state["scale_square"].lerp_(gradients.square().mean(), 1 - decay)
    correction = 1 - decay ** ((state["step"] + 1) // period)
    rate = group["lr"] * group["scale_rate"]
    change = -rate * correction**0.5 * gradients.sum() / (state["scale_square"].sqrt() + group["eps"])
    change = torch.where(state["rms"] < group["least_rms"], torch.zeros_like(change), change)
    change = torch.where(state["rms"] > group["most_rms"], torch.full_like(change, -rate * period), change)
    state["move"].add_(p * change, alpha=1 - group["betas"][0])


def _add_direction(gradient: Tensor, state: State, group: Group) -> None:
    beta1, beta2 = group["betas"]
    correction = 1 - beta2 ** (state["step"] + 1)
    square = state["square"] / correction if correction < 0.99 else state["square"]
    reach = group["lr"] * (1 - beta1) * state["rms"].clamp(min=group["least_rms"])
    state["move"].sub_(gradient / (square.sqrt() + group["eps"]) * reach)


def _add_scalar(gradient: Tensor, state: State, group: Group) -> None:
    beta1, beta2 = group["betas"]
    square = state["square"] / (1 - beta2 ** (state["step"] + 1))
    rate = group["lr"] * group["scale_rate"]
    state["move"].sub_(gradient / (square.sqrt() + group["eps"]), alpha=rate * (1 - beta1))


@dataclass(frozen=True)
class SoundRates:
    """How s2 and its judges learn."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.8, 0.99)
    eps: float = 1e-9
    weight_decay: float = 0.01
    text_share: float = 0.4  # of `lr`, for `SLOW_PARTS`; 0.2 to 0.6 is usual


def adamw_of_generator(network: nn.Module, rates: SoundRates) -> AdamW:
    """The text side in groups of its own, at `text_share` of the rate; parameters without gradient stay as they are."""
    parts: dict[str, list[nn.Parameter]] = {part: [] for part in ("", *SLOW_PARTS)}
    for name, parameter in network.named_parameters():
        owner = next((part for part in SLOW_PARTS if name.startswith(f"{part}.")), "")
        parts[owner].append(parameter)
    groups = [
        {"params": members, "lr": rates.lr * rates.text_share if part else rates.lr} for part, members in parts.items()
    ]
    return AdamW(groups, lr=rates.lr, betas=rates.betas, eps=rates.eps, weight_decay=rates.weight_decay)


def adamw_of_judges(network: nn.Module, rates: SoundRates) -> AdamW:
    return AdamW(network.parameters(), lr=rates.lr, betas=rates.betas, eps=rates.eps, weight_decay=rates.weight_decay)
