"""A whole fine-tune: clips that are prepared already -> s2 and s1 as they measured best.

Everything lies under one folder and is taken up again from there: features, `s2/` and `s1/` with their checkpoints.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits.discriminator import Discriminator
from appliance.engine.gpt_sovits.sovits import Synthesizer
from appliance.engine.gpt_sovits.t2s import TextToSemantic
from appliance.engine.gpt_sovits.training.clips import hold_out
from appliance.engine.gpt_sovits.training.courses import SoundCourse, TokenCourse
from appliance.engine.gpt_sovits.training.draws import generator_of
from appliance.engine.gpt_sovits.training.plans import TrainingPlan
from appliance.engine.gpt_sovits.training.practice import BEST, Course, Report, practise
from appliance.errors import Corrupt, InvalidInput

SOUND, TOKENS = "learn_sound", "learn_tokens"  # the stages
COURSES = "1"  # changes whenever equal inputs give other weights: no checkpoint is then gone on from
CHECKPOINT_FACTOR = 6  # of the bytes of what learns: it and its two moments, twice while a checkpoint is replaced


@dataclass(frozen=True)
class Tuning:
    """What a fine-tune is made of."""

    base: Mapping[str, Path]  # role -> file: s1, s2, s2d, and s1_config, s2_config
    clips: tuple[Path, ...]  # of `clips.write_clip`
    folder: Path
    plan: TrainingPlan
    device: torch.device

    def split(self) -> tuple[list[Path], list[Path]]:
        return hold_out(self.clips, self.plan.held_out, generator_of(self.plan.seed, 0, "order"))


@dataclass(frozen=True)
class Advance:
    """What a listener is told after every update."""

    stage: str
    report: Report
    course: Course


Listen = Callable[[Advance], None]


def tune_sound(tuning: Tuning, listen: Listen) -> JsonDict:
    """Fine-tune s2; `best.safetensors` in `folder / "s2"`. Returns how it went.

    Raises InvalidInput("training_base_wrong"), Corrupt("voice_files_corrupt"), OSError for a full disk.
    """
    network, judges = read_sound(tuning.base, tuning.device)
    _require_space(tuning.folder, [network, judges])
    taught, held_out = tuning.split()
    course = SoundCourse.of((network, judges), taught, held_out, tuning.plan.sound, tuning.plan.seed)
    return _practise(tuning, SOUND, "s2", course, listen)


def tune_tokens(tuning: Tuning, listen: Listen) -> JsonDict:
    """Fine-tune s1; `best.safetensors` in `folder / "s1"`. As `tune_sound`."""
    network = read_network(tuning.base, "s1", TextToSemantic.from_tensors).to(tuning.device)
    _require_space(tuning.folder, [network])
    taught, held_out = tuning.split()
    course = TokenCourse(network, taught, held_out, tuning.plan.tokens, tuning.plan.seed)
    return _practise(tuning, TOKENS, "s1", course, listen)


def read_sound(base: Mapping[str, Path], device: torch.device) -> tuple[Synthesizer, Discriminator]:
    """s2 with the part that teaches it, and its judges. Raises InvalidInput("training_base_wrong"), Corrupt."""
    network = read_network(base, "s2", Synthesizer.from_tensors)
    if not network.config.has_posterior:
        raise InvalidInput("training_base_wrong", problem="enc_q")
    judges = read_network(base, "s2d", lambda tensors, _: Discriminator.from_tensors(tensors))
    return network.to(device), judges.to(device)


def read_network(base: Mapping[str, Path], role: str, make: Callable[[dict[str, Tensor], JsonDict], Any]) -> Any:
    """What `make` makes of the tensors and the configuration of `role`. Raises Corrupt("voice_files_corrupt")."""
    config = base.get(f"{role}_config")
    try:
        return make(load_file(base[role]), json.loads(config.read_text("utf-8")) if config else {})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Corrupt("voice_files_corrupt", file=role, reason=str(error)[:300]) from error


def _practise(tuning: Tuning, stage: str, name: str, course: Course, listen: Listen) -> JsonDict:
    plan = tuning.plan.sound if stage == SOUND else tuning.plan.tokens
    folder, told = tuning.folder / name, _fingerprint(tuning, name)
    standing = practise(course, folder, plan.rhythm, told, lambda report: listen(Advance(stage, report, course)))
    return {
        "updates": standing.done,
        "planned": plan.rhythm.updates,
        "best_at": standing.best_at,
        "best": standing.best,
    }


def best_of(tuning: Tuning, name: str) -> dict[str, Tensor]:
    """The weights of a finished course, in float32 on the CPU."""
    return load_file(tuning.folder / name / BEST)


def _fingerprint(tuning: Tuning, name: str) -> str:
    """What the outcome depends on."""
    digest = hashlib.sha256(json.dumps([COURSES, name, asdict(tuning.plan)], sort_keys=True).encode())
    roles = ("s2", "s2d", "s2_config") if name == "s2" else ("s1", "s1_config")
    for path in (*(tuning.base[role] for role in roles), *tuning.clips):
        digest.update(digest_of(path).encode())
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_space(folder: Path, networks: Sequence[nn.Module]) -> None:
    """Better before hours of work than after them. Raises OSError (ENOSPC)."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = CHECKPOINT_FACTOR * sum(4 * p.numel() for network in networks for p in network.parameters())
    there = sum(path.stat().st_size for path in folder.rglob("checkpoint.pt"))
    if shutil.disk_usage(folder).free + there < wanted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
