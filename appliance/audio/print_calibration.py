"""Making the likenesses of another network mean what those of the shipped encoder mean, from the same synthetic voices.

Two thresholds decide at the gate. What a cosine of 0.6 says is another thing for every network, and nobody has marked
recordings for each. So both hear the same voices: where each puts two halves of one voice, and two voices, is known,
and a straight line brings the one pair of means onto the other. A network that does not tell the voices apart is none
to decide with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from appliance.audio.voiceprint import PrintModel, centres
from appliance.errors import InvalidInput

Array = NDArray[np.float32]

FEWEST_VOICES = 12
LEAST_DISTANCE = 1.5  # between the means of one voice and of two, in standard deviations


def calibrate(model_id: str, prints: Sequence[Array], known: PrintModel, known_prints: Sequence[Array]) -> PrintModel:
    """The model of `prints`, one (3, pieces, width) for each voice, two pieces at least, on the scale of `known`.

    `known_prints`: the same voices by the known model. Raises InvalidInput("print_model_blind" |
    "print_cohort_too_small").
    """
    if len(prints) < FEWEST_VOICES or len(prints) != len(known_prints):
        raise InvalidInput("print_cohort_too_small", voices=len(prints), required=FEWEST_VOICES)
    raw = PrintModel(model_id, np.stack([centres(one) for one in prints], axis=1))
    same, other = _scores(raw, prints)
    distance = (same.mean() - other.mean()) / max(1e-9, float(np.sqrt((same.var() + other.var()) / 2)))
    if not distance >= LEAST_DISTANCE:  # NaN fails this too
        raise InvalidInput("print_model_blind", distance=round(float(distance), 2), required=LEAST_DISTANCE)
    wanted_same, wanted_other = (scores.mean() for scores in _scores(known, known_prints))
    slope = float((wanted_same - wanted_other) / (same.mean() - other.mean()))
    return replace(raw, slope=slope, offset=float(wanted_other - slope * other.mean()))


def _scores(model: PrintModel, prints: Sequence[Array]) -> tuple[Array, Array]:
    """Likenesses of two halves of one voice, and of the first halves of two."""
    halves = [np.array_split(one, 2, axis=1) for one in prints]
    same = [model.likeness(first, second) for first, second in halves if second.shape[1]]
    other = [model.likeness(one[0], two[0]) for one, two in combinations(halves, 2)]
    return np.array(same, np.float32), np.array(other, np.float32)
