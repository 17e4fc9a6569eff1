"""One training step of s2: first the judges learn to tell recorded from made sound, then the network learns to fool
them, to match mel spectrograms and to make the prior fit the posterior.

All random draws are arguments (`Draws`), but dropout: see `draws.drawing_from`.
Axes: B batch, T frames of 20 ms, S = 640 T samples at 32 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from appliance.engine.gpt_sovits.discriminator import Discriminator
from appliance.engine.gpt_sovits.sovits import Learned, Lesson, Synthesizer
from appliance.engine.gpt_sovits.spectrogram import MEL_V2, mel_from_spectrogram, mel_spectrogram
from appliance.engine.gpt_sovits.training.devices import computing_in
from appliance.engine.gpt_sovits.training.losses import (
    feature_loss,
    fooling_losses,
    judging_losses,
    mel_loss,
    prior_loss,
)

SLICE_FRAMES = 32  # what is voiced and judged of each clip: 0.64 s
HOP = MEL_V2.spectrum.hop


@dataclass(frozen=True)
class SoundLesson:
    lesson: Lesson
    waveform: Tensor  # (B, 1, S) float, 640 samples a frame


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step."""

    noise: Tensor  # (B, inter, T) standard normal
    starts: Tensor  # (B,) first frame of each slice

    @classmethod
    def of(cls, noise: Tensor, uniform: Tensor, frames: Tensor) -> Draws:
        """`uniform` (B,) in 0 .. 1 places the slice within each clip's `frames`; shorter clips start at 0."""
        room = (frames - SLICE_FRAMES + 1).clamp(min=1)
        return cls(noise, (uniform * room).long().clamp(max=room - 1))


@dataclass(frozen=True)
class SoundLearners:
    """Networks and what moves them."""

    network: Synthesizer
    judges: Discriminator
    optimiser: Optimizer
    judges_optimiser: Optimizer
    precision: str = "float32"  # of the generator and the judges, which cost most; see `devices.PRECISIONS`


class Made(NamedTuple):
    """One pass of the network, and the slices it is held against."""

    learned: Learned
    made: Tensor  # (B, 1, 640 * SLICE_FRAMES)
    real: Tensor  # the same stretch, recorded
    made_mel: Tensor  # (B, bands, SLICE_FRAMES)
    real_mel: Tensor


class JudgeLosses(NamedTuple):
    real: Tensor  # (judges,)
    made: Tensor  # (judges,)

    @property
    def total(self) -> Tensor:
        return (self.real + self.made).sum()


class SoundLosses(NamedTuple):
    fooling: Tensor  # (judges,)
    features: Tensor
    mel: Tensor
    prior: Tensor

    @property
    def total(self) -> Tensor:
        return self.fooling.sum() + self.features + self.mel + self.prior


def make_slices(network: Synthesizer, batch: SoundLesson, draws: Draws, precision: str = "float32") -> Made:
    """Listen to the whole clips, voice one slice of each. Gradients reach all but the tokens' quantiser.

    Raises ValueError where the batch is shorter than a slice.
    """
    if batch.lesson.spectrogram.shape[2] < SLICE_FRAMES:
        raise ValueError(f"a batch has at least {SLICE_FRAMES} frames")
    learned = network.learn(batch.lesson, draws.noise)
    with computing_in(precision, draws.noise.device):
        made = network.dec(_cut(learned.z, draws.starts, SLICE_FRAMES), learned.ge)
    made = made.float()
    real = _cut(batch.waveform, draws.starts * HOP, SLICE_FRAMES * HOP)
    made_mel = mel_spectrogram(made.squeeze(1))
    real_mel = _cut(mel_from_spectrogram(batch.lesson.spectrogram.float()), draws.starts, SLICE_FRAMES)
    return Made(learned, made, real, made_mel, real_mel)


def judge_losses(judges: Discriminator, made: Made, precision: str = "float32") -> JudgeLosses:
    with computing_in(precision, made.real.device):
        on_real, on_made = judges(made.real), judges(made.made.detach())
    return JudgeLosses(*judging_losses(on_real, on_made))


def sound_losses(judges: Discriminator, made: Made, precision: str = "float32") -> SoundLosses:
    """The judges as they are now; they are not taught by these terms."""
    with _untaught(judges), computing_in(precision, made.real.device):
        with torch.no_grad():
            on_real = judges(made.real)
        on_made = judges(made.made)
    return SoundLosses(
        fooling=fooling_losses(on_made),
        features=feature_loss(on_real, on_made),
        mel=mel_loss(made.real_mel, made.made_mel),
        prior=prior_loss(made.learned),
    )


class SoundStep(NamedTuple):
    """What one step found; nothing of it has a graph any more."""

    judges: JudgeLosses
    sound: SoundLosses


def take_sound_step(learners: SoundLearners, batch: SoundLesson, draws: Draws) -> SoundStep:
    """Judges first; the losses of the network are those under the judges after their step."""
    made = make_slices(learners.network, batch, draws, learners.precision)
    judged = teach_judges(learners, made)
    sound = teach_network(learners, made)
    return SoundStep(judged, sound)


def teach_judges(learners: SoundLearners, made: Made) -> JudgeLosses:
    learners.judges_optimiser.zero_grad(set_to_none=True)
    losses = judge_losses(learners.judges, made, learners.precision)
    losses.total.backward()
    learners.judges_optimiser.step()
    return JudgeLosses(*(term.detach() for term in losses))


def teach_network(learners: SoundLearners, made: Made) -> SoundLosses:
    learners.optimiser.zero_grad(set_to_none=True)
    losses = sound_losses(learners.judges, made, learners.precision)
    losses.total.backward()
    learners.optimiser.step()
    return SoundLosses(*(term.detach() for term in losses))


def _cut(x: Tensor, starts: Tensor, length: int) -> Tensor:
    """(B, C, T) -> (B, C, length), item i from `starts[i]`."""
    return torch.stack([item[:, start : start + length] for item, start in zip(x, starts.tolist(), strict=True)])


@contextmanager
def _untaught(network: nn.Module) -> Iterator[None]:
    """Gradients flow through `network`, but none is computed for its weights."""
    taught = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in taught:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in taught:
            parameter.requires_grad_(True)
