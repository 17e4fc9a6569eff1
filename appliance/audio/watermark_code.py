"""The error-correcting code under the watermark: 40 bits and a keyed check of 12 as 240 symbols, and back.

A convolutional code of rate 1/4 and constraint length 9 (generators 463, 535, 733, 745 octal, the best known of its
size: Larsen 1973), ended with eight zeros, decoded softly by Viterbi's algorithm. The check is a truncated HMAC, so
that only the box that marked a sound finds its own mark valid.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PAYLOAD_BITS = 40
CHECK_BITS = 12
GENERATORS = (0o463, 0o535, 0o733, 0o745)
MEMORY = 8  # constraint length 9
STEPS = PAYLOAD_BITS + CHECK_BITS + MEMORY
SYMBOLS = STEPS * len(GENERATORS)
_STATES = 1 << MEMORY


def encode_payload(payload: int, key: bytes) -> Array:
    """A number of 40 bits -> (240,) symbols of +1 and -1."""
    message = payload << CHECK_BITS | _check(payload, key)
    register, symbols = 0, []
    for step in range(STEPS):
        bit = message >> (PAYLOAD_BITS + CHECK_BITS - 1 - step) & 1 if step < STEPS - MEMORY else 0
        register = (register << 1 | bit) & (2 * _STATES - 1)
        symbols += [1.0 - 2.0 * ((register & generator).bit_count() & 1) for generator in GENERATORS]
    return np.array(symbols)


def decode_payload(received: Array, key: bytes) -> int | None:
    """(240,) soft symbols of any scale -> the payload, or None when the check does not hold."""
    message = _most_likely(received.reshape(STEPS, len(GENERATORS)))
    payload, check = message >> CHECK_BITS, message & ((1 << CHECK_BITS) - 1)
    return payload if check == _check(payload, key) else None


def _check(payload: int, key: bytes) -> int:
    digest = hmac.digest(key, b"watermark check" + payload.to_bytes(PAYLOAD_BITS // 8, "big"), hashlib.sha256)
    return int.from_bytes(digest[:4], "big") >> 32 - CHECK_BITS


@cache
def _trellis() -> tuple[NDArray[np.intp], Array]:
    """For each state reached: its two predecessors (256, 2), and the symbols of those two transitions (256, 2, 4)."""
    reached = np.arange(_STATES)
    before = np.stack([reached >> 1, reached >> 1 | _STATES >> 1], axis=1)
    registers = before << 1 | (reached & 1)[:, None]
    symbols = np.array(
        [[[1.0 - 2.0 * ((int(r) & g).bit_count() & 1) for g in GENERATORS] for r in row] for row in registers]
    )
    return before.astype(np.intp), symbols


def _most_likely(received: Array) -> int:
    """(60, 4) soft symbols -> the message whose symbols correlate best with them."""
    before, symbols = _trellis()
    score = np.full(_STATES, -np.inf)
    score[0] = 0.0
    choices = np.zeros((STEPS, _STATES), np.intp)
    odd = np.arange(_STATES) & 1 == 1
    for step, row in enumerate(received):
        both = score[before] + symbols @ row  # (256, 2)
        choices[step] = both.argmax(axis=1)
        score = both.max(axis=1)
        if step >= STEPS - MEMORY:
            score[odd] = -np.inf  # the tail is zeros
    state, message = 0, 0
    for step in reversed(range(STEPS)):
        message |= (state & 1) << (STEPS - 1 - step)
        state = int(before[state, choices[step, state]])
    return message >> MEMORY
