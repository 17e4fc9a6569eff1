"""What the child of a job says to the daemon: JSON lines."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import BinaryIO

from appliance.jobs.artifacts import CurveFile


class Reporter:
    """Writes JSON lines to the daemon; a daemon that is gone ends this process."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.curves: CurveFile | None = None  # where figures are kept that come with a "step"
        self._began: tuple[float, float] | None = None  # (monotonic s, fraction) of the first progress

    def tell(self, event: str, **values: object) -> None:
        try:
            self._stream.write(json.dumps({"event": event, **values}, allow_nan=False).encode() + b"\n")
            self._stream.flush()
        except OSError:
            os._exit(0)

    def progress(self, stage: str, fraction: float, metrics: Mapping[str, float] | None = None) -> None:
        """`fraction` of the whole job. The time left is guessed from the pace of this process."""
        now = time.monotonic()
        since, start = self._began = self._began or (now, fraction)
        moved = fraction - start
        eta_s = round((1.0 - fraction) * (now - since) / moved, 1) if moved > 0.01 else None
        figures = {key: float(value) for key, value in (metrics or {}).items() if abs(float(value)) < 1e300}
        step = figures.pop("step", None)
        if self.curves is not None and step is not None and figures:
            self.curves.add(stage, int(step), figures)
        if step is not None:
            figures["step"] = step
        self.tell("progress", stage=stage, fraction=round(fraction, 4), eta_s=eta_s, metrics=figures)
