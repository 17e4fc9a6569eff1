"""From files in their official formats to speech: the golden checkpoints, and folders of tiny helpers."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from appliance.contracts import SpeakTask, VoiceAssets
from appliance.engine.gpt_sovits.checkpoint import read_checkpoint
from appliance.engine.gpt_sovits.conversion import convert

from .conftest import Models, Say, bert_file, clip, hubert_file

spec = importlib.util.spec_from_file_location("golden_recipe", Path(__file__).parents[2] / "parity" / "recipe.py")
assert spec is not None
assert spec.loader is not None
sys.modules["golden_recipe"] = recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)

SHORT = "下雨了。"


def import_file(path: Path, folder: Path) -> tuple[Path, Path]:
    converted = convert(read_checkpoint(path), folder / path.stem)
    return converted.weights, converted.config


@pytest.fixture(scope="module")
def golden_voices(models: Models, tmp_path_factory: pytest.TempPathFactory) -> dict[str, VoiceAssets]:
    """One voice per s2 of the golden folder, all with its s1."""
    folder = tmp_path_factory.mktemp("imported")
    names = ("s1_tiny.ckpt", "s2_v2_tiny.pth", "s2_v2Pro_tiny.pth")
    s1, v2, pro = (import_file(recipe.golden(f"gptsovits_tiny/{name}"), folder) for name in names)
    helpers = {
        "hubert": import_file(hubert_file(folder / "chinese-hubert-base"), folder / "chinese-hubert-base"),
        "bert": import_file(bert_file(folder / "chinese-roberta"), folder / "chinese-roberta"),
    }
    reference = models.reference("golden", clip(4.0, 150.0))
    return {
        "v2": models.voice("golden v2", {"s1": s1, "s2": v2, **helpers}, reference, transcript="今天下雨了。"),
        "v2Pro": models.voice("golden pro", {"s1": s1, "s2": pro, "sv": models.speaker(), **helpers}, reference),
    }


@pytest.mark.parametrize("version", ["v2", "v2Pro"])
def test_golden_checkpoints_speak(say: Say, golden_voices: dict[str, VoiceAssets], version: str) -> None:
    sound = say(SpeakTask(SHORT, golden_voices[version], "zh", seed=5))
    assert len(sound) > 32_000
    assert np.abs(sound).max() > 0.01
    assert np.abs(sound).max() <= 1.0
    assert np.array_equal(sound, say(SpeakTask(SHORT, golden_voices[version], "zh", seed=5)))


def test_golden_voices_at_the_same_time(say: Say, golden_voices: dict[str, VoiceAssets]) -> None:
    tasks = [SpeakTask(SHORT, voice, "zh", seed=seed) for seed in range(3) for voice in golden_voices.values()]
    alone = [say(task) for task in tasks]
    with ThreadPoolExecutor(3) as crowd:
        for before, now in zip(alone, crowd.map(say, tasks), strict=True):
            assert np.array_equal(before, now)
