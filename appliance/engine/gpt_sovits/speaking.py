"""One request: pieces of text -> speech tokens -> samples, handed out while later tokens are still being made."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from appliance.contracts import Samples
from appliance.engine.gpt_sovits.decode_loop import Answer, DecodeLoop, Question
from appliance.engine.gpt_sovits.generation import MOST_TOKENS, most_tokens
from appliance.engine.gpt_sovits.reading import Reading
from appliance.engine.gpt_sovits.sampling import seeded_noise
from appliance.engine.gpt_sovits.spectrogram import SAMPLE_RATE
from appliance.engine.gpt_sovits.streaming import Piece, Sound, StreamState, decode_next
from appliance.engine.gpt_sovits.t2s import TextPrompt
from appliance.engine.gpt_sovits.voice import PreparedVoice
from appliance.errors import Corrupt, InvalidInput
from appliance.text.clauses import split_clauses
from appliance.text.cleaning import clean_text, has_speech
from appliance.text.cutting import prepare_pieces

# Tokens (of 40 ms) after which a part is voiced. The first sound comes early, and each part is done before the last one
# has been heard; with their context they have the lengths that backends are ready for (`placed.WINDOWS`).
PARTS = (12, 12, 16, 24, 48, 96)
NOISE_BLOCK = 64  # frames
LONGEST_PIECE = 120  # Latin letters, or half as many ideographs: about fifteen seconds


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
class Speaker:
    """A voice that speaks one request."""

    s1: DecodeLoop
    s2: Sound
    voice: PreparedVoice
    speed: float
    cancelled: threading.Event
    clock: Clock
    most: int = MOST_TOKENS

    def speak(self, reading: Reading, noise: RequestNoise) -> Iterator[tuple[Samples, bool]]:
        """Samples of one piece, and whether they are its last; the pause after the piece is in them.

        Raises Cancelled("speech_cancelled"), Corrupt("sound_not_finite").
        """
        answer = self.s1.ask(self._question(reading, noise), self.cancelled)
        try:
            yield from self._voice(answer, reading, noise)
        finally:
            answer.close()

    def _voice(self, answer: Answer, reading: Reading, noise: RequestNoise) -> Iterator[tuple[Samples, bool]]:
        hiss = torch.zeros(1, self.s2.config.inter_channels, 0)
        state: StreamState | None = None
        for count, is_last in self._parts(answer):
            with self.clock.time("sound"):
                hiss = noise.grow(hiss, self.s2.frames(count, self.speed))
                codes = torch.tensor([[answer.tokens[:count]]])
                piece = Piece(codes, reading.phones[None], self.voice.timbre, hiss, self.speed)
                if is_last and state is None:  # in one go, with the numbers of the official network at any speed
                    sound = self.s2.decode(*piece)
                else:
                    sound, state = decode_next(self.s2, piece, state, is_last)
            yield self._finish(sound, is_last), is_last

    def _question(self, reading: Reading, noise: RequestNoise) -> Question:
        prompt = TextPrompt(
            phones=torch.cat((self.voice.prompt.phones, reading.phones)),
            bert=torch.cat((self.voice.prompt.bert, reading.bert), dim=1),
            tokens=self.voice.tokens,
        )
        most = min(self.most, most_tokens(len(reading.phones)))
        return Question(prompt, noise.tokens, self.voice.settings.sampling, most)

    def _parts(self, answer: Answer) -> Iterator[tuple[int, bool]]:
        """Every length that is worth voicing: (length, whether it is the last). Raises what `Answer.wait` raises."""
        due = 0
        with self.clock.time("prefill"):
            answer.wait(1)
        for part in itertools.chain(PARTS, itertools.repeat(PARTS[-1])):
            due = due + part if self.voice.settings.is_streaming else MOST_TOKENS
            with self.clock.time("tokens"):
                has_more = answer.wait(due + 1)  # one more tells that these are not the last
            if not has_more:
                yield len(answer.tokens), True
                return
            yield due, False

    def _finish(self, sound: Tensor, is_last: bool) -> Samples:
        samples = sound[0, 0].numpy()
        if not np.isfinite(samples).all():
            raise Corrupt("sound_not_finite", samples=len(samples))
        pause = int(self.voice.settings.interval_s * SAMPLE_RATE) if is_last else 0
        return np.pad(samples, (0, pause))
