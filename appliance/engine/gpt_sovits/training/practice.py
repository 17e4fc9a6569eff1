"""The loop: updates, measurements, checkpoints. A run that was broken off anywhere goes on from its last checkpoint and
ends with the weights that an unbroken run gives (on a CPU, with the same number of threads).

In its folder: `checkpoint.pt`, everything that goes on; `best.safetensors`, the network as it measured best. Each is
replaced in one rename.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from safetensors.torch import save
from torch import Tensor

from appliance.engine.gpt_sovits.training.plans import Rhythm
from appliance.errors import Conflict, Corrupt

CHECKPOINT, BEST = "checkpoint.pt", "best.safetensors"


class Course(Protocol):
    def take(self, update: int) -> dict[str, float]: ...
    def measure(self) -> float | None: ...
    def weights(self) -> dict[str, Tensor]: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass
class Standing:
    """How far a course is; part of its checkpoint."""

    done: int = 0  # updates
    best: float | None = None  # lower is better
    best_at: int = 0  # updates done then
    waited: int = 0  # measurements since
    is_over: bool = False


@dataclass(frozen=True)
class Report:
    standing: Standing
    updates: int  # planned
    measures: dict[str, float]  # of the last update
    held_out: float | None = None  # what the clips that are not trained on measured after it, if they were asked


def practise(
    course: Course, folder: Path, rhythm: Rhythm, fingerprint: str, listen: Callable[[Report], None]
) -> Standing:
    """Runs `course` to its end, from where `folder` says it is. `fingerprint` names base weights, clips, plan and seed.

    Without held-out clips the last weights are the best. Raises Conflict("training_checkpoint_other") where the
    checkpoint belongs to another fingerprint, Corrupt("training_checkpoint_broken").
    """
    folder.mkdir(parents=True, exist_ok=True)
    standing = _resume(course, folder / CHECKPOINT, fingerprint)
    while not standing.is_over:
        measures = course.take(standing.done)
        standing.done += 1
        is_last = standing.done >= rhythm.updates
        held_out = None
        if is_last or standing.done % rhythm.measure_every == 0:
            held_out = _measure(course, folder, rhythm, standing)
        standing.is_over = is_last or standing.is_over
        if standing.is_over or standing.done % rhythm.save_every == 0:
            _save(course, folder / CHECKPOINT, fingerprint, standing)
        listen(Report(standing, rhythm.updates, measures, held_out))
    return standing


def _measure(course: Course, folder: Path, rhythm: Rhythm, standing: Standing) -> float | None:
    found = course.measure()
    if found is None or standing.best is None or found < standing.best:
        standing.best, standing.best_at, standing.waited = found, standing.done, 0
        network = course.weights()
        replace_file(folder / BEST, save({name: tensor.contiguous().cpu() for name, tensor in network.items()}))
        return found
    standing.waited += 1
    standing.is_over = standing.waited >= rhythm.patience
    return found


def _save(course: Course, path: Path, fingerprint: str, standing: Standing) -> None:
    content = {"fingerprint": fingerprint, "standing": asdict(standing), "course": course.state()}
    _write_whole(path, lambda file: torch.save(content, file))


def _resume(course: Course, path: Path, fingerprint: str) -> Standing:
    if not path.exists():
        return Standing()
    try:
        # weights_only: tensors and plain values, no code; the file is our own, but lies on a disk
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["fingerprint"] != fingerprint:
            raise Conflict("training_checkpoint_other", folder=path.parent.name)
        course.restore(saved["course"])
        return Standing(**saved["standing"])
    except (RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise Corrupt("training_checkpoint_broken", folder=path.parent.name, reason=str(error)[:200]) from error


def replace_file(path: Path, data: bytes) -> None:
    """`path` is the old file or the new one, never half of one, also after a power cut."""
    _write_whole(path, lambda file: file.write(data))


def _write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Nothing is left of a file that could not be finished. Raises OSError, also where torch makes a riddle of it."""
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        raise (cause if isinstance(cause, OSError) else error) from error
    _put_in_place(temporary, path)


def _put_in_place(temporary: Path, path: Path) -> None:
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
