"""What the training of GPT-SoVITS minimises. Everything is computed in float32, whatever the networks ran in.

Axes: b, B batch; r rows that predict a token; v vocabulary; C channels; T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from appliance.engine.gpt_sovits.discriminator import Verdict
from appliance.engine.gpt_sovits.sovits import Learned

PREFERENCE_SHARPNESS = 0.2
TOP = 3
MEL_WEIGHT = 45.0
FEATURE_WEIGHT = 2.0

# ---------------------------------------------------------------- s1


class Prediction(NamedTuple):
    """What s1 said about every row, and what should have been said."""

    logits: Tensor  # (b, r, v)
    targets: Tensor  # (b, r) ids


def token_loss(said: Prediction) -> Tensor:
    """Cross-entropy in nats, summed over all rows of all items; padding counts, as ends."""
    return functional.cross_entropy(said.logits.float().flatten(0, 1), said.targets.flatten(), reduction="sum")


def sequence_likelihood(said: Prediction) -> Tensor:
    """(b,) log-probability of each item's targets: the sum over its rows."""
    likely = said.logits.float().log_softmax(dim=-1)
    return likely.gather(-1, said.targets.unsqueeze(-1)).sum(dim=(1, 2))


def preference_loss(chosen: Prediction, rejected: Prediction, sharpness: float = PREFERENCE_SHARPNESS) -> Tensor:
    """DPO without a reference network: mean of -ln sigmoid(sharpness * (ln p(chosen) - ln p(rejected)))."""
    lead = sequence_likelihood(chosen) - sequence_likelihood(rejected)  # (b,)
    return -functional.logsigmoid(sharpness * lead).mean()


@torch.no_grad()
def top_accuracy(said: Prediction, end: int, top: int = TOP) -> float:
    """0..1: how often the target is among the `top` likeliest tokens; rows that should say `end` do not count."""
    counted = said.targets != end
    hits = (said.logits.topk(top, dim=-1).indices == said.targets.unsqueeze(-1)).any(dim=-1) & counted
    return float(hits.sum() / counted.sum().clamp(min=1))


# ---------------------------------------------------------------- s2


def judging_losses(on_real: Sequence[Verdict], on_made: Sequence[Verdict]) -> tuple[Tensor, Tensor]:
    """What the judges minimise, (judges,) each for recorded and for made sound: recorded is 1, made is 0."""
    real = torch.stack([(1 - verdict.score.float()).square().mean() for verdict in on_real])
    made = torch.stack([verdict.score.float().square().mean() for verdict in on_made])
    return real, made


def fooling_losses(on_made: Sequence[Verdict]) -> Tensor:
    """(judges,): how far made sound is from being taken for recorded."""
    return torch.stack([(1 - verdict.score.float()).square().mean() for verdict in on_made])


def feature_loss(on_real: Sequence[Verdict], on_made: Sequence[Verdict]) -> Tensor:
    """Mean difference of each layer of each judge, summed, doubled. Only the made side is taught."""
    pairs = [
        (real.detach().float(), made.float())
        for real_verdict, made_verdict in zip(on_real, on_made, strict=True)
        for real, made in zip(real_verdict.features, made_verdict.features, strict=True)
    ]
    return FEATURE_WEIGHT * torch.stack([(real - made).abs().mean() for real, made in pairs]).sum()


def mel_loss(real: Tensor, made: Tensor) -> Tensor:
    """Log-mel spectrograms (B, bands, T): 45 times the mean difference."""
    return MEL_WEIGHT * (real.float() - made.float()).abs().mean()


def prior_loss(learned: Learned) -> Tensor:
    """KL divergence of the posterior from the prior, at the drawn z: summed over channels, mean over real frames."""
    deviation = learned.log_deviation_prior.float()
    off = learned.z_prior.float() - learned.mean_prior.float()
    divergence = deviation - learned.log_deviation.float() - 0.5 + 0.5 * off.square() * torch.exp(-2.0 * deviation)
    mask = learned.mask.float()
    return (divergence * mask).sum() / mask.sum()
