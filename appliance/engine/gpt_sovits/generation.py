"""The loop around s1: speech tokens one after the other until the network ends the answer or a limit does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from appliance.engine.gpt_sovits.sampling import Floats, Noise, SamplingSettings, draw, penalise, probabilities
from appliance.engine.gpt_sovits.t2s import TextPrompt, TextToSemantic, TextToSemanticConfig

TOKENS_PER_SECOND = 25
MOST_TOKENS = 1500  # one minute
FEWEST_TOKENS = 11  # no answer ends before
SLOWEST_PHONES_PER_SECOND = 3  # clips with slower speech were left out of training
GRACE_TOKENS = 25  # for a pause at the start or the end


def most_tokens(phones: int) -> int:
    """Tokens that a text of `phones` can take at the slowest speech; what goes on longer has lost its way."""
    return min(MOST_TOKENS, GRACE_TOKENS + phones * TOKENS_PER_SECOND // SLOWEST_PHONES_PER_SECOND)


class Draws:
    """The tokens of one answer, drawn one after the other from rows of logits."""

    def __init__(self, prompt: Tensor, noise: Noise, settings: SamplingSettings, config: TextToSemanticConfig) -> None:
        """`prompt` (y,) are the speech tokens before the answer; the repetition penalty knows them."""
        self.tokens: list[int] = []
        self._noise, self._settings, self._end = noise, settings, config.end
        self._seen = np.zeros(config.vocabulary, np.bool_)
        self._seen[prompt.cpu().numpy()] = True
        self._prompt_length = len(prompt)

    def last(self) -> tuple[int, int]:
        """The last token, and its position among all speech tokens."""
        return self.tokens[-1], self._prompt_length + len(self.tokens) - 1

    def draw(self, logits: Floats) -> bool:
        """Draw the next token from `logits` (v,) and note it; False when the answer ends.

        It ends when the end mark is drawn, and also when that is the likeliest after the penalty but another was drawn.
        """
        if len(self.tokens) < FEWEST_TOKENS:
            logits = logits[: self._end]
        logits = penalise(logits, self._seen[: len(logits)], self._settings.repetition_penalty)
        token = draw(probabilities(logits, self._settings), self._noise(len(logits)))
        if self._end in (token, int(np.argmax(logits))):
            return False
        self.tokens.append(token)
        self._seen[token] = True
        return True


def generate_tokens(
    network: TextToSemantic,
    prompt: TextPrompt,
    noise: Noise,
    settings: SamplingSettings | None = None,
    most: int = MOST_TOKENS,
) -> Iterator[int]:
    """New tokens of one answer, as they are made; at most `most`. The end mark is not among them."""
    with torch.inference_mode():
        answer = Draws(prompt.tokens, noise, settings or SamplingSettings(), network.config)
        logits, cache = network.prefill([prompt], more=most)
    while len(answer.tokens) < most:
        with torch.inference_mode():  # the mode belongs to the thread: it must not outlast the yield
            if answer.tokens:
                logits, cache = network.step(*_next_rows([answer], logits.device), cache)
            if not answer.draw(logits[0].cpu().numpy()):
                return
        yield answer.tokens[-1]


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
        pairs = zip(prompts, noises, strict=True)
        answers = [Draws(prompt.tokens, noise, settings, network.config) for prompt, noise in pairs]
        active = list(answers)
        logits, cache = network.prefill(prompts, more=most)
        while True:
            drawn = [answer.draw(row) for answer, row in zip(active, logits.cpu().numpy(), strict=True)]
            going = [row for row, has_more in enumerate(drawn) if has_more and len(active[row].tokens) < most]
            if len(going) < len(active):
                active = [active[row] for row in going]
                if not active:
                    return [answer.tokens for answer in answers]
                cache = cache.select(going)
            logits, cache = network.step(*_next_rows(active, logits.device), cache)


def _next_rows(answers: Sequence[Draws], device: torch.device) -> tuple[Tensor, Tensor]:
    """The last token of each answer (b,) and its position (b,)."""
    tokens, positions = zip(*(answer.last() for answer in answers), strict=True)
    return torch.tensor(tokens, device=device), torch.tensor(positions, device=device)
