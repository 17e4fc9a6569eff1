"""The loop that decodes all answers of one s1 together: they join and leave between steps.

It has no thread of its own: who waits for tokens (`Answer.wait`) takes a turn (`turns`) and makes one step, for all
answers that may go on. One that nobody waits for, because its sound is being made, is taken along as far as its next
part goes, and no further. An answer gets the tokens that it gets alone: its randomness is its own, and a row of logits
does not depend on its neighbours.

A decoder that fails is not used again. The next one reads prompt and tokens so far, and every answer goes on where it
was.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits.decoding import Decoder, Place, Row
from appliance.engine.gpt_sovits.generation import MOST_TOKENS, Draws
from appliance.engine.gpt_sovits.sampling import Floats, Noise, SamplingSettings
from appliance.engine.gpt_sovits.t2s import TextPrompt, TextToSemanticConfig
from appliance.engine.gpt_sovits.turns import PREFILL, STEP, Listener, Turns, Work
from appliance.engine.placement_records import CHOSEN, DEMOTED, PASSED, describe
from appliance.errors import Cancelled, Corrupt, InvalidInput, TooLarge

log = logging.getLogger(__name__)
CANCEL_S = 0.1  # in which it is noticed that somebody who waits for a place was cancelled


@dataclass(frozen=True)
class Question:
    """What an answer is made from."""

    prompt: TextPrompt
    noise: Noise
    sampling: SamplingSettings
    most: int = MOST_TOKENS


class Answer:
    """The tokens of one piece, as far as somebody has waited for them."""

    def __init__(self, loop: DecodeLoop, question: Question, listener: Listener) -> None:
        self._loop = loop
        self.question = question
        self.listener = listener
        self.draws = Draws(question.prompt.tokens, question.noise, question.sampling, loop.config)
        self.place: Place | None = None
        self.welcome = 0  # tokens up to which it goes along with others
        self.is_over = False
        self.error: Exception | None = None

    @property
    def tokens(self) -> list[int]:
        return self.draws.tokens

    def has(self, count: int) -> bool:
        """Whether there are as many tokens, or there will not be more."""
        return self.is_over or len(self.tokens) >= count

    def wait(self, count: int, welcome: int = 0) -> bool:
        """Until there are `count` tokens (True), or it is known that there will be fewer (False).

        Up to `welcome` tokens may be made later on, when others are. Raises Cancelled("speech_cancelled"), and what
        every decoder raised.
        """
        return self._loop.wait(self, count, welcome)

    def close(self) -> None:
        """Nobody wants the rest; idempotent."""
        self._loop.leave(self)


class DecodeLoop:
    """Decodes for one s1 with the first of `decoders` that works; each is a function that opens one, the best first."""

    def __init__(
        self,
        decoders: Mapping[str, Callable[[], Decoder]],
        config: TextToSemanticConfig,
        facts: Mapping[str, JsonDict] | None = None,
        refused: tuple[JsonDict, ...] = (),
        turns: Turns | None = None,
    ) -> None:
        """`facts` are what `rows` says of each decoder beside its state, `refused` rows of what is none; `turns` are
        those of the engine.
        """
        self.config = config
        self._facts, self._refused = facts or {}, refused
        self.is_exported = len(decoders) > 1  # whether there is more than the network itself
        self.failures: dict[str, str] = {}  # name of a decoder that failed -> why
        self._decoders = dict(decoders)
        self._decoder: Decoder | None = None
        self._turns = turns or Turns()
        self._answers: list[Answer] = []  # until their places are free again
        self._changed = threading.Condition()
        self._using = threading.Lock()  # the decoder
        self._opening = threading.Lock()

    @property
    def chosen(self) -> str:
        """The name of the decoder that computes; when all have failed, of the last one."""
        return next((name for name in self._decoders if name not in self.failures), list(self._decoders)[-1])

    def open(self) -> Decoder:
        """The decoder in use. Raises what opening the last one raised. Safe across threads."""
        with self._opening:
            while self._decoder is None:
                name = self.chosen
                try:
                    self._decoder = self._decoders[name]()
                except Exception as error:
                    log.warning("the decoder %s does not open: %s", name, describe(error))
                    self.failures[name] = describe(error)
                    if name == self.chosen:
                        raise
            return self._decoder

    def rows(self) -> tuple[JsonDict, ...]:
        """What was considered for decoding, for `Engine.placement`."""
        found = []
        for name in self._decoders:
            row = {**self._facts.get(name, {"backend": name}), "state": CHOSEN if name == self.chosen else PASSED}
            if name in self.failures:
                row |= {"state": DEMOTED, "reason": self.failures[name]}
            found.append(row)
        behind = self._decoder.rows() if self._decoder is not None else ()
        return (*behind, *found, *self._refused)

    def ask(self, question: Question, listener: Listener) -> Answer:
        """Begin an answer; nothing is computed until somebody waits for it. Close it in the end."""
        answer = Answer(self, question, listener)
        with self._changed:
            self._answers.append(answer)
        return answer

    def wait(self, answer: Answer, count: int, welcome: int) -> bool:
        """See `Answer.wait`."""
        answer.welcome = max(count, welcome)
        while not answer.has(count):
            if answer.listener.cancelled.is_set():
                raise Cancelled("speech_cancelled")
            if answer.place is None and not self._has_room():
                with self._changed:
                    self._changed.wait(CANCEL_S)
                continue
            with self._turns.turn(answer.listener, self._next_work(answer), lambda: answer.has(count)) as is_mine:
                if is_mine:
                    self._advance(answer, count)
        if answer.error is not None:
            raise answer.error
        return len(answer.tokens) >= count

    def leave(self, answer: Answer) -> None:
        """See `Answer.close`."""
        answer.is_over = True
        self._let_go()

    def _has_room(self) -> bool:
        with self._changed:
            return self._decoder is None or sum(one.place is not None for one in self._answers) < self._decoder.places

    def _next_work(self, answer: Answer) -> Work:
        if answer.place is not None:
            return Work(STEP, network=id(self))
        return Work(PREFILL, answer.question.prompt.rows + len(answer.tokens), id(self))

    # ---------------------------------------------------------------- in a turn

    def _advance(self, answer: Answer, count: int) -> None:
        """Begin an answer, or make one step of it and of all that may go along; up to `count` where it is alone."""
        with self._using:
            try:
                decoder = self.open()
                if answer.place is not None:
                    self._step(decoder, answer)
                    while not answer.has(count) and self._turns.goes_on(answer.listener):
                        self._step(decoder, answer)
                elif self._has_room():  # still
                    self._begin(decoder, answer)
            except Exception as error:  # noqa: BLE001 - a runtime raises what it likes
                self._take_over(error)
        self._let_go()

    def _step(self, decoder: Decoder, first: Answer) -> None:
        with self._changed:
            along = [one for one in self._answers if decoder.gains_by_company and not one.has(one.welcome)]
        going = [(one, one.place) for one in dict.fromkeys((first, *along)) if one.place is not None]
        logits = decoder.step([Row(place, *one.draws.last()) for one, place in going])
        self._draw([one for one, _ in going], logits.numpy())

    def _begin(self, decoder: Decoder, answer: Answer) -> None:
        prompt, made = answer.question.prompt, answer.tokens
        if made:  # on another decoder: what is there already is read like a prompt
            prompt = TextPrompt(prompt.phones, prompt.bert, torch.cat((prompt.tokens, torch.tensor(made))))
        try:
            logits, answer.place = decoder.begin(prompt, answer.question.most - len(made))
        except (InvalidInput, TooLarge) as error:  # this one's own fault
            self._fail([answer], error)
            return
        self._draw([answer], logits.numpy()[None])

    def _draw(self, answers: Sequence[Answer], logits: Floats) -> None:
        """The next token of each from its row of logits (b, v)."""
        if not math.isfinite(logits.sum()):  # so is none of which one is not
            raise Corrupt("voice_files_corrupt", file="s1", reason="its logits are not finite")
        for answer, row in zip(answers, logits, strict=True):
            has_more = answer.draws.draw(row) and len(answer.tokens) < answer.question.most
            answer.is_over = answer.is_over or not has_more

    def _let_go(self) -> None:
        """Free the places of answers that are over; where the decoder is being used, its user does it afterwards."""
        while (over := self._over()) and self._using.acquire(blocking=False):
            try:
                for answer in over:
                    if answer.place is not None and self._decoder is not None:
                        self._decoder.end(answer.place)
                    answer.place = None
            except Exception as error:  # noqa: BLE001 - as in `_advance`
                self._take_over(error)
            finally:
                with self._changed:
                    self._answers = [one for one in self._answers if one not in over]
                    self._changed.notify_all()
                self._using.release()

    def _over(self) -> list[Answer]:
        with self._changed:
            return [one for one in self._answers if one.is_over]

    def _fail(self, answers: Sequence[Answer], error: Exception) -> None:
        for answer in answers:
            answer.error, answer.is_over = error, True

    def _take_over(self, error: Exception) -> None:
        """The next decoder goes on from here; without one all answers end with `error`, and the last is opened anew."""
        with self._opening:
            name, failed, self._decoder = self.chosen, self._decoder, None
            self.failures[name] = describe(error)
        log.error("the decoder %s failed: %s", name, describe(error))
        for answer in self._answers:
            answer.place = None
        if failed is not None:
            failed.close()
        if name == self.chosen:
            self._fail(list(self._answers), error)
