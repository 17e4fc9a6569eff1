"""One training step of s1: which speech token follows, given all phones and the tokens so far.

Unlike upstream, shorter texts of a batch are padded on the left: then the row that predicts the first token is the last
phone of every item, the mask hides padding and no phone, and positions are those of inference. `TokenLesson` can also
say upstream's layout (padding on the right under the same mask), with which its numbers are reproduced.

Dropout draws from torch's default generator; `drawing_from` of `draws` makes that depend on a seed alone.
Letters: b items, x phones, y speech tokens, n = x + y, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from appliance.engine.gpt_sovits.t2s import Block, TextPrompt, TextToSemantic
from appliance.engine.gpt_sovits.training.devices import computing_in
from appliance.engine.gpt_sovits.training.losses import Prediction, preference_loss, token_loss, top_accuracy

DROPOUT = 0.1


@dataclass(frozen=True)
class TokenLesson:
    """A batch. Tokens are padded on the right, with anything."""

    phones: Tensor  # (b, x) ids
    bert: Tensor  # (b, 1024, x)
    hidden: Tensor  # (b,) columns at the start of the text that nobody sees
    first_position: Tensor  # (b,) position of the first column: -hidden where the padding is there, else 0
    tokens: Tensor  # (b, y) ids
    token_counts: Tensor  # (b,) the longest is y
    rejected: Tensor | None = None  # (b, y') ids of a worse answer, for the preference
    rejected_counts: Tensor | None = None  # (b,)

    @classmethod
    def of_items(cls, items: Sequence[TextPrompt], rejected: Sequence[Tensor] | None = None) -> TokenLesson:
        """Text padded on the left. Raises ValueError for no items, or one without phones or tokens."""
        if not items or any(not len(item.phones) or not len(item.tokens) for item in items):
            raise ValueError("every item of a lesson has phones and tokens")
        longest = max(len(item.phones) for item in items)
        hidden = torch.tensor([longest - len(item.phones) for item in items])
        pads = [(int(count), 0) for count in hidden]
        lesson = cls(
            phones=torch.stack([functional.pad(i.phones, pad) for i, pad in zip(items, pads, strict=True)]),
            bert=torch.stack([functional.pad(i.bert, pad) for i, pad in zip(items, pads, strict=True)]),
            hidden=hidden,
            first_position=-hidden,
            tokens=torch.nn.utils.rnn.pad_sequence([item.tokens for item in items], batch_first=True),
            token_counts=torch.tensor([len(item.tokens) for item in items]),
        )
        if rejected is None:
            return lesson
        padded = torch.nn.utils.rnn.pad_sequence(list(rejected), batch_first=True)
        return replace(lesson, rejected=padded, rejected_counts=torch.tensor([len(row) for row in rejected]))

    def to(self, device: torch.device | str) -> TokenLesson:
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return TokenLesson(**moved)


def spoil_tokens(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """(y,) -> a worse answer: a random stretch is said twice, or is left out; at least one token stays."""
    coin, *ends = torch.rand(3, generator=generator).tolist()
    start, end = sorted(int(u * len(tokens)) for u in ends)
    if coin < 0.5:
        return torch.cat((tokens[:end], tokens[start:]))
    return torch.cat((tokens[:start], tokens[end:])) if end - start < len(tokens) else tokens[:1]


class TokenLosses(NamedTuple):
    total: Tensor  # what is differentiated
    cross_entropy: Tensor  # summed over rows and items
    preference: Tensor  # 0 where the lesson has no rejected answers
    accuracy: float  # 0..1, of the first three guesses
    rows: int  # how many rows `cross_entropy` sums

    def detached(self) -> TokenLosses:
        """The same without the graph, which would hold all activations."""
        terms = (self.total.detach(), self.cross_entropy.detach(), self.preference.detach())
        return TokenLosses(*terms, self.accuracy, self.rows)


def token_losses(
    network: TextToSemantic, lesson: TokenLesson, dropout: float = 0.0, precision: str = "float32"
) -> TokenLosses:
    """All terms of one batch, with gradients. `dropout` is a probability: `DROPOUT` to train, 0 to measure."""
    with computing_in(precision, lesson.phones.device):
        said = predict(network, lesson, lesson.tokens, lesson.token_counts, dropout)
    loss = token_loss(said)
    preference = torch.zeros_like(loss)
    if lesson.rejected is not None and lesson.rejected_counts is not None:
        with computing_in(precision, lesson.phones.device):
            worse = predict(network, lesson, lesson.rejected, lesson.rejected_counts, dropout)
        preference = preference_loss(said, worse)
    accuracy = top_accuracy(said, network.config.end)
    return TokenLosses(loss + preference, loss, preference, accuracy, said.targets.numel())


def take_token_step(
    network: TextToSemantic,
    optimiser: Optimizer,
    lessons: Sequence[TokenLesson],
    dropout: float = DROPOUT,
    precision: str = "float32",
) -> list[TokenLosses]:
    """One update from the summed gradients of `lessons` (gradient accumulation); the losses are of before it."""
    optimiser.zero_grad(set_to_none=True)
    found = []
    for lesson in lessons:
        losses = token_losses(network, lesson, dropout, precision)
        losses.total.backward()
        found.append(losses.detached())
    optimiser.step()
    return found


# ---------------------------------------------------------------- the pass


def predict(
    network: TextToSemantic, lesson: TokenLesson, tokens: Tensor, counts: Tensor, dropout: float = 0.0
) -> Prediction:
    """The whole sequence in one pass. Row 0 is the last phone and predicts the first token; y + 1 rows."""
    inputs, targets = _shift(tokens, counts, network.config.end)
    text = network.ar_text_embedding(lesson.phones) + network.bert_proj(lesson.bert.transpose(1, 2))  # (b, x, d)
    text = functional.dropout(network.ar_text_position(text, lesson.first_position), dropout)
    audio = functional.dropout(network.ar_audio_position(network.ar_audio_embedding(inputs)), dropout)
    allowed = _visible(lesson, counts, inputs.shape[1])
    x = torch.cat((text, audio), dim=1)  # (b, n, d)
    for layer in network.h.layers:
        x = _run_block(cast(Block, layer), x, allowed, dropout)
    logits = network.ar_predict_layer(x[:, lesson.phones.shape[1] - 1 :])
    return Prediction(logits, targets)  # (b, y + 1, v), (b, y + 1)


def _shift(tokens: Tensor, counts: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """(b, y) -> what goes in (b, y), and what should come out (b, y + 1): the tokens, then ends up to the edge."""
    longer = functional.pad(tokens, (0, 1))
    is_over = torch.arange(longer.shape[1], device=tokens.device) >= counts[:, None]
    targets = longer.masked_fill(is_over, end)
    return targets[:, :-1], targets


def _visible(lesson: TokenLesson, counts: Tensor, audio: int) -> Tensor:
    """Which columns each row may look at, (b, 1, n, n): text sees text, audio also the audio up to itself."""
    text = lesson.phones.shape[1]
    place = torch.arange(text + audio, device=lesson.phones.device)
    row, column = place[:, None], place[None, :]
    is_open = (column < text) | ((row >= text) & (column <= row))  # (n, n)
    is_real = (place >= lesson.hidden[:, None]) & (place < text + counts[:, None])  # (b, n)
    return (is_open & is_real[:, None, :])[:, None]


def _run_block(block: Block, x: Tensor, allowed: Tensor, dropout: float) -> Tensor:
    """A block of `t2s` without its cache, and with dropout where upstream has it."""
    q, k, v = block.self_attn.project(x)
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)  # (b, h, n, d / h)
    x = block.norm1(x + functional.dropout(block.self_attn.out_proj(mixed.transpose(1, 2).flatten(2)), dropout))
    inner = functional.dropout(functional.relu(block.linear1(x)), dropout)
    done: Tensor = block.norm2(x + functional.dropout(block.linear2(inner), dropout))
    return done  # (b, n, d)
