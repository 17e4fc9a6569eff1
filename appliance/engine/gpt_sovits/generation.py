"""The loop around s1: speech tokens one after the other until the network ends the answer or a limit does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from appliance.engine.gpt_sovits.sampling import Noise, SamplingSettings, draw, penalise, probabilities
from appliance.engine.gpt_sovits.t2s import TextPrompt, TextToSemantic

TOKENS_PER_SECOND = 25
MOST_TOKENS = 1500  # one minute
FEWEST_TOKENS = 11  # no answer ends before
SLOWEST_PHONES_PER_SECOND = 3  # clips with slower speech were left out of training
GRACE_TOKENS = 25  # for a pause at the start or the end


def most_tokens(phones: int) -> int:
    """Tokens that a text of `phones` can take at the slowest speech; what goes on longer has lost its way."""
    return min(MOST_TOKENS, GRACE_TOKENS + phones * TOKENS_PER_SECOND // SLOWEST_PHONES_PER_SECOND)


@dataclass
class _Answer:
    """One item on its way: what was there, and what it may draw from."""

    noise: Noise
    seen: Tensor  # (v,) bool
    position: int  # of the next token among all speech tokens
    tokens: list[int] = field(default_factory=list)


def generate_tokens(
    network: TextToSemantic,
    prompt: TextPrompt,
    noise: Noise,
    settings: SamplingSettings | None = None,
    most: int = MOST_TOKENS,
) -> Iterator[int]:
    """New tokens of one answer, as they are made; at most `most`. The end mark is not among them."""
    settings = settings or SamplingSettings()
    with torch.inference_mode():
        answer = _start(network, prompt, noise)
        logits, cache = network.prefill([prompt], more=most)
    while len(answer.tokens) < most:
        with torch.inference_mode():  # the mode belongs to the thread: it must not outlast the yield
            if answer.tokens:
                logits, cache = network.step(*_next_rows([answer], logits.device), cache)
            token = _choose(logits[0], answer, settings, network.config.end)
        if token is None:
            return
        yield token


def generate_batch(
    network: TextToSemantic,
    prompts: Sequence[TextPrompt],
    noises: Sequence[Noise],
    settings: SamplingSettings | None = None,
    most: int = MOST_TOKENS,
) -> list[list[int]]:
    """New tokens of several answers made together; each draws from its own noise and leaves the batch when it ends."""
    settings = settings or SamplingSettings()
    with torch.inference_mode():
        answers = [_start(network, prompt, noise) for prompt, noise in zip(prompts, noises, strict=True)]
        active = list(answers)
        logits, cache = network.prefill(prompts, more=most)
        while True:
            chosen = [_choose(logits[row], answer, settings, network.config.end) for row, answer in enumerate(active)]
            going = [row for row, token in enumerate(chosen) if token is not None and len(active[row].tokens) < most]
            if len(going) < len(active):
                active = [active[row] for row in going]
                if not active:
                    return [answer.tokens for answer in answers]
                cache = cache.select(going)
            logits, cache = network.step(*_next_rows(active, logits.device), cache)


def _start(network: TextToSemantic, prompt: TextPrompt, noise: Noise) -> _Answer:
    seen = torch.zeros(network.config.vocabulary, dtype=torch.bool, device=prompt.tokens.device)
    seen[prompt.tokens] = True
    return _Answer(noise, seen, len(prompt.tokens))


def _next_rows(answers: Sequence[_Answer], device: torch.device) -> tuple[Tensor, Tensor]:
    """The last token of each answer (b,) and its position (b,)."""
    tokens = torch.tensor([answer.tokens[-1] for answer in answers], device=device)
    return tokens, torch.tensor([answer.position - 1 for answer in answers], device=device)


def _choose(logits: Tensor, answer: _Answer, settings: SamplingSettings, end: int) -> int | None:
    """Draw the next token and note it, or None when the answer ends.

    It ends when the end mark is drawn, and also when that is the likeliest after the penalty but another was drawn.
    """
    if len(answer.tokens) < FEWEST_TOKENS:
        logits = logits[:end]
    logits = penalise(logits, answer.seen[: len(logits)], settings.repetition_penalty)
    token = draw(probabilities(logits, settings), answer.noise(len(logits)).to(logits.device))
    if end in (token, int(torch.argmax(logits))):
        return None
    answer.tokens.append(token)
    answer.seen[token] = True
    answer.position += 1
    return token
