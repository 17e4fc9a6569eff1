"""Spelling -> ARPAbet for unknown words: the small recurrent network whose weights come with the g2p-en package.

Formulas: gated recurrent unit (Cho et al. 2014, in the form with the reset gate on the hidden side's product), greedy
decoding. Nothing of g2p-en is imported, because its import downloads dictionaries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LETTERS = {letter: index + 3 for index, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
_UNKNOWN, _WORD_END = 1, 2
_START, _END, _FIRST_PHONE = 2, 3, 4
_MOST_PHONES = 20
_PHONES = (
    "AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 ER0 ER1 ER2 "
    "EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH "
    "UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH"
)

_PHONE_NAMES = _PHONES.split()

Array = NDArray[Any]


class Predictor:
    """Reads one word; letters outside a to z (a hyphen) are the network's "unknown"."""

    def __init__(self, path: Path) -> None:
        """`path`: g2p-en's checkpoint20.npz, arrays without pickles."""
        with np.load(path, allow_pickle=False) as stored:
            self._weights: dict[str, Array] = {name: stored[name] for name in stored.files}

    def predict(self, word: str) -> list[str]:
        """At most 20 phones of a lower-case word."""
        state = np.zeros(self._weights["enc_w_hh"].shape[1], np.float32)  # (hidden,)
        for index in [*(_LETTERS.get(letter, _UNKNOWN) for letter in word), _WORD_END]:
            state = self._step("enc", self._weights["enc_emb"][index], state)
        phones: list[str] = []
        last = _START
        while len(phones) < _MOST_PHONES:
            state = self._step("dec", self._weights["dec_emb"][last], state)
            last = int((self._weights["fc_w"] @ state + self._weights["fc_b"]).argmax())
            if last == _END:
                break
            phones.append(_PHONE_NAMES[last - _FIRST_PHONE] if last >= _FIRST_PHONE else "UNK")
        return phones

    def _step(self, side: str, given: Array, state: Array) -> Array:
        """One step of the unit: (features,), (hidden,) -> (hidden,)."""
        w = self._weights
        from_input = np.split(w[f"{side}_w_ih"] @ given + w[f"{side}_b_ih"], 3)
        from_state = np.split(w[f"{side}_w_hh"] @ state + w[f"{side}_b_hh"], 3)
        reset, update = (1 / (1 + np.exp(-(a + b))) for a, b in zip(from_input[:2], from_state[:2], strict=True))
        proposal = np.tanh(from_input[2] + reset * from_state[2])
        return np.asarray((1 - update) * proposal + update * state)
