"""s1 on a device with memory of its own (an NVIDIA GPU): weights, keys and values stay there, logits come back.

Every step is one batch of all slots over a capacity that the longest of its answers needs, so it has few shapes, and
each is recorded once as a CUDA graph: a step of a hundred kernels costs one launch. An answer is always computed in
the batch of its own capacity, so its numbers do not depend on its neighbours'.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from appliance.engine.gpt_sovits.decoding import Decoder, Place, Row
from appliance.engine.gpt_sovits.t2s import Block, TextPrompt, TextToSemantic
from appliance.errors import Busy, TooLarge

log = logging.getLogger(__name__)

SLOTS = 8  # answers under way at once
CAPACITIES = (512, 1024, 2048)  # rows of phones and speech tokens; the last one is 80 seconds of speech
SPARE = CAPACITIES[-1]  # a row that is written and never read
RUNS_BEFORE_RECORDING = 2  # libraries set themselves up at their first calls, which must not be recorded


@dataclass
class _Inputs:
    """What a step reads, in memory that stays where it is."""

    tokens: Tensor  # (SLOTS,)
    positions: Tensor  # (SLOTS,)
    rows: Tensor  # (SLOTS,) where the new key and value go; SPARE for slots that do not take part


class DeviceDecoder(Decoder):
    """`network` is where it stays and in the type it computes in. Without CUDA graphs steps run as they are."""

    places = SLOTS

    def __init__(self, name: str, network: TextToSemantic) -> None:
        weights = network.bert_proj.weight
        device, dtype = weights.device, weights.dtype
        self.name = name
        self._network = network
        self._device = device
        config = network.config
        shape = (config.layers, SLOTS, config.heads, SPARE + 1, config.width // config.heads)
        self._keys, self._values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
        self._inputs = _Inputs(*(torch.zeros(SLOTS, dtype=torch.long, device=device) for _ in range(3)))
        self._slots: list[Place | None] = [None] * SLOTS
        self._steps: dict[int, Callable[[], Tensor]] = {}
        self._runs: dict[int, int] = {}
        self.why_eager = "" if device.type == "cuda" else f"{device.type} has no CUDA graphs"

    @torch.inference_mode()
    def begin(self, prompt: TextPrompt, more: int) -> tuple[Tensor, Place]:
        """Raises TooLarge("clause_too_long"), Busy("box_busy") when no slot is free."""
        rows = len(prompt.phones) + len(prompt.tokens) + more
        if rows > CAPACITIES[-1]:
            raise TooLarge("clause_too_long", rows=rows, limit=CAPACITIES[-1])
        number = next((index for index, slot in enumerate(self._slots) if slot is None), None)
        if number is None:
            raise Busy("box_busy", scope="box", active=SLOTS, retry_after_s=1)
        there = TextPrompt(
            prompt.phones.to(self._device),
            prompt.bert.to(self._device, self._keys.dtype),
            prompt.tokens.to(self._device),
        )
        logits, cache = self._network.prefill([there], more=0)
        self._keys[:, number, :, : cache.length] = cache.keys[:, 0, :, : cache.length]
        self._values[:, number, :, : cache.length] = cache.values[:, 0, :, : cache.length]
        self._slots[number] = place = Place(number, cache.length)
        return logits[0].float().cpu(), place

    @torch.inference_mode()
    def step(self, rows: Sequence[Row]) -> Tensor:
        found: dict[int, Tensor] = {}
        for capacity in sorted({_capacity(row.place) for row in rows}):
            group = [row for row in rows if _capacity(row.place) == capacity]
            logits = self._together(group, capacity)
            found |= {row.place.number: logits[row.place.number] for row in group}
        for row in rows:
            row.place.rows += 1
        return torch.stack([found[row.place.number] for row in rows])  # (b, v)

    def end(self, place: Place) -> None:
        if self._slots[place.number] is place:
            self._slots[place.number] = None
            self._keys[:, place.number].zero_()
            self._values[:, place.number].zero_()

    def close(self) -> None:
        self._steps.clear()
        self._keys = self._values = torch.zeros(0)

    @property
    def recorded_capacities(self) -> tuple[int, ...]:
        """Those whose step is a CUDA graph."""
        return tuple(sorted(self._steps))

    def _together(self, group: Sequence[Row], capacity: int) -> Tensor:
        """One step of a batch; slots that do not take part are computed along and keep what they have."""
        tokens, positions, rows = [0] * SLOTS, [0] * SLOTS, [SPARE] * SLOTS
        for row in group:
            number = row.place.number
            tokens[number], positions[number], rows[number] = row.token, row.position, row.place.rows
        for target, values in zip(
            (self._inputs.tokens, self._inputs.positions, self._inputs.rows), (tokens, positions, rows), strict=True
        ):
            target.copy_(torch.tensor(values))
        return self._run(capacity).float().cpu()  # (SLOTS, v)

    def _run(self, capacity: int) -> Tensor:
        step = self._steps.get(capacity)
        if step is not None:
            return step()
        self._runs[capacity] = self._runs.get(capacity, 0) + 1
        if not self.why_eager and self._runs[capacity] > RUNS_BEFORE_RECORDING:
            try:
                self._steps[capacity] = self._record(capacity)
                return self._steps[capacity]()
            except RuntimeError as error:
                self.why_eager = str(error).splitlines()[0]
                log.warning("steps of s1 are not recorded: %s", self.why_eager)
                torch.cuda.synchronize(self._device)
        return self._compute(capacity)

    def _record(self, capacity: int) -> Callable[[], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._compute(capacity)

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay

    def _compute(self, capacity: int) -> Tensor:
        """Logits (SLOTS, v) of one more row of every slot, on the first `capacity` rows of its keys and values."""
        network, given = self._network, self._inputs
        slots = torch.arange(SLOTS, device=self._device)
        allowed = (torch.arange(capacity, device=self._device) <= given.rows[:, None])[:, None, None]  # (b, 1, 1, c)
        x = network.ar_audio_position(network.ar_audio_embedding(given.tokens[:, None]), given.positions)  # (b, 1, d)
        for index, module in enumerate(network.h.layers):
            layer = cast(Block, module)
            q, k, v = layer.self_attn.project(x)
            keys, values = self._keys[index], self._values[index]
            keys[slots, :, given.rows] = k[:, :, 0]
            values[slots, :, given.rows] = v[:, :, 0]
            mixed = layer.self_attn.attend(q, keys[:, :, :capacity], values[:, :, :capacity], allowed)
            x = layer.finish(x, mixed)
        logits: Tensor = network.ar_predict_layer(x[:, -1])
        return logits


def _capacity(place: Place) -> int:
    """The smallest that holds one more row."""
    return next(capacity for capacity in CAPACITIES if place.rows < capacity)
