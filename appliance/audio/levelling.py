"""How loud a music file is: `python -m appliance.audio.levelling FILE` prints `{"lufs", "peak_db"}`.

A process of its own for seconds: long files are decoded piece by piece and never lie in anybody's memory as a whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from appliance.audio.loudness import loudness_of_parts, peak_dbfs
from appliance.contracts import Samples

PIECE_S = 30.0
MOST_S = 1_800.0  # of a very long file the first half hour tells enough


def measure(path: Path) -> dict[str, float]:
    """Loudness (LUFS, of the mono sum that the player plays) and greatest sample (dBFS).

    Raises OSError, LibsndfileError.
    """
    peaks: list[float] = []
    with soundfile.SoundFile(path) as file:
        lufs = loudness_of_parts(_pieces(file, peaks), file.samplerate)
    return {"lufs": lufs, "peak_db": max(peaks, default=peak_dbfs(np.zeros(0, np.float32)))}


def _pieces(file: soundfile.SoundFile, peaks: list[float]) -> Iterator[Samples]:
    for _ in range(round(MOST_S / PIECE_S)):
        frames = file.read(round(PIECE_S * file.samplerate), dtype="float32", always_2d=True)
        if len(frames) == 0:
            return
        mono = np.nan_to_num(frames.mean(axis=1), posinf=0.0, neginf=0.0).astype(np.float32)
        peaks.append(peak_dbfs(mono))
        yield mono


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
