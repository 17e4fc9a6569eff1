"""One request: pieces of text -> speech tokens -> samples, handed out while later tokens are still being made."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from appliance.contracts import Samples
from appliance.engine.gpt_sovits.decode_loop import Answer, DecodeLoop, Question
from appliance.engine.gpt_sovits.generation import FEWEST_TOKENS, MOST_TOKENS, most_tokens
from appliance.engine.gpt_sovits.reading import Reading
from appliance.engine.gpt_sovits.sampling import seeded_noise
from appliance.engine.gpt_sovits.sovits import SynthesizerConfig
from appliance.engine.gpt_sovits.spectrogram import SAMPLE_RATE
from appliance.engine.gpt_sovits.streaming import Piece, Sound, StreamState, decode_next
from appliance.engine.gpt_sovits.t2s import TextPrompt
from appliance.engine.gpt_sovits.turns import PREFILL, SOUND, STEP, Listener, Turns, Work
from appliance.engine.gpt_sovits.voice import PreparedVoice
from appliance.errors import Corrupt, InvalidInput
from appliance.text.clauses import split_clauses
from appliance.text.cleaning import clean_text, has_speech
from appliance.text.cutting import prepare_pieces

# Tokens (of 40 ms) after which a part is voiced. The first sound comes early, and each part is done before the last one
# has been heard; with their context they have the lengths that backends are ready for (`placed.WINDOWS`).
# They are the same at any load, because they change the samples that a seed gives.
PARTS = (10, 10, 16, 24, 48, 96)
WIDE_PARTS = (12, 10, 14, 24, 48, 96)  # of a vocoder that takes more than twice as long (v2ProPlus)
WIDE = 600  # channels that such a one begins with, and more
AROUND = 24  # frames: the context of a part, and what it costs whatever its length
NOISE_BLOCK = 64  # frames
LONGEST_PIECE = 120  # Latin letters, or half as many ideographs: about fifteen seconds


def parts_for(config: SynthesizerConfig) -> tuple[int, ...]:
    """Tokens of the parts in which such a network's sound is made; the last one for ever."""
    return WIDE_PARTS if config.upsample_initial_channel >= WIDE else PARTS


def cut_pieces(text: str, language: str, method: str = "") -> list[str]:
    """Pieces that are spoken one by one, each closed by a mark. Raises InvalidInput("text_not_speakable").

    `method` is one of GPT-SoVITS' cut methods. Without one, text is cut only where it is long: it comes in clauses.
    """
    clean = clean_text(text)
    if not has_speech(clean):
        raise InvalidInput("text_not_speakable", text=text[:40])
    clauses = [clean] if method or len(clean) <= LONGEST_PIECE // 2 else split_clauses(clean, LONGEST_PIECE)
    return [piece for clause in clauses for piece in prepare_pieces(clause, language, method or "cut0")]


class Clock:
    """Adds up what each stage takes."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._spent[stage] = self._spent.get(stage, 0.0) + time.perf_counter() - started

    def milliseconds(self) -> dict[str, float]:
        return {stage: 1000.0 * spent for stage, spent in self._spent.items()}


class RequestNoise:
    """All randomness of one request: one generator for tokens, one for sound."""

    def __init__(self, seed: int) -> None:
        self.tokens = seeded_noise(_generator_seed(seed, 0))
        self._sound = torch.Generator().manual_seed(_generator_seed(seed, 1))

    def grow(self, noise: Tensor, frames: int) -> Tensor:
        """Normal noise (1, channels, t) with more at its end, so that it has at least `frames` columns.

        It grows by whole blocks: how many frames are asked for at a time does not change the numbers.
        """
        while noise.shape[2] < frames:
            block = torch.randn(NOISE_BLOCK, noise.shape[1], generator=self._sound)
            noise = torch.cat((noise, block.T[None]), dim=2)
        return noise


def _generator_seed(seed: int, which: int) -> int:
    return (2 * seed + which) % (1 << 63)


@dataclass(frozen=True)
class Turn:
    """Where one request stands among the others."""

    turns: Turns
    listener: Listener
    clock: Clock


@dataclass(frozen=True)
class Part:
    """So many tokens are voiced next."""

    count: int  # of the piece, up to this part
    size: int  # tokens that are new
    is_last: bool


@dataclass(frozen=True)
class Speaker:
    """A voice that speaks one request."""

    s1: DecodeLoop
    s2: Sound
    voice: PreparedVoice
    speed: float
    turn: Turn
    most: int = MOST_TOKENS

    def speak(self, reading: Reading, noise: RequestNoise) -> Iterator[tuple[Samples, bool]]:
        """Samples of one piece, and whether they are its last; the pause after the piece is in them.

        Raises Cancelled("speech_cancelled"), Corrupt("sound_not_finite").
        """
        answer = self.s1.ask(self._question(reading, noise), self.turn.listener)
        try:
            yield from self._voice(answer, reading, noise)
        finally:
            answer.close()

    def _voice(self, answer: Answer, reading: Reading, noise: RequestNoise) -> Iterator[tuple[Samples, bool]]:
        turns, listener = self.turn.turns, self.turn.listener
        hiss = torch.zeros(1, self.s2.config.inter_channels, 0)
        state: StreamState | None = None
        for part in self._parts(answer):
            with turns.turn(listener, self._sound_work(part.size)), self.turn.clock.time("sound"):
                hiss = noise.grow(hiss, self.s2.frames(part.count, self.speed))
                codes = torch.tensor([[answer.tokens[: part.count]]])
                piece = Piece(codes, reading.phones[None], self.voice.timbre, hiss, self.speed)
                if part.is_last and state is None:  # in one go, with the numbers of the official network at any speed
                    sound = self.s2.decode(*piece)
                else:
                    sound, state = decode_next(self.s2, piece, state, part.is_last)
            samples = self._finish(sound, part.is_last)
            turns.hand_over(listener, len(samples) / SAMPLE_RATE)
            yield samples, part.is_last
            turns.come_back(listener)

    def _question(self, reading: Reading, noise: RequestNoise) -> Question:
        prompt = TextPrompt(
            phones=torch.cat((self.voice.prompt.phones, reading.phones)),
            bert=torch.cat((self.voice.prompt.bert, reading.bert), dim=1),
            tokens=self.voice.tokens,
        )
        most = min(self.most, most_tokens(len(reading.phones)))
        return Question(prompt, noise.tokens, self.voice.settings.sampling, most)

    def _parts(self, answer: Answer) -> Iterator[Part]:
        """Every part that is worth voicing. Raises what `Answer.wait` raises."""
        parts = parts_for(self.s2.config)
        sizes = itertools.chain(parts, itertools.repeat(parts[-1]))
        due = size = next(sizes)
        done = 0
        if not self.voice.settings.is_streaming:
            due = size = MOST_TOKENS
        self.turn.listener.needs = partial(self._needs, answer, due, size)
        with self.turn.clock.time("prefill"):
            answer.wait(1)
        while True:
            later = next(sizes)
            # One more token tells that these are not the last; the first ones never are.
            wanted = due if due < FEWEST_TOKENS else due + 1
            self.turn.listener.needs = partial(self._needs, answer, wanted, size)
            with self.turn.clock.time("tokens"):
                has_more = answer.wait(wanted, welcome=due + later + 1)
            if not has_more:
                yield Part(len(answer.tokens), len(answer.tokens) - done, True)
                return
            yield Part(due, size, False)
            done, size = due, later
            due += later

    def _needs(self, answer: Answer, wanted: int, size: int) -> tuple[Work, ...]:
        """What it takes until a part of `size` tokens can be heard."""
        missing = 0 if answer.is_over else max(0, wanted - len(answer.tokens))
        begins = () if answer.tokens else (Work(PREFILL, answer.question.prompt.rows, id(self.s1)),)
        return (*begins, Work(STEP, missing, id(self.s1)), self._sound_work(size))

    def _sound_work(self, size: int) -> Work:
        """Of a part of `size` tokens: a part is voiced with as much around it as one has frames of context."""
        return Work(SOUND, self.s2.frames(size, self.speed) + AROUND, id(self.s2))

    def _finish(self, sound: Tensor, is_last: bool) -> Samples:
        samples = sound[0, 0].numpy()
        if not np.isfinite(samples).all():
            raise Corrupt("sound_not_finite", samples=len(samples))
        pause = int(self.voice.settings.interval_s * SAMPLE_RATE) if is_last else 0
        return np.pad(samples, (0, pause))
