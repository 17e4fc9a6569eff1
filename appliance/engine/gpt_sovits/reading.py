"""Text -> what both networks take: phone ids, and for Chinese the BERT features beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from appliance.contracts import Pronunciation, TextFrontend, Utterance
from appliance.engine.gpt_sovits.bert import ChineseBert
from appliance.engine.gpt_sovits.pairing import ENGINE
from appliance.engine.gpt_sovits.t2s import BERT_WIDTH
from appliance.errors import InvalidInput, Unavailable
from appliance.text.cleaning import has_speech
from appliance.text.cutting import SPLITTERS
from appliance.text.gpt_sovits_symbols import MARKS, phone_ids
from appliance.text.lexicon import apply_readings
from appliance.text.segments import CODES, split_request

FEWEST_PHONES = 6  # a shorter piece is read again with a pause before it: the networks swallow it otherwise
BERT_LANGUAGE = "zh"


@dataclass(frozen=True)
class Reading:
    """One piece of text, read."""

    phones: Tensor  # (n,) ids
    bert: Tensor  # (1024, n), zeros where the text is not Chinese

    @classmethod
    def nothing(cls) -> Reading:
        return cls(torch.zeros(0, dtype=torch.long), torch.zeros(BERT_WIDTH, 0))


@dataclass(frozen=True)
class Reader:
    """What reading takes; `bert` is asked for only when there is Chinese."""

    frontends: Mapping[str, TextFrontend]
    inventory: str  # "gpt_sovits_v1" | "gpt_sovits_v2"
    bert: Callable[[], ChineseBert]
    turn: Callable[[int], AbstractContextManager[object]] = lambda _: nullcontext()  # of so many characters

    def read(self, text: str, language: str, lexicon: Sequence[Pronunciation] = ()) -> Reading:
        """Read one piece in a language of `segments.CODES`.

        Raises InvalidInput (text_not_speakable, language_code_unknown, language_not_spoken, and of `lexicon` what
        `apply_readings` raises), Unavailable("frontend_missing").
        """
        reading = self._read_once(text, language, lexicon)
        if len(reading.phones) < FEWEST_PHONES:
            reading = self._read_once("." + text, language, lexicon)
        return reading

    def _read_once(self, text: str, language: str, lexicon: Sequence[Pronunciation]) -> Reading:
        found = [self._analyse(code, run) for code, run in split_request(text, language)]
        utterances = apply_readings(found, lexicon, self.frontends, self.inventory)
        if has_speech(text) and all(phone in MARKS for utterance in utterances for phone in utterance.phones):
            # letters of which nothing is left, e.g. Greek; marks alone are read as the pause they are
            raise InvalidInput("text_not_speakable", text=text[:40])
        phones = [phone for utterance in utterances for phone in utterance.phones]
        features = [self._features(utterance) for utterance in utterances]
        ids = torch.tensor(phone_ids(phones, self.inventory), dtype=torch.long)
        return Reading(ids, torch.cat(features, dim=1))

    def _analyse(self, language: str, run: str) -> Utterance:
        frontend = self.frontends.get(language)
        if frontend is None:
            raise Unavailable("frontend_missing", language=language)
        if self.inventory not in frontend.inventories:  # Korean and Cantonese came with v2
            known = sorted(code for code, one in self.frontends.items() if self.inventory in one.inventories)
            raise InvalidInput("language_not_spoken", language=language, engine=ENGINE, known=", ".join(known))
        return frontend.analyse(run, self.inventory)

    def _features(self, utterance: Utterance) -> Tensor:
        if utterance.language != BERT_LANGUAGE or not utterance.phones:
            return torch.zeros(BERT_WIDTH, len(utterance.phones))
        word2ph = [span.end - span.start for span in utterance.words]
        bert = self.bert()
        with self.turn(len(utterance.normalized)):
            return bert.phone_features(utterance.normalized, word2ph)


def takes_bert(text: str, language: str) -> bool:
    """Whether reading `text` will ask for BERT; False for a language that nobody knows."""
    return language in CODES and any(run == BERT_LANGUAGE for run, _ in split_request(text, language))


def close_sentence(text: str, language: str) -> str:
    """On one line, with a mark at its end: without one the networks do not know that the sentence is over."""
    text = text.replace("\n", "").strip()
    return text if text[-1:] in SPLITTERS else text + ("." if language == "en" else "。")
