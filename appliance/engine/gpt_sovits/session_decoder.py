"""s1 on backends: one session reads prompts, another one makes steps on keys and values that grow in place.

All answers live in one reserve of memory with a slot for each. Memory of a slot is taken page by page as rows are
written, and given back when its answer ends, so that nothing of it is left; the first slots keep theirs, overwritten
with zeros, because taking it anew costs as much as a tenth of reading the prompt. Neighbouring slots are stepped
together; a slot between them whose answer pauses is computed along and keeps what it has.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliance.contracts import JsonDict, Session
from appliance.engine.gpt_sovits.decoding import Decoder, Place, Row
from appliance.engine.gpt_sovits.t2s import TextPrompt, TextToSemanticConfig
from appliance.engine.placement import PlacedNetwork
from appliance.errors import Busy, TooLarge

SLOTS = 8  # answers under way at once
ROWS = 2048  # of phones and speech tokens, that one answer can have: 80 seconds of speech
KEPT_SLOTS, KEPT_ROWS = 2, 512  # whose memory stays: 100 MB at most for official sizes
TEXT_STEP = 16  # phones are padded to multiples: a backend prepares itself for each length that it meets
BLOCKED = -1e9  # added to the score of a column that a row must not look at
KINDS = ("keys", "values")

Arrays = dict[str, NDArray[Any]]


class Reserve:
    """Keys and values of all slots: by name and layer (SLOTS, h, ROWS, d / h) of `kind`, in memory that is taken when
    it is written. For official sizes 4 MB at most per slot, name and layer, of half floats 2 MB.
    """

    def __init__(self, config: TextToSemanticConfig, kind: np.dtype[Any]) -> None:
        shape = (SLOTS, config.heads, ROWS, config.width // config.heads)
        self._block = int(np.prod(shape[1:])) * kind.itemsize  # bytes, whole pages
        self._tables = config.layers * len(KINDS)
        size = self._tables * SLOTS * self._block
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.madvise(mmap.MADV_NOHUGEPAGE)  # a large page would take the memory of rows that may never come
        whole = np.frombuffer(self._memory, kind).reshape(self._tables, *shape)
        self.arrays: Arrays = {
            f"{name}_{layer}": whole[layer * len(KINDS) + index]
            for layer in range(config.layers)
            for index, name in enumerate(KINDS)
        }

    def store(self, slot: int, read: Arrays, phones: int, tokens: int) -> int:
        """Put the keys and values (1, h, n, d / h) of a prompt into a slot, less those of padding; returns the rows."""
        rows = phones + tokens
        for name, table in self.arrays.items():
            found = read[name][0]
            with np.errstate(over="ignore"):  # what is no half float makes logits that are not finite
                table[slot, :, :phones] = found[:, :phones]
                table[slot, :, phones:rows] = found[:, found.shape[1] - tokens :]
        return rows

    def free(self, slot: int, rows: int) -> None:
        """Give the memory of a slot back that has so many rows; reading it gives zeros."""
        if slot < KEPT_SLOTS and rows <= KEPT_ROWS:
            for table in self.arrays.values():
                table[slot, :, : rows + 1] = 0.0  # one more: a pausing answer is computed along
            return
        for number in range(self._tables):
            self._memory.madvise(mmap.MADV_DONTNEED, (number * SLOTS + slot) * self._block, self._block)


class SessionDecoder(Decoder):
    """`prefill` and `step` are sessions of the graphs in `decoder_graphs`."""

    places = SLOTS

    def __init__(
        self, name: str, config: TextToSemanticConfig, prefill: Session, step: Session, text_step: int = 1
    ) -> None:
        """`text_step`: what phones are padded to multiples of, for a `prefill` that heeds its mask."""
        self.name = name
        self._text_step = text_step
        self._prefill, self._step = prefill, step
        self._reserve = Reserve(config, step.type_of("keys_0"))
        self._slots: list[Place | None] = [None] * SLOTS
        self._calls: dict[tuple[int, int], tuple[Callable[[], None], NDArray[np.int32]]] = {}
        self._tokens, self._positions = np.zeros((SLOTS, 1), np.int64), np.zeros((SLOTS, 1), np.int64)
        self._rows = np.zeros(SLOTS, np.int32)
        self._logits = np.zeros((SLOTS, 1, config.vocabulary), np.float32)

    def begin(self, prompt: TextPrompt, more: int) -> tuple[Tensor, Place]:
        """Raises TooLarge("clause_too_long") for more than ROWS, Busy("box_busy") when no slot is free."""
        rows = len(prompt.phones) + len(prompt.tokens) + more
        if rows > ROWS:
            raise TooLarge("clause_too_long", rows=rows, limit=ROWS)
        number = next((index for index, slot in enumerate(self._slots) if slot is None), None)
        if number is None:
            raise Busy("box_busy", scope="box", active=SLOTS, retry_after_s=1)
        read = dict(self._prefill.lend(prompt_feeds(prompt, self._text_step)))
        stored = self._reserve.store(number, read, len(prompt.phones), len(prompt.tokens))
        self._slots[number] = slot = Place(number, stored)
        self._rows[number] = slot.rows
        return torch.from_numpy(read["logits"].reshape(-1).copy()), slot

    def step(self, rows: Sequence[Row]) -> Tensor:
        numbers = [row.place.number for row in rows]
        for row in rows:
            self._tokens[row.place.number], self._positions[row.place.number] = row.token, row.position
        first, last = min(numbers), max(numbers) + 1
        call, total = self._calls.get((first, last)) or self._bind(first, last)
        total[...] = max(slot.rows for slot in self._slots[first:last] if slot is not None) + 1
        call()
        for row in rows:
            row.place.rows += 1
            self._rows[row.place.number] = row.place.rows
        return torch.from_numpy(self._logits[numbers, 0])  # (b, v), a copy

    def end(self, place: Place) -> None:
        if self._slots[place.number] is not place:
            return
        self._slots[place.number] = None
        for values in (self._rows, self._tokens, self._positions, self._logits):
            values[place.number] = 0
        self._reserve.free(place.number, place.rows)

    def rows(self) -> tuple[JsonDict, ...]:
        placed = self._prefill.records if isinstance(self._prefill, PlacedNetwork) else ()
        return tuple(asdict(record) for record in placed)

    def close(self) -> None:
        self._calls.clear()
        self._prefill.close()
        self._step.close()

    def _bind(self, first: int, last: int) -> tuple[Callable[[], None], NDArray[np.int32]]:
        """The call that steps the slots first … last - 1."""
        total = np.zeros((), np.int32)
        arrays: Arrays = {
            "tokens": self._tokens[first:last],
            "positions": self._positions[first:last],
            "rows": self._rows[first:last],
            "total": total,
            "logits": self._logits[first:last],
        }
        for name, table in self._reserve.arrays.items():
            arrays[name] = arrays[f"grown_{name}"] = table[first:last]
        self._calls[first, last] = found = (self._step.bind(arrays), total)
        return found


def prompt_feeds(prompt: TextPrompt, text_step: int = 1) -> Arrays:
    """What the graph "prefill" takes for one prompt; phones are padded to a multiple that nobody looks at."""
    phones, tokens = len(prompt.phones), len(prompt.tokens)
    wide = -(-phones // text_step) * text_step if tokens else phones  # without tokens the last phone gives the logits
    row, column = np.arange(wide + tokens)[:, None], np.arange(wide + tokens)[None, :]
    allowed = (column < phones) | ((column >= wide) & (row >= wide) & (column <= row))
    bert = np.zeros((1, wide, prompt.bert.shape[0]), np.float32)
    bert[0, :phones] = prompt.bert.numpy().T
    return {
        "phones": np.pad(prompt.phones.numpy(), (0, wide - phones))[None],
        "bert": bert,
        "tokens": prompt.tokens.numpy()[None],
        "mask": np.where(allowed, 0.0, BLOCKED).astype(np.float32)[None, None],
    }
