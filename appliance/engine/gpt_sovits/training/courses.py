"""The two courses of a fine-tune, as `practice.practise` runs them. What update number n does depends on the weights,
the plan, the clips, the seed and n alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from appliance.engine.gpt_sovits.discriminator import Discriminator
from appliance.engine.gpt_sovits.sovits import Lesson, Synthesizer
from appliance.engine.gpt_sovits.t2s import TextPrompt, TextToSemantic
from appliance.engine.gpt_sovits.training.clips import read_prompt, read_sound_lesson
from appliance.engine.gpt_sovits.training.draws import drawing_from, generator_of
from appliance.engine.gpt_sovits.training.low_rank import add_low_rank, merged
from appliance.engine.gpt_sovits.training.optimisers import ScaledAdam, adamw_of_generator, adamw_of_judges
from appliance.engine.gpt_sovits.training.plans import SoundPlan, TokenPlan
from appliance.engine.gpt_sovits.training.sound_steps import (
    Draws,
    SoundLearners,
    SoundLesson,
    make_slices,
    sound_losses,
    take_sound_step,
)
from appliance.engine.gpt_sovits.training.token_steps import TokenLesson, spoil_tokens, take_token_step, token_losses

Measures = dict[str, float]


class TokenCourse:
    """s1 on clips. `network` is changed."""

    def __init__(
        self, network: TextToSemantic, clips: Sequence[Path], held_out: Sequence[Path], plan: TokenPlan, seed: int
    ) -> None:
        self.network, self.plan, self.seed = network.requires_grad_(True), plan, seed
        self.device = network.bert_proj.weight.device
        self.clips, self.held_out = list(clips), list(held_out)
        self.optimiser = self._make_optimiser()

    def _make_optimiser(self) -> Optimizer:
        if not self.plan.rank:
            return ScaledAdam(self.network.parameters(), self.plan.optimiser)
        return AdamW(add_low_rank(self.network, self.plan.rank, self.seed), lr=self.plan.low_rank_rate)

    def take(self, update: int) -> Measures:
        """Update number `update`, from 0; mean cross-entropy per row in nats, and accuracy 0..1."""
        lessons = [self._lesson(update * self.plan.accumulation + i) for i in range(self.plan.accumulation)]
        with drawing_from(self.seed, update):
            found = take_token_step(self.network, self.optimiser, lessons, self.plan.dropout, self.plan.precision)
        rows = sum(losses.rows for losses in found)
        return {
            "cross_entropy": sum(float(losses.cross_entropy) for losses in found) / rows,
            "preference": sum(float(losses.preference) for losses in found) / len(found),
            "accuracy": sum(losses.accuracy for losses in found) / len(found),
        }

    def _lesson(self, number: int) -> TokenLesson:
        items = [read_prompt(self.clips[i]) for i in _drawn(len(self.clips), self.plan.batch, number, self.seed)]
        rejected: list[Tensor] | None = None
        if self.plan.is_preferring:
            generator = generator_of(self.seed, number, "spoil")
            rejected = [spoil_tokens(item.tokens, generator) for item in items]
        return TokenLesson.of_items(items, rejected).to(self.device)

    @torch.no_grad()
    def measure(self) -> float | None:
        """Nats per row of the held-out clips, without dropout; None where there are none."""
        if not self.held_out:
            return None
        found = [token_losses(self.network, self._alone(read_prompt(path))) for path in self.held_out]
        return sum(float(losses.cross_entropy) for losses in found) / sum(losses.rows for losses in found)

    def _alone(self, item: TextPrompt) -> TokenLesson:
        return TokenLesson.of_items([item]).to(self.device)

    def weights(self) -> dict[str, Tensor]:
        return merged(self.network)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])


class SoundCourse:
    """s2 and its judges on clips. Both are changed; the network has to have its posterior encoder."""

    def __init__(
        self, learners: SoundLearners, clips: Sequence[Path], held_out: Sequence[Path], plan: SoundPlan, seed: int
    ) -> None:
        self.learners, self.plan, self.seed = learners, plan, seed
        self.clips, self.held_out = list(clips), list(held_out)
        self.device = learners.network.ssl_proj.weight.device
        self._optimisers = (learners.optimiser, learners.judges_optimiser)
        self._rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in self._optimisers]

    @classmethod
    def of(
        cls,
        networks: tuple[Synthesizer, Discriminator],
        clips: Sequence[Path],
        held_out: Sequence[Path],
        plan: SoundPlan,
        seed: int,
    ) -> SoundCourse:
        """With the optimisers that `plan` says."""
        network, judges = networks
        optimisers = adamw_of_generator(network, plan.rates), adamw_of_judges(judges, plan.rates)
        return cls(SoundLearners(network, judges, *optimisers, plan.precision), clips, held_out, plan, seed)

    def take(self, update: int) -> Measures:
        self._set_rates(update)
        paths = [self.clips[i] for i in _drawn(len(self.clips), self.plan.batch, update, self.seed)]
        batch = self._batch(paths)
        self.learners.network.train()
        with drawing_from(self.seed, update):
            step = take_sound_step(self.learners, batch, self._draws(batch, update))
        sound = step.sound
        return {
            "judges": float(step.judges.total),
            "fooling": float(sound.fooling.sum()),
            "features": float(sound.features),
            "mel": float(sound.mel),
            "prior": float(sound.prior),
        }

    @torch.no_grad()
    def measure(self) -> float | None:
        """Mel and prior terms of the held-out clips, always with the same draws; None where there are none."""
        if not self.held_out:
            return None
        total = 0.0
        with without_dropout(self.learners.network):
            for number, path in enumerate(self.held_out):
                batch = self._batch([path])
                made = make_slices(self.learners.network, batch, self._draws(batch, 2**31 + number))
                losses = sound_losses(self.learners.judges, made)
                total += float(losses.mel + losses.prior)
        return total / len(self.held_out)

    def _set_rates(self, update: int) -> None:
        factor = self.plan.decay ** (update * self.plan.batch // self.plan.epoch)
        for optimiser, rates in zip(self._optimisers, self._rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _batch(self, paths: Sequence[Path]) -> SoundLesson:
        batch = read_sound_lesson(paths, is_pro=self.learners.network.config.is_pro)
        moved: list[Any] = [None if part is None else part.to(self.device) for part in batch.lesson]
        return SoundLesson(Lesson(*moved), batch.waveform.to(self.device))

    def _draws(self, batch: SoundLesson, number: int) -> Draws:
        count, _, frames = batch.lesson.spectrogram.shape
        shape = (count, self.learners.network.config.inter_channels, frames)
        noise = torch.randn(shape, generator=generator_of(self.seed, number, "noise"))
        uniform = torch.rand(count, generator=generator_of(self.seed, number, "slice"))
        return Draws.of(noise.to(self.device), uniform.to(self.device), batch.lesson.frames)

    def weights(self) -> dict[str, Tensor]:
        return self.learners.network.state_dict()

    def state(self) -> dict[str, Any]:
        parts = self.learners
        return {
            "network": parts.network.state_dict(),
            "judges": parts.judges.state_dict(),
            "optimiser": parts.optimiser.state_dict(),
            "judges_optimiser": parts.judges_optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        for name, saved in state.items():
            getattr(self.learners, name).load_state_dict(saved)


def _drawn(count: int, batch: int, number: int, seed: int) -> list[int]:
    """Batch `number` of an endless shuffle in which every round holds each of `count` items once."""
    places = range(number * batch, (number + 1) * batch)
    orders = {
        turn: torch.randperm(count, generator=generator_of(seed, turn, "order")).tolist()
        for turn in {place // count for place in places}
    }
    return [orders[place // count][place % count] for place in places]


@contextmanager
def without_dropout(network: nn.Module) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
