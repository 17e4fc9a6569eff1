"""A site that runs GPT-SoVITS: a stick with tiny weights, and a box whose command line and doors are asked."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import soundfile

TESTS = Path(__file__).parents[1]
READER = TESTS.parent / "appliance/data/demo/two_cities.flac"
WORDS = "It was the best of times, it was the worst of times."
HELPERS = ("chinese-hubert-base", "chinese-roberta-wwm-ext-large", "sv/pretrained_eres2netv2w24s4ep4.ckpt")


def load_module(name: str, path: Path) -> ModuleType:
    """A module of another folder of tests."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def make_stick(folder: Path, golden: dict[str, Path]) -> Path:
    """Weights as an operator brings them: the golden s1 and s2 by the names in `golden`, and helpers beside them."""
    import torch

    from appliance.engine.gpt_sovits.eres2net import SpeakerNet, SpeakerNetConfig

    tiny = load_module("tiny_networks", TESTS / "engine/gpt_sovits/conftest.py")
    folder.mkdir(parents=True)
    for name, path in golden.items():
        (folder / name).write_bytes(path.read_bytes())
    tiny.hubert_file(folder / HELPERS[0])
    tiny.bert_file(folder / HELPERS[1])
    (folder / "sv").mkdir()
    speaker = tiny.random_weights(SpeakerNet(SpeakerNetConfig()), 0)
    torch.save({name: tensor.half() for name, tensor in speaker.items()}, folder / HELPERS[2])
    return folder


def write_clip(path: Path, seconds: float, *, rate: int = 24_000, channels: int = 1, gain: float = 1.0) -> Path:
    """The beginning of a real reading."""
    samples, found = soundfile.read(READER, dtype="float32", frames=int(seconds * soundfile.info(READER).samplerate))
    samples = samples[:: found // rate] * gain
    if channels == 2:
        samples = np.stack([samples, np.roll(samples, 4000) * 0.4], axis=1)
    soundfile.write(path, samples, rate)
    return path


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def voiced(*words: str | Path, state_dir: Path) -> Outcome:
    """The command in a process of its own, on the box of this state directory."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("VOICED_")}
    done = subprocess.run(
        [sys.executable, "-m", "appliance", *map(str, words), "--state-dir", str(state_dir), "--lang", "en"],
        env=clean,
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=100,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
