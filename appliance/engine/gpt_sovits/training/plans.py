"""How much training a recording deserves, and at what rates.

The amounts are upstream's habit, not a finding of ours: it repeats a small set until an epoch has about a hundred
clips, hears that 8 times with s2 and 15 times with s1. Held-out clips end the training earlier where it stops helping.

Seconds per update at the official size, clips of 5 s, float32: on an H100 0.27 (s1, 12 clips an update) and 0.31 (s2, 8
clips); on one thread of a busy two-core box 22 (s1, 8 clips) and 24 (s2, 2 clips). Without a GPU the whole habit would
take hours, so a quarter of it is planned there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from appliance.engine.gpt_sovits.training.optimisers import ScaledAdamSettings, SoundRates
from appliance.engine.gpt_sovits.training.token_steps import DROPOUT

CLIPS_OF_AN_EPOCH = 100
SOUND_EPOCHS, TOKEN_EPOCHS = 8, 15
FEW_MINUTES, MANY_MINUTES = 10.0, 60.0  # between them the epochs sink to a half
TOKEN_ACCUMULATION = 4
SHARE_WITHOUT_GPU = 0.25


@dataclass(frozen=True)
class Rhythm:
    """Of one course, counted in updates."""

    updates: int
    save_every: int
    measure_every: int
    patience: int  # measurements without a better one until the course ends early

    def __post_init__(self) -> None:
        if min(self.updates, self.save_every, self.measure_every, self.patience) < 1:
            raise ValueError("updates, save_every, measure_every and patience are at least 1")


@dataclass(frozen=True)
class TokenPlan:
    """s1."""

    rhythm: Rhythm
    batch: int  # clips per pass
    accumulation: int = TOKEN_ACCUMULATION  # passes per update; their gradients are added
    optimiser: ScaledAdamSettings = field(default_factory=ScaledAdamSettings)
    dropout: float = DROPOUT
    precision: str = "float32"
    rank: int = 0  # of low-rank additions that learn instead of the weights themselves; 0 = the weights learn
    low_rank_rate: float = 1e-3  # of AdamW, which moves the additions
    is_preferring: bool = False  # also learn to prefer the truth to a spoilt answer: twice the time and memory


@dataclass(frozen=True)
class SoundPlan:
    """s2."""

    rhythm: Rhythm
    batch: int
    rates: SoundRates = field(default_factory=SoundRates)
    decay: float = 0.999875  # of all rates, per epoch
    epoch: int = CLIPS_OF_AN_EPOCH  # clips
    precision: str = "float32"


@dataclass(frozen=True)
class TrainingPlan:
    tokens: TokenPlan
    sound: SoundPlan
    seed: int = 1234
    held_out: float = 0.1  # share of the clips that are never trained on; none of fewer than five


def plan_training(minutes: float, clips: int, *, is_gpu: bool = False, seed: int = 1234) -> TrainingPlan:
    """Defaults for `clips` clips of `minutes` in all. Raises ValueError where there is nothing to train on."""
    if clips < 1 or not minutes > 0:
        raise ValueError("a plan needs at least one clip")
    epoch = clips if clips >= CLIPS_OF_AN_EPOCH else clips * max(2, CLIPS_OF_AN_EPOCH // clips)
    share = _share_of_epochs(minutes)
    sound_batch = min(clips, 8 if is_gpu else 2)
    token_batch = max(1, min(8 if is_gpu else 2, clips // 4))
    share *= 1.0 if is_gpu else SHARE_WITHOUT_GPU
    sound = math.ceil(SOUND_EPOCHS * share * epoch / sound_batch)
    tokens = math.ceil(TOKEN_EPOCHS * share * epoch / (token_batch * TOKEN_ACCUMULATION))
    return TrainingPlan(
        tokens=TokenPlan(rhythm_of(tokens), token_batch),
        sound=SoundPlan(rhythm_of(sound), sound_batch, epoch=epoch),
        seed=seed,
    )


def _share_of_epochs(minutes: float) -> float:
    """1 for a few minutes, 0.5 for an hour and more, logarithmic between."""
    place = math.log(minutes / FEW_MINUTES) / math.log(MANY_MINUTES / FEW_MINUTES)
    return 1.0 - 0.5 * min(1.0, max(0.0, place))


def rhythm_of(updates: int) -> Rhythm:
    """Twenty measurements and as many checkpoints; a quarter of the course without progress ends it."""
    every = max(1, updates // 20)
    return Rhythm(updates, save_every=every, measure_every=every, patience=5)
