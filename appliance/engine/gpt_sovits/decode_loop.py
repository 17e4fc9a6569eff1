"""The loop that decodes all answers of one s1 together: they join and leave between steps.

One thread computes, as long as there are answers. An answer is worked on as far as somebody waits for it
(`Answer.wait`), and pauses while its sound is made. Whoever is new reads its prompt before the others go on: its
listener hears nothing yet. An answer gets the tokens that it gets alone: its randomness is its own, and a row of
logits does not depend on its neighbours.

A decoder that fails is not used again. The next one reads prompt and tokens so far, and every answer goes on where it
was.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits.decoding import Decoder, Place, Row
from appliance.engine.gpt_sovits.generation import MOST_TOKENS, Draws
from appliance.engine.gpt_sovits.sampling import Noise, SamplingSettings
from appliance.engine.gpt_sovits.t2s import TextPrompt, TextToSemanticConfig
from appliance.engine.placement_records import CHOSEN, DEMOTED, PASSED, describe
from appliance.errors import Cancelled, Corrupt, InvalidInput, TooLarge

log = logging.getLogger(__name__)
CANCEL_S = 0.1  # in which a cancelled answer is noticed


@dataclass(frozen=True)
class Question:
    """What an answer is made from."""

    prompt: TextPrompt
    noise: Noise
    sampling: SamplingSettings
    most: int = MOST_TOKENS


class Answer:
    """The tokens of one piece, as far as somebody has waited for them."""

    def __init__(self, loop: DecodeLoop, question: Question, cancelled: threading.Event) -> None:
        self._loop = loop
        self.question = question
        self.cancelled = cancelled
        self.draws = Draws(question.prompt.tokens, question.noise, question.sampling, loop.config)
        self.place: Place | None = None
        self.wanted = 0
        self.is_over = False
        self.error: Exception | None = None

    @property
    def tokens(self) -> list[int]:
        return self.draws.tokens

    @property
    def is_waited_for(self) -> bool:
        return not self.is_over and len(self.tokens) < self.wanted

    def wait(self, count: int) -> bool:
        """Until there are `count` tokens (True), or it is known that there will be fewer (False).

        Raises Cancelled("speech_cancelled"), and what every decoder raised.
        """
        return self._loop.wait(self, count)

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
    ) -> None:
        """`facts` are what `rows` says of each decoder beside its state, `refused` rows of what is none."""
        self.config = config
        self._facts, self._refused = facts or {}, refused
        self.is_exported = len(decoders) > 1  # whether there is more than the network itself
        self.failures: dict[str, str] = {}  # name of a decoder that failed -> why
        self._decoders = dict(decoders)
        self._decoder: Decoder | None = None
        self._answers: list[Answer] = []  # those with a thread behind them
        self._changed = threading.Condition()
        self._has_thread = False

    @property
    def chosen(self) -> str:
        """The name of the decoder that computes; when all have failed, of the last one."""
        return next((name for name in self._decoders if name not in self.failures), list(self._decoders)[-1])

    def open(self) -> Decoder:
        """The decoder in use. Raises what opening the last one raised."""
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
        return (*found, *self._refused)

    def ask(self, question: Question, cancelled: threading.Event) -> Answer:
        """Begin an answer; nothing is computed until somebody waits for it. Close it in the end."""
        answer = Answer(self, question, cancelled)
        with self._changed:
            self._answers.append(answer)
            if not self._has_thread:
                threading.Thread(target=self._run, name="decode", daemon=True).start()
                self._has_thread = True
        return answer

    def wait(self, answer: Answer, count: int) -> bool:
        """See `Answer.wait`."""
        with self._changed:
            answer.wanted = max(answer.wanted, count)
            self._changed.notify_all()
            while answer.is_waited_for and not answer.cancelled.is_set():
                self._changed.wait(CANCEL_S)
            if answer.error is not None:
                raise answer.error
            if answer.cancelled.is_set():
                raise Cancelled("speech_cancelled")
            return len(answer.tokens) >= count

    def leave(self, answer: Answer) -> None:
        """See `Answer.close`."""
        with self._changed:
            answer.is_over = True
            self._changed.notify_all()

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: any(one.is_over or one.is_waited_for for one in self._answers))
                over = [answer for answer in self._answers if answer.is_over]
                busy = [answer for answer in self._answers if answer.is_waited_for]
            try:
                if over:
                    self._let_go(over)
                    if self._is_done():
                        return
                if busy:
                    self._advance(busy)
            except Exception as error:  # noqa: BLE001 - a runtime raises what it likes
                self._take_over(error)

    def _is_done(self) -> bool:
        """Whether nobody is left, so that the thread ends."""
        with self._changed:
            self._has_thread = bool(self._answers)
            return not self._has_thread

    def _advance(self, busy: Sequence[Answer]) -> None:
        """Begin one new answer, or make one step of all the others."""
        decoder = self.open()
        new = [answer for answer in busy if answer.place is None]
        if new and sum(answer.place is not None for answer in self._answers) < decoder.places:
            self._begin(decoder, new[0])
            return
        going = [(answer, answer.place) for answer in busy if answer.place is not None]
        if going:
            logits = decoder.step([Row(place, *answer.draws.last()) for answer, place in going])
            self._draw([answer for answer, _ in going], logits)

    def _begin(self, decoder: Decoder, answer: Answer) -> None:
        prompt, made = answer.question.prompt, answer.tokens
        if made:  # on another decoder: what is there already is read like a prompt
            prompt = TextPrompt(prompt.phones, prompt.bert, torch.cat((prompt.tokens, torch.tensor(made))))
        try:
            logits, answer.place = decoder.begin(prompt, answer.question.most - len(made))
        except (InvalidInput, TooLarge) as error:  # this one's own fault
            self._fail([answer], error)
            return
        self._draw([answer], logits[None])

    def _draw(self, answers: Sequence[Answer], logits: Tensor) -> None:
        """The next token of each from its row of logits (b, v)."""
        if not torch.isfinite(logits).all():
            raise Corrupt("voice_files_corrupt", file="s1", reason="its logits are not finite")
        with torch.inference_mode():
            over = [
                not answer.draws.draw(row) or len(answer.tokens) >= answer.question.most
                for answer, row in zip(answers, logits, strict=True)
            ]
        with self._changed:
            for answer, is_over in zip(answers, over, strict=True):
                answer.is_over = answer.is_over or is_over
            self._changed.notify_all()

    def _let_go(self, over: Sequence[Answer]) -> None:
        with self._changed:
            self._answers = [answer for answer in self._answers if answer not in over]
        for answer in over:
            if answer.place is not None and self._decoder is not None:
                self._decoder.end(answer.place)
            answer.place = None

    def _fail(self, answers: Sequence[Answer], error: Exception) -> None:
        with self._changed:
            for answer in answers:
                answer.error, answer.is_over = error, True
            self._changed.notify_all()

    def _take_over(self, error: Exception) -> None:
        """The next decoder goes on from here; without one all answers end with `error`, and the last is opened anew."""
        name, failed, self._decoder = self.chosen, self._decoder, None
        log.error("the decoder %s failed: %s", name, describe(error))
        self.failures[name] = describe(error)
        for answer in self._answers:
            answer.place = None
        if failed is not None:
            failed.close()
        if name == self.chosen:
            self._fail(list(self._answers), error)
