"""Decoders: s1 on something that computes it, several answers at a time.

A decoder reads a prompt once (`begin`) and then gives one more row of logits per call for any of the answers under way
(`step`). What it keeps of an answer, keys and values of its rows, belongs to that answer's `Place` alone. Not safe
across threads: `decode_loop.DecodeLoop` is the one caller, and never twice at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits.t2s import KeyValueCache, TextPrompt, TextToSemantic


@dataclass(eq=False)
class Place:
    """Where a decoder keeps one answer. Opaque to the caller, who gives it back with `end`."""

    number: int = 0
    rows: int = 0  # of keys and values


@dataclass(frozen=True)
class Row:
    """What one answer goes on with."""

    place: Place
    token: int  # drawn last
    position: int  # of `token` among the speech tokens of prompt and answer


class Decoder(ABC):
    """s1, ready to decode."""

    name: str  # for people: what computes, in which precision
    places: int  # answers that may be under way at once
    gains_by_company = True  # whether a step of several answers takes less than one of each

    @abstractmethod
    def begin(self, prompt: TextPrompt, more: int) -> tuple[Tensor, Place]:
        """Logits (v,) after the prompt, and a place with room for `more` steps."""

    @abstractmethod
    def step(self, rows: Sequence[Row]) -> Tensor:
        """Logits (b, v) after one more token of each; a row's do not depend on who else is among `rows`."""

    @abstractmethod
    def end(self, place: Place) -> None:
        """Forget an answer."""

    @abstractmethod
    def close(self) -> None:
        """Give memory back; idempotent."""

    def rows(self) -> tuple[JsonDict, ...]:
        """What was considered for the networks behind it, for `Engine.placement`."""
        return ()


class TorchDecoder(Decoder):
    """The network itself in float32: the reference, and what computes where nothing else can.

    Answers are computed one after the other, so that each gets the very numbers that it gets alone.
    """

    name = "torch float"
    places = 16
    gains_by_company = False

    def __init__(self, network: TextToSemantic) -> None:
        self._network = network
        self._caches: dict[Place, KeyValueCache] = {}

    @torch.inference_mode()
    def begin(self, prompt: TextPrompt, more: int) -> tuple[Tensor, Place]:
        logits, cache = self._network.prefill([prompt], more)
        place = Place(rows=cache.length)
        self._caches[place] = cache
        return logits[0], place

    @torch.inference_mode()
    def step(self, rows: Sequence[Row]) -> Tensor:
        found = []
        for row in rows:
            token, position = torch.tensor([row.token]), torch.tensor([row.position])
            logits, cache = self._network.step(token, position, self._caches[row.place])
            row.place.rows = cache.length
            found.append(logits[0])
        return torch.stack(found)  # (b, v)

    def end(self, place: Place) -> None:
        self._caches.pop(place, None)

    def close(self) -> None:
        self._caches.clear()
