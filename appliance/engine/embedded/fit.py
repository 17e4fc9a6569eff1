"""Fit the decoder to a voice: which numbers are learned, from what, and how a killed fit goes on where it was.

No transcript and no alignment is needed. The network speaks sentences of its own (the lessons) and is moved until a
speaker encoder takes it for the target and its long-term colour is the target's, while the shape of every lesson over
time, band by band, stays what the unadapted voice made of it: that keeps phones and tones in place. Learned are the
timbre half of the style (128 numbers) and the biases of every AdaIN projection of the decoder (37 396).

A step depends on the seed, its number and the state before it, on nothing else; the state is one file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from appliance.audio.spectra import mel_filters
from appliance.contracts import JsonDict
from appliance.engine.embedded.network import Features, Network
from appliance.engine.embedded.speaker_encoder import SpeakerEncoder
from appliance.engine.embedded.weights import adaptable_names, graph_name

STYLE = "style"
N_FFT, HOP, BANDS, TOP_HZ = 1024, 300, 80, 12_000.0
LOUD_SHARE = 0.6  # of the frames shape the long-term colour
GRADIENT_LIMIT = 5.0
BETAS = (0.8, 0.99)


@dataclass(frozen=True)
class FitSettings:
    """The knobs of a fit; all may be set by `AdaptTask.options`."""

    steps: int = 100
    lessons: int = 24  # sentences, of those that `adapt.LESSONS` holds
    speaker_weight: float = 3.0
    content_weight: float = 1.0
    colour_weight: float = 0.6
    texture_weight: float = 0.6
    states_weight: float = 2.0
    style_weight: float = 0.5
    style_rate: float = 2e-2
    bias_rate: float = 4e-3
    warm_up: int = 5  # steps
    averaging: float = 0.9  # of the weights over the last steps
    checkpoint_every: int = 15  # steps
    earlier_share: float = 0.6  # of the steps, after which a state is set aside for the examination; 0: none
    precision: str = "auto"  # "float32" | "bfloat16" | "auto": the latter where the processor has it


@dataclass(frozen=True)
class Lesson:
    """One sentence the network speaks while it learns."""

    features: Features  # pitch already the target's
    noise: Tensor  # (1, S, 1)
    speech: slice  # samples, without the silence around
    shape: Tensor  # (1, BANDS, frames) of the unadapted voice, see `shape_over_time`


class Target(NamedTuple):
    """What is known of the person."""

    embedding: Tensor  # (256,)
    states: Tensor  # (2, 256) mean and deviation of the speaker encoder's states, see `SpeakerEncoder.listen`
    colour: Tensor  # (2, BANDS) see `long_term_colour`


class LogMel(nn.Module):
    """(B, S) at 24 kHz -> (B, BANDS, frames) log mel magnitudes."""

    filters: Tensor
    window: Tensor

    def __init__(self, sample_rate: int = 24_000) -> None:
        super().__init__()
        filters = torch.from_numpy(mel_filters(sample_rate, N_FFT, BANDS, TOP_HZ).T.copy())
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        magnitude = torch.stft(samples, N_FFT, HOP, window=self.window, return_complex=True).abs()
        return torch.log(self.filters @ magnitude + 2e-3)


def long_term_colour(log_mel: Tensor) -> Tensor:
    """(1, BANDS, frames) -> (2, BANDS): mean and deviation over the louder frames."""
    level = log_mel[0].mean(dim=0)
    loud = log_mel[0][:, level > torch.quantile(level, 1 - LOUD_SHARE)]
    return torch.stack([loud.mean(dim=1), loud.std(dim=1)])


def shape_over_time(log_mel: Tensor) -> Tensor:
    """(1, BANDS, frames) with each band's mean taken away: what is said, without the colour it is said in."""
    return log_mel - log_mel.mean(dim=2, keepdim=True)


def precision_context(precision: str) -> AbstractContextManager[object]:
    """Half precision for the convolutions where the processor multiplies it natively (1.6 times as fast)."""
    wanted = precision == "bfloat16" or (precision == "auto" and _has_native_bfloat16())
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=wanted)


def _has_native_bfloat16() -> bool:
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(probe()) for probe in probes if probe is not None)


class Fit:
    """The learning state: parameters, their running average, the optimiser's moments, and the number of steps done."""

    def __init__(self, network: Network, encoder: SpeakerEncoder, style: Tensor, settings: FitSettings) -> None:
        self.network, self.encoder, self.settings = network, encoder, settings
        self.log_mel = LogMel(network.config.sample_rate)
        self.first_style = style.clone()  # (1, 128)
        biases = dict(network.named_parameters())
        self.parameters: dict[str, Tensor] = {STYLE: style.clone().requires_grad_(True)}
        for name in adaptable_names(network):
            self.parameters[graph_name(name)] = biases[name].requires_grad_(True)
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()}
        style_group = {"params": [self.parameters[STYLE]], "base": settings.style_rate}
        bias_group = {"params": list(self.parameters.values())[1:], "base": settings.bias_rate}
        self.optimiser = torch.optim.Adam([style_group, bias_group], betas=BETAS)
        self.done = 0

    def render(self, features: Features, noise: Tensor, style: Tensor | None = None) -> Tensor:
        """(1, S) of one sentence in the present voice."""
        with precision_context(self.settings.precision):
            return self.network.decode(features, self.parameters[STYLE] if style is None else style, noise).float()

    def step(self, lessons: list[Lesson], target: Target, seed: int) -> dict[str, float]:
        """One lesson, one move. Returns the parts of the loss."""
        lesson = lessons[_pick(len(lessons), self.done, seed)]
        loss, parts = self._loss(lesson, target)
        self._set_rates()
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), GRADIENT_LIMIT)
        self.optimiser.step()
        self.done += 1
        self._update_average()
        return parts

    def _loss(self, lesson: Lesson, target: Target) -> tuple[Tensor, dict[str, float]]:
        samples = self.render(lesson.features, lesson.noise)
        log_mel = self.log_mel(samples)
        weights = self.settings
        embedding, states = self.encoder.listen(samples[:, lesson.speech])
        colour = (long_term_colour(log_mel) - target.colour).abs().mean(dim=1)
        parts = {
            "speaker": 1 - embedding[0] @ target.embedding,
            "states": (states[0] - target.states).abs().mean(),
            "content": (shape_over_time(log_mel) - lesson.shape).abs().mean(),
            "colour": colour[0],
            "texture": colour[1],
            "style": (self.parameters[STYLE] - self.first_style).square().mean(),
        }
        loss = torch.stack([getattr(weights, f"{name}_weight") * value for name, value in parts.items()]).sum()
        return loss, {name: float(value.detach()) for name, value in parts.items()}

    def _set_rates(self) -> None:
        """A short warm-up, then a half cosine down to a twentieth."""
        steps, warm_up = self.settings.steps, self.settings.warm_up
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, self.done / steps)))
        factor = min(1.0, (self.done + 1) / warm_up) * (0.05 + 0.95 * falling)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * factor

    def _update_average(self) -> None:
        decay = min(self.settings.averaging, self.done / (self.done + 9))  # short at first, so the start is forgotten
        with torch.no_grad():
            for name, value in self.parameters.items():
                self.average[name].lerp_(value, 1 - decay)

    def use_average(self) -> None:
        """Put the averaged numbers in place, for the final renders. The fit cannot go on after this."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(self.average[name])
                value.requires_grad_(False)

    # ------------------------------------------------------------ the state as one file

    def save(self, path: Path, fingerprint: str) -> None:
        """Write everything a later process needs to go on, in one atomic file."""
        tensors: dict[str, Tensor] = {}
        for name, value in self.parameters.items():
            moments = self.optimiser.state.get(value, {})
            tensors[f"now/{name}"] = value.detach()
            tensors[f"average/{name}"] = self.average[name]
            tensors |= {f"{key}/{name}": moment for key, moment in moments.items()}
        write_tensors(path, tensors, {"fingerprint": fingerprint, "done": self.done})

    def load(self, path: Path, fingerprint: str) -> bool:
        """Go on from `path`; False when there is nothing there that belongs to this fit."""
        found = read_tensors(path, fingerprint)
        if found is None:
            return False
        tensors, record = found
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(tensors[f"now/{name}"])
                self.average[name].copy_(tensors[f"average/{name}"])
                self.optimiser.state[value] = {
                    key: tensors[f"{key}/{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
                }
        self.done = int(record["done"])
        return True


def _pick(count: int, step: int, seed: int) -> int:
    """Every lesson once per round, each round in an order of its own."""
    order = np.random.default_rng([seed, step // count]).permutation(count)
    return int(order[step % count])


def write_tensors(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, object]) -> None:
    """A safetensors file with `record` as JSON beside the tensors: temporary name, fsync, rename."""
    from safetensors.torch import save

    content = save({name: value.contiguous() for name, value in tensors.items()}, {"record": json.dumps(record)})
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_tensors(path: Path, fingerprint: str) -> tuple[dict[str, Tensor], JsonDict] | None:
    """What `write_tensors` wrote, or None when the file is absent, damaged, or of another fit."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {})["record"])
            if record.get("fingerprint") != fingerprint:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118
    except (OSError, KeyError, ValueError, SafetensorError):
        return None
