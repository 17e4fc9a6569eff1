"""Cloning with the real network on real speech, a few steps: what it writes, that it can be killed, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="cloning libraries are not installed")

from appliance.contracts import AdaptTask, Clip, VoiceAssets  # noqa: E402
from appliance.engine.embedded import assets  # noqa: E402
from appliance.engine.embedded.adapt import read_options, read_target  # noqa: E402
from appliance.engine.embedded.voice import read_voice  # noqa: E402
from appliance.errors import InvalidInput  # noqa: E402

ROOT = Path(__file__).parents[3]
SPEECH = (ROOT / "appliance/data/demo/two_cities.flac", ROOT / "../shared/data/speech/two_cities.flac")
OPTIONS = {"steps": 2, "lessons": 1, "checkpoint_every": 1}

# Runs in a process of its own, so that it can be killed for good; prints one JSON line per report.
PROGRAM = """
import json, sys
from pathlib import Path
from appliance.contracts import AdaptTask, Clip, EngineHost, TextFrontend, Utterance
from appliance.engine.embedded.adapt import adapt

class Spelling(TextFrontend):
    language, inventories = "en", ("kokoro",)
    def analyse(self, text, inventory):
        return Utterance("en", text, tuple(text[:12].lower()))

def tell(progress):
    print(json.dumps([progress.stage, progress.fraction, dict(progress.metrics)]), flush=True)

clip, folder, options = sys.argv[1:]
task = AdaptTask((Clip("rec_1", Path(clip), "", "en"),), Path(folder), seed=5, options=json.loads(options))
voice = adapt(task, EngineHost({}, {"en": Spelling()}, Path(folder)), tell)
files = {role: str(path) for role, path in voice.files.items()}
row = {"files": files, "settings": voice.settings, "metrics": voice.metrics, "base": voice.base}
row["earlier"] = [str(state.files["adaptation"]) for state in voice.earlier]
print(json.dumps(row), flush=True)
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = next((path for path in SPEECH if path.is_file()), None)
    if source is None:
        pytest.skip("no recording in this checkout")
    if assets.missing_packages():
        pytest.skip("the model wheels are not installed")
    samples, rate = soundfile.read(source, dtype="float32")
    path = tmp_path_factory.mktemp("clips") / "clip.wav"
    soundfile.write(path, samples[: 5 * rate], rate)
    return path


def start(clip: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(clip), str(folder), json.dumps(OPTIONS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[dict, list]:  # type: ignore[type-arg]
    rows = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert process.returncode == 0
    return rows[-1], rows[:-1]


@pytest.fixture(scope="module")
def unbroken(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list]:  # type: ignore[type-arg]
    return finish(start(clip, tmp_path_factory.mktemp("unbroken")))


def test_the_outcome_is_a_voice_that_the_engine_reads(unbroken: tuple[dict, list]) -> None:  # type: ignore[type-arg]
    voice, _ = unbroken
    assert voice["base"] == "jm_kumo"  # the only man among the starters, for a man
    files = {role: Path(path) for role, path in voice["files"].items()}
    state = safetensors_of(files["adaptation"])
    sizes = {name: len(value) for name, value in state.items() if name != "style"}
    read = read_voice(VoiceAssets("clone", "embedded", files, voice["settings"]), sizes)
    assert len(read.biases) == 58
    earlier = safetensors_of(Path(voice["earlier"][0]))  # the examination has two states to choose from
    assert earlier.keys() == state.keys() and not np.array_equal(earlier["style"], state["style"])
    assert read.timbre is not None and not np.array_equal(read.timbre, read.pack[60, :128])
    assert read.warp is not None and 110 < read.warp.target_median_hz < 135


def test_progress_rises_to_the_end_and_carries_the_loss(unbroken: tuple[dict, list]) -> None:  # type: ignore[type-arg]
    _, reports = unbroken
    fractions = [fraction for _, fraction, _ in reports]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and fractions[-1] <= 1
    steps = [metrics for stage, _, metrics in reports if stage == "fit"]
    assert len(steps) == OPTIONS["steps"]
    assert all({"speaker", "content", "colour", "style"} <= set(metrics) for metrics in steps)


def test_a_killed_clone_goes_on_and_ends_bit_equal(
    clip: Path,
    unbroken: tuple[dict, list],  # type: ignore[type-arg]
    tmp_path: Path,
) -> None:
    victim = start(clip, tmp_path)
    assert victim.stdout is not None
    for line in victim.stdout:
        if json.loads(line)[0] == "fit":
            break
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert (tmp_path / "fit.safetensors").is_file() and not (tmp_path / "adaptation.safetensors").exists()
    voice, reports = finish(start(clip, tmp_path))
    assert sum(stage == "fit" for stage, _, _ in reports) < OPTIONS["steps"]
    for path_of in (lambda outcome: outcome["files"]["adaptation"], lambda outcome: outcome["earlier"][0]):
        whole, resumed = (safetensors_of(Path(path_of(outcome))) for outcome in (unbroken[0], voice))
        assert whole.keys() == resumed.keys()
        assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
    assert voice["settings"] == unbroken[0]["settings"]


def safetensors_of(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"steps": "many"}, {"speed": 3}, {"threads": True}, {"precision": "int4"}]
)
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_options(options)
    assert caught.value.code == "adapt_option_invalid"


def test_clips_are_joined_to_mono_and_bounded(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.wav" for index in range(3)]
    for path in paths:
        soundfile.write(path, np.zeros((50 * 8000, 2), np.float32) + 0.1, 8000)
    clips = tuple(Clip(path.stem, path, "", "en") for path in paths)
    audio = read_target(AdaptTask(clips, tmp_path))
    assert audio.sample_rate == 24_000 and audio.samples.ndim == 1
    assert audio.duration_s == pytest.approx(120.0, abs=0.01)
    with pytest.raises(InvalidInput):
        read_target(AdaptTask((), tmp_path))
