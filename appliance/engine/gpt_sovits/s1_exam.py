"""The exam of s1 in fewer bits: a sentence that the network has spoken itself, token by token, and how far off the
logits are on the way.

The measure is the divergence of what is drawn from, KL(reference || candidate) in nats, mean over the tokens. It says
how far the choice of tokens has changed: 0.02 nats shift a token's probability by a tenth or so of its value, much less
than another seed does. Four bits are an order of magnitude beyond and are not offered at all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from appliance.engine.gpt_sovits.decoding import Decoder, Row
from appliance.engine.gpt_sovits.generation import Draws
from appliance.engine.gpt_sovits.sampling import SamplingSettings, seeded_noise
from appliance.engine.gpt_sovits.t2s import BERT_WIDTH, TextPrompt, TextToSemanticConfig
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_V1, phone_ids

SENTENCE = "j in1 t ian1 t ian1 q i4 h en2 h ao3 , w o3 m en5 y i4 q i3 q v4 g ong1 y van2 s an4 b u4 ."
PROMPT_TOKENS, TOKENS = 24, 40
SEED = 20_241
MOST_DIVERGENCE = 0.02  # nats per token
TIMED_S, MOST_TIMES = 1.5, 20  # how long, and how often at most, the exam is gone along to time a step


@dataclass(frozen=True)
class Distance:
    """Of logits from those of the reference along the same tokens."""

    divergence: float  # nats per token
    rms: float  # of the differences, over the spread (standard deviation) of the reference's logits
    worst: float  # difference, over the same

    @property
    def passed(self) -> bool:
        return self.divergence <= MOST_DIVERGENCE  # not a number does not pass

    def __str__(self) -> str:
        parts = f"rms {self.rms:.4f} and at most {self.worst:.3f} of the logits' spread"
        return f"{self.divergence:.5f} nats per token; logits differ by {parts}"


@dataclass(frozen=True)
class Exam:
    """A prompt, the tokens that follow, and the reference's logits (t, v) before each."""

    prompt: TextPrompt
    tokens: Sequence[int]
    logits: Tensor


def set_exam(reference: Decoder, config: TextToSemanticConfig) -> Exam:
    """Let the network speak: first to itself, then after what it has said."""
    ids = torch.tensor(phone_ids(SENTENCE.split(), GPT_SOVITS_V1), dtype=torch.long) % config.phonemes
    bert = torch.zeros(BERT_WIDTH, len(ids))
    alone = TextPrompt(ids, bert, torch.zeros(0, dtype=torch.long))
    said = _speak(reference, alone, config, PROMPT_TOKENS + TOKENS)
    prompt = TextPrompt(ids, bert, torch.tensor(said[:PROMPT_TOKENS], dtype=torch.long))
    return Exam(prompt, said[PROMPT_TOKENS:], follow(reference, prompt, said[PROMPT_TOKENS:]))


def judge(candidate: Decoder, exam: Exam) -> Distance:
    """How far `candidate` is from the reference. Raises what it raises."""
    return distance(follow(candidate, exam.prompt, exam.tokens), exam.logits)


def step_ms(decoder: Decoder, exam: Exam) -> float:
    """The shortest step along the exam, which is gone along for a while: other programs make steps longer, none
    shorter, and what they do for the length of one exam must not decide who decodes from now on.
    """
    shortest, until = float("inf"), time.perf_counter() + TIMED_S
    for _ in range(MOST_TIMES):
        _, place = decoder.begin(exam.prompt, len(exam.tokens))
        for index, token in enumerate(exam.tokens[:-1]):
            started = time.perf_counter()
            decoder.step([Row(place, token, len(exam.prompt.tokens) + index)])
            shortest = min(shortest, 1000 * (time.perf_counter() - started))
        decoder.end(place)
        if time.perf_counter() >= until:
            break
    return shortest


def follow(decoder: Decoder, prompt: TextPrompt, tokens: Sequence[int]) -> Tensor:
    """Logits (t, v) before each of given tokens."""
    logits, place = decoder.begin(prompt, len(tokens))
    rows = [logits]
    for index, token in enumerate(tokens[:-1]):
        rows.append(decoder.step([Row(place, token, len(prompt.tokens) + index)])[0])
    decoder.end(place)
    return torch.stack(rows)


def distance(found: Tensor, wanted: Tensor) -> Distance:
    """Of logits (t, v)."""
    spread = float(wanted.std())
    mine, theirs = torch.log_softmax(found, dim=-1), torch.log_softmax(wanted, dim=-1)
    divergence = float((theirs.exp() * (theirs - mine)).sum(dim=-1).mean())
    error = found - wanted
    return Distance(divergence, float(error.square().mean().sqrt()) / spread, float(error.abs().max()) / spread)


def _speak(decoder: Decoder, prompt: TextPrompt, config: TextToSemanticConfig, count: int) -> list[int]:
    """`count` tokens by the official sampling; the end mark is never drawn."""
    draws = Draws(prompt.tokens, seeded_noise(SEED), SamplingSettings(), config)
    logits, place = decoder.begin(prompt, count)
    while len(draws.tokens) < count:
        if not draws.draw(_without(logits, config.end).numpy()):
            raise ValueError("the end mark was drawn, which was taken out")
        logits = decoder.step([Row(place, *draws.last())])[0]
    decoder.end(place)
    return draws.tokens


def _without(logits: Tensor, token: int) -> Tensor:
    without = logits.clone()
    without[token] = -torch.inf
    return without
