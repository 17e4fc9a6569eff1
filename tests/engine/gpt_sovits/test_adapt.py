"""The whole way from clips to a voice, on networks that are small and know nothing: `training.rehearsal`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from appliance.contracts import AdaptTask, Clip, EngineHost  # noqa: E402
from appliance.engine.gpt_sovits.adapt import adapt  # noqa: E402
from appliance.engine.gpt_sovits.sovits import Synthesizer  # noqa: E402
from appliance.engine.gpt_sovits.t2s import TextToSemantic, TextToSemanticConfig  # noqa: E402
from appliance.engine.gpt_sovits.training import rehearsal, tuning  # noqa: E402
from appliance.engine.gpt_sovits.training.low_rank import add_low_rank, merged  # noqa: E402
from appliance.engine.gpt_sovits.training.preparing import Prepared, choose_reference  # noqa: E402
from appliance.errors import InvalidInput, Unavailable  # noqa: E402

ORDER = (
    "--size",
    "tiny",
    "--clips",
    "5",
    "--seconds",
    "1.2",
    "--samples",
    "1",
    "--device",
    "cpu",
    "--precision",
    "float32",
)


def rehearse(folder: Path, *words: str) -> Any:
    return rehearsal.rehearse(rehearsal.parse([*ORDER, *words]), folder)


def voice_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "work/voice").iterdir())}


@pytest.mark.parametrize(
    ("version", "more"), [("v2", ()), ("v2Pro", ("--rank", "2")), ("v2ProPlus", ("--precision", "bfloat16"))]
)
def test_a_fine_tune_of_every_version(tmp_path: Path, version: str, more: tuple[str, ...]) -> None:
    told = rehearse(tmp_path, "--version", version, "--steps", "2", *more)
    assert (told["clips"], told["version"]) == (5, version)
    assert {name: course["updates"] for name, course in told["courses"].items()} == {
        "learn_sound": 2,
        "learn_tokens": 2,
    }
    assert told["spoken_s"] is None or told["spoken_s"] > 0.3
    base, made = tmp_path / "base", tmp_path / "work/voice"
    for name in ("s1", "s2"):
        before, after = load_file(base / f"{name}.safetensors"), load_file(made / f"{name}.safetensors")
        assert {*after} == {key for key in before if not key.startswith("enc_q.")}
        assert all(tensor.dtype == torch.float16 for tensor in after.values())
        changed = [key for key, tensor in after.items() if not torch.equal(tensor, before[key])]
        assert changed
        if name == "s2":
            assert not [key for key in changed if key.startswith(("ssl_proj", "quantizer"))]
    config = json.loads((made / "s2.json").read_text())
    Synthesizer.from_tensors(load_file(made / "s2.safetensors"), config)


@pytest.mark.timeout(600)
def test_killed_at_random_moments_it_ends_with_the_same_files(tmp_path: Path) -> None:
    """kill -9; VOICED_TEST_KILLS says how often."""
    kills, chance = int(os.environ.get("VOICED_TEST_KILLS", "1")), random.Random(5)
    steps = str(3 + kills // 2)
    rehearse(tmp_path / "whole", "--steps", steps)
    module = ("-m", "appliance.engine.gpt_sovits.training.rehearsal")
    command = [sys.executable, *module, *ORDER, "--steps", steps, "--folder", str(tmp_path / "broken")]
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
            assert child.stderr is not None
            child.stderr.readline()  # the first update
            time.sleep(chance.random() * 2.0)
            child.send_signal(signal.SIGKILL)
            child.wait(10)
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    assert voice_of(tmp_path / "broken") == voice_of(tmp_path / "whole")


def prepare_task(folder: Path, **changes: Any) -> AdaptTask:
    for name in ("base", "clips"):
        (folder / name).mkdir()
    base = rehearsal.make_base(folder / "base", "v2", "tiny")
    clips = rehearsal.make_clips(folder / "clips", 3, 1.5)
    return AdaptTask(**{"clips": clips, "work_dir": folder / "work", "options": {"steps": 1}, "base": base, **changes})


def run(task: AdaptTask) -> Any:
    host = EngineHost({}, {"en": rehearsal.Letters()}, task.work_dir)
    return adapt(task, host, lambda progress: None, rehearsal.read_wave)


def test_unusable_clips_are_left_out_and_named(tmp_path: Path) -> None:
    task = prepare_task(tmp_path)
    path = task.clips[0].path
    silent = tmp_path / "clips/silent.wav"
    rehearsal.write_sound(silent, torch.zeros(40_000))
    bad = (
        Clip("unlabelled", path, " ", "en"),
        Clip("chinese", path, "今天下雨了", "en"),
        Clip("english", path, "it rains", "zh"),
        Clip("hasty", path, "so many words in so short a time " * 9, "en"),
        Clip("slow", path, "no", "en"),
        Clip("silent", silent, "hello there you", "en"),
    )
    made = run(AdaptTask((*bad, *task.clips), task.work_dir, 0, {"steps": 1}, task.base))
    assert {one["clip"]: one["code"] for one in made.metrics["left_out"]} == {
        "unlabelled": "clip_unlabelled",
        "chinese": "clip_language_differs",
        "english": "clip_language_differs",
        "hasty": "clip_pace",
        "slow": "clip_pace",
        "silent": "clip_silent",
    }
    assert made.metrics["clips"] == 3
    with pytest.raises(InvalidInput) as nothing:
        run(AdaptTask(bad[:2], tmp_path / "other", 0, {"steps": 1}, task.base))
    assert nothing.value.code == "training_nothing_usable"
    assert nothing.value.measured["reasons"] == "clip_unlabelled ×1, clip_language_differs ×1"


def test_weights_that_cannot_be_trained_are_refused(tmp_path: Path) -> None:
    task = prepare_task(tmp_path)
    for role in ("s2d", "hubert", "s1_config"):
        partial = {name: path for name, path in task.base.items() if name != role}
        with pytest.raises(Unavailable) as missing:
            run(AdaptTask(task.clips, task.work_dir, 0, {}, partial))
        assert (missing.value.code, missing.value.measured["role"]) == ("model_file_missing", role)
    spoken = {k: t for k, t in load_file(task.base["s2"]).items() if not k.startswith("enc_q.")}
    rehearsal.save_file(spoken, tmp_path / "fine_tuned.safetensors")
    with pytest.raises(InvalidInput) as wrong:
        run(
            AdaptTask(
                task.clips, task.work_dir, 0, {"steps": 1}, {**task.base, "s2": tmp_path / "fine_tuned.safetensors"}
            )
        )
    assert (wrong.value.code, wrong.value.measured["problem"]) == ("training_base_wrong", "enc_q")
    with pytest.raises(InvalidInput) as option:
        run(AdaptTask(task.clips, task.work_dir, 0, {"steps": -1}, task.base))
    assert option.value.code == "adapt_option_invalid"


def test_a_full_disk_is_told_before_the_hours_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = prepare_task(tmp_path)
    monkeypatch.setattr(tuning.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match="No space left"):
        run(task)


def test_additions_of_low_rank_change_nothing_at_first_and_merge_into_plain_weights() -> None:
    sizes = TextToSemanticConfig(phonemes=40, vocabulary=33, width=16, heads=2, layers=2, end=32)
    network = TextToSemantic(sizes)
    for tensor in network.parameters():
        tensor.data = 0.3 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel()))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    learning = add_low_rank(network, 2, seed=1)
    assert [p for p in network.parameters() if p.requires_grad] and len(learning) == 2 * 4 * sizes.layers
    unchanged = merged(network)
    assert unchanged.keys() == before.keys()
    assert all(torch.equal(unchanged[name], before[name]) for name in before)
    for parameter in learning:
        parameter.data += 0.1
    changed = merged(network)
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(1))
    wanted = network.h.layers[0].linear1(x)  # type: ignore[operator,union-attr]
    plain = TextToSemantic(sizes)
    plain.load_state_dict(changed)
    assert torch.allclose(plain.h.layers[0].linear1(x), wanted, atol=1e-6)  # type: ignore[operator,union-attr]


@pytest.mark.parametrize(
    ("seconds", "words", "length_s"),
    [((12.0, 5.0, 8.0), "one", 5.0), ((1.5, 2.0, 1.2), "zero one", 3.8), ((20.0, 15.0), "", 9.8)],
)
def test_the_reference_suits_the_networks(
    tmp_path: Path, seconds: tuple[float, ...], words: str, length_s: float
) -> None:
    found = []
    for number, length in enumerate(seconds):
        path = tmp_path / f"{number}.safetensors"
        rehearsal.save_file({"waveform": torch.ones(int(length * 32_000))}, path)
        found.append(Prepared(Clip(str(number), path, ("zero", "one", "two")[number], "en"), path, length))
    reference = choose_reference(found)
    assert (reference.transcript, len(reference.sound) / 32_000) == (words, pytest.approx(length_s, abs=0.01))
    with pytest.raises(InvalidInput) as short:
        choose_reference([Prepared(found[0].clip, found[0].features, 2.0)])
    assert short.value.code == "training_reference_missing"
