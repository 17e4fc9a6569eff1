"""Sound in memory, and the JSON that rooms tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]  # (n,) mono, full scale = 1.0
JsonDict = dict[str, Any]


@dataclass(frozen=True)
class Audio:
    """Mono sound in memory."""

    samples: Samples  # (n,)
    sample_rate: int  # Hz

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate
