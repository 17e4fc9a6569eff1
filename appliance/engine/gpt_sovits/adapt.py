"""Fine-tuning as the engine's `adapt`: clips and imported weights in, a voice out.

The work is in `training/`: `listening` and `preparing` make features, `tuning` runs the two courses, `sampling` lets
people hear them. Here they are put in order, reported, and their outcome is written as an import would have written it.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from appliance.contracts import AdaptedVoice, AdaptTask, Audio, EngineHost, JsonDict, Progress, VoiceAssets
from appliance.engine.gpt_sovits.checkpoint import Checkpoint
from appliance.engine.gpt_sovits.conversion import convert
from appliance.engine.gpt_sovits.hubert import Hubert
from appliance.engine.gpt_sovits.networks import TITLES, Networks
from appliance.engine.gpt_sovits.pairing import ENGINE, TRAINABLE, helpers_of
from appliance.engine.gpt_sovits.reading import Reader
from appliance.engine.gpt_sovits.t2s import NAME_PREFIX
from appliance.engine.gpt_sovits.training.devices import PRECISIONS, find_device, find_precision
from appliance.engine.gpt_sovits.training.listening import Ears
from appliance.engine.gpt_sovits.training.plans import TrainingPlan, plan_training, rhythm_of
from appliance.engine.gpt_sovits.training.preparing import (
    LeftOut,
    Preparation,
    Prepared,
    ReadClip,
    Reference,
    choose_reference,
    require_base,
)
from appliance.engine.gpt_sovits.training.sampling import Sampler, write_sound
from appliance.engine.gpt_sovits.training.tuning import (
    SOUND,
    Advance,
    Tuning,
    best_of,
    digest_of,
    read_network,
    tune_sound,
    tune_tokens,
)
from appliance.errors import Corrupt, InvalidInput
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_V2

PREPARED, TUNED = 0.05, 0.98  # fractions at which the stages end
LONGEST_CLIP_S = 3600.0
Report = Callable[[Progress], None]


@dataclass(frozen=True)
class AdaptOptions:
    """`AdaptTask.options`."""

    steps: int = 0  # updates of each course; 0: as the minutes of speech deserve
    rank: int = 0  # of low-rank additions to s1; 0: all of it learns
    precision: str = "auto"
    device: str = "auto"
    threads: int = 1
    samples: int = 4  # sounds to listen to per course

    @classmethod
    def read(cls, options: JsonDict) -> AdaptOptions:
        """Raises InvalidInput("adapt_option_invalid")."""
        allowed = {
            **{"steps": range(10_001), "rank": range(257), "threads": range(1, 257), "samples": range(101)},
            **{"precision": ("auto", *PRECISIONS), "device": ("auto", "cpu", "cuda")},
        }
        known = {field.name for field in fields(cls)}
        for name, value in options.items():
            if name not in known or isinstance(value, bool) or value not in allowed[name]:
                raise InvalidInput("adapt_option_invalid", option=name, value=str(value)[:40])
        return cls(**options)


def read_clip(path: Path) -> Audio:
    """Mono, at its own rate."""
    from appliance.audio.files import read_audio, to_mono  # a box without sound libraries can still train

    decoded = read_audio(path, max_duration_s=LONGEST_CLIP_S)
    return Audio(to_mono(decoded.samples), decoded.sample_rate)


def adapt(task: AdaptTask, host: EngineHost, report: Report, read: ReadClip = read_clip) -> AdaptedVoice:
    """Fine-tune `task.base` to the clips. Resumes from `task.work_dir`; the same task gives the same voice on a CPU.

    Raises InvalidInput (adapt_option_invalid, training_nothing_usable, training_reference_missing,
    training_base_wrong), Unavailable("model_file_missing"), Corrupt, OSError for a full disk.
    """
    return _Adaptation(task, host, report, read).run()


class _Adaptation:
    def __init__(self, task: AdaptTask, host: EngineHost, report: Report, read: ReadClip) -> None:
        self._task, self._host, self._report, self._read = task, host, report, read
        self._options = AdaptOptions.read(task.options)
        self._version = _version_of(task.base)
        self._device = find_device(self._options.device)
        self._share = 0.5  # of the updates that belong to s2

    def run(self) -> AdaptedVoice:
        started = time.monotonic()
        torch.set_num_threads(self._options.threads)
        torch.set_flush_denormal(True)
        prepared, left_out = self._prepare()
        reference = choose_reference(prepared)
        tuning = Tuning(
            self._task.base,
            tuple(one.features for one in prepared),
            self._task.work_dir,
            self._plan(prepared),
            self._device,
        )
        outcome = self._tune(tuning)
        files = self._write(tuning, reference)
        metrics = outcome | self._metrics(tuning, prepared, left_out)
        metrics["seconds"] = round(time.monotonic() - started, 1)
        weights = {role: digest_of(path) for role, path in self._task.base.items() if not role.endswith("_config")}
        settings = {
            "transcript": reference.transcript,
            "language": reference.language,
            "training": _amount(tuning.plan, outcome),
        }
        return AdaptedVoice(files, settings, metrics, self._version, weights)

    # ------------------------------------------------------------ before

    def _prepare(self) -> tuple[list[Prepared], list[LeftOut]]:
        """The networks that listen are forgotten before the courses begin."""
        preparation = Preparation(self._task.work_dir / "features", self._read)
        tell = lambda share: self._report(Progress("prepare", PREPARED * share))
        found = preparation.run(self._task.clips, self._make_ears, tell)
        gc.collect()
        return found

    def _make_ears(self) -> Ears:
        networks, voice = Networks(), VoiceAssets("base", ENGINE, self._task.base)
        is_pro = "sv" in helpers_of(self._version)
        hubert: Hubert = read_network(self._task.base, "hubert", Hubert.from_tensors)
        return Ears(
            hubert=hubert.to(self._device),
            s2=networks.s2(voice).to(self._device),
            speaker=networks.speaker(voice).to(self._device) if is_pro else None,
            reader=Reader(self._host.frontends, GPT_SOVITS_V2, partial(networks.bert, voice)),
        )

    def _plan(self, prepared: list[Prepared]) -> TrainingPlan:
        minutes = sum(one.seconds for one in prepared) / 60.0
        is_gpu, options = self._device.type == "cuda", self._options
        plan = plan_training(minutes, len(prepared), is_gpu=is_gpu, seed=self._task.seed)
        precision = find_precision(self._device, options.precision)
        tokens = replace(plan.tokens, rank=options.rank, precision=precision)
        sound = replace(plan.sound, precision=precision)
        if options.steps:
            tokens = replace(tokens, rhythm=rhythm_of(options.steps))
            sound = replace(sound, rhythm=rhythm_of(options.steps))
        return replace(plan, tokens=tokens, sound=sound)

    # ------------------------------------------------------------ the courses

    def _tune(self, tuning: Tuning) -> JsonDict:
        updates = [tuning.plan.sound.rhythm.updates, tuning.plan.tokens.rhythm.updates]
        self._share = updates[0] / sum(updates)
        sampler = Sampler(tuning, self._task.samples_dir, self._options.samples) if self._task.samples_dir else None

        def listen(advance: Advance) -> None:
            self._tell(advance)
            if sampler is not None and self._options.samples:
                sampler.hear(advance)

        outcome = {"s2": tune_sound(tuning, listen)}
        gc.collect()  # the judges and their moments are larger than all of s1
        return outcome | {"s1": tune_tokens(tuning, listen)}

    def _tell(self, advance: Advance) -> None:
        """Raises Corrupt("training_diverged")."""
        told, standing = advance.report, advance.report.standing
        figures = dict(told.measures)
        if told.held_out is not None:
            figures["held_out"] = told.held_out
        if not all(np.isfinite(value) for value in figures.values()):
            raise Corrupt("training_diverged", stage=advance.stage, update=standing.done)
        share = standing.done / told.updates
        place = self._share * share if advance.stage == SOUND else self._share + (1 - self._share) * share
        fraction = PREPARED + (TUNED - PREPARED) * place
        self._report(Progress(advance.stage, fraction, None, {**figures, "step": float(standing.done)}))

    # ------------------------------------------------------------ after

    def _write(self, tuning: Tuning, reference: Reference) -> dict[str, Path]:
        """Files by role: the two networks in half precision, as official files hold them, and what speaks with them."""
        folder = self._task.work_dir / "voice"
        folder.mkdir(exist_ok=True)
        files = {
            role: path for role, path in self._task.base.items() if role.split("_")[0] in helpers_of(self._version)
        }
        s2 = {name: tensor for name, tensor in best_of(tuning, "s2").items() if not name.startswith("enc_q.")}
        s1 = {NAME_PREFIX + name: tensor for name, tensor in best_of(tuning, "s1").items()}
        for kind, version, tensors in (("s1", "v2", s1), ("s2", self._version, s2)):
            config = json.loads(self._task.base[f"{kind}_config"].read_text("utf-8"))
            checkpoint = Checkpoint(kind, version, _halved(kind, tensors), config, "", {})
            written = convert(checkpoint, folder / kind)
            files |= {kind: written.weights, f"{kind}_config": written.config}
        files["reference"] = folder / "reference.wav"
        write_sound(files["reference"], reference.sound)
        return files

    def _metrics(self, tuning: Tuning, prepared: list[Prepared], left_out: list[LeftOut]) -> JsonDict:
        return {
            "clips": len(prepared),
            "left_out": [one.as_json() for one in left_out],
            "held_out": len(tuning.split()[1]),
            "minutes": round(sum(one.seconds for one in prepared) / 60.0, 3),
            "device": torch.cuda.get_device_name() if self._device.type == "cuda" else "cpu",
            "plan": asdict(tuning.plan),
        }


def _version_of(base: Mapping[str, Path]) -> str:
    """Of s2; everything that a fine-tune needs is there. Raises Unavailable, InvalidInput("training_base_wrong")."""
    require_base(base, ("s1", "s1_config", "s2", "s2_config", "s2d"), TITLES)
    version = str(json.loads(base["s2_config"].read_text("utf-8")).get("version") or "v2")
    if version not in TRAINABLE:
        raise InvalidInput("training_base_wrong", problem=version)
    require_base(base, helpers_of(version), TITLES)
    return version


def _halved(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Raises Corrupt("training_diverged") where a number does not fit."""
    found = {name: tensor.half().numpy() for name, tensor in tensors.items()}
    if not all(np.isfinite(numbers).all() for numbers in found.values()):
        raise Corrupt("training_diverged", stage=kind, update=0)
    return found


def _amount(plan: TrainingPlan, outcome: JsonDict) -> JsonDict:
    """How much was learnt, in the words of official files: epochs, and steps of s2."""
    sound, tokens = plan.sound, plan.tokens
    clips = outcome["s1"]["best_at"] * tokens.batch * tokens.accumulation
    return {
        "s1_epochs": max(1, clips // sound.epoch),
        "s2_epochs": max(1, outcome["s2"]["best_at"] * sound.batch // sound.epoch),
        "s2_steps": outcome["s2"]["best_at"],
    }
