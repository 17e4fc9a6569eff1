"""What a job leaves for people to look at while it runs: curves of what was measured, and samples to listen to.

Both lie in the job's folder, are written by its child and read by the daemon. A curve file has one JSON object a line;
steps that were taken again after a crash are there twice, and the later line counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.contracts import JsonDict
from appliance.errors import NotFound

CURVES, SAMPLES = "curves.jsonl", "samples"
MOST_POINTS = 400  # of one curve, for a picture
_SAMPLE = re.compile(r"([a-z_]{1,40})-(\d{1,9})\.wav")


class CurveFile:
    """Appends one line per step. A line that a crash cut off is closed first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("ab", buffering=0)
        self._file.write(b"\n" if self._file.tell() else b"")

    def add(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Raises OSError."""
        row = {"stage": stage, "step": step, **{name: float(f"{value:.6g}") for name, value in figures.items()}}
        self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")


def read_curves(path: Path) -> tuple[JsonDict, ...]:
    """Rows of id, stage, name and points [[step, value], …], at most `MOST_POINTS` each; the last is always there."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in _rows(path):
        stage, step = str(row.pop("stage")), int(row.pop("step"))
        for name, value in row.items():
            found.setdefault((stage, name), {})[step] = float(value)
    return tuple(
        {"id": f"{stage}.{name}", "stage": stage, "name": name, "points": _thinned(sorted(points.items()))}
        for (stage, name), points in found.items()
    )


def _rows(path: Path) -> list[JsonDict]:
    if not path.is_file():
        return []
    rows: list[JsonDict] = []
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # empty, or cut off by a crash
            continue
        if isinstance(row, dict) and row.keys() >= {"stage", "step"}:
            rows.append(row)
    return rows


def _thinned(points: list[tuple[int, float]]) -> list[list[float]]:
    stride = -(-len(points) // MOST_POINTS)
    return [list(point) for point in points[::-1][::stride][::-1]]


@dataclass(frozen=True)
class Sample:
    """A sound of the voice as it was after `step` updates of `stage`."""

    id: str  # "learn_sound-40.wav"
    stage: str
    step: int
    bytes: int


def list_samples(folder: Path) -> tuple[Sample, ...]:
    """In the order in which they were made."""
    if not folder.is_dir():
        return ()
    made = sorted((path.stat().st_mtime_ns, path) for path in folder.iterdir())
    matches = [(path, _SAMPLE.fullmatch(path.name)) for _, path in made]
    return tuple(Sample(path.name, match[1], int(match[2]), path.stat().st_size) for path, match in matches if match)


def sample_path(folder: Path, name: str) -> Path:
    """Raises NotFound("job_sample_not_found")."""
    path = folder / name
    if not _SAMPLE.fullmatch(name) or not path.is_file():
        raise NotFound("job_sample_not_found", sample=name[:80])
    return path
