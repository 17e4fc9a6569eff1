"""s1 on the native kernel in the engine: exported, examined, chosen where it is faster, and followed when it fails."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("voiced_native", reason="the native kernel is not installed (make native)")

from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend
from voiced_native.backend import NativeBackend

from appliance.contracts import EngineHost, SpeakTask, VoiceAssets
from appliance.engine.artifact_store import Prepared
from appliance.engine.exporting import relative_error
from appliance.engine.gpt_sovits.exports import export_file, open_network
from appliance.engine.gpt_sovits.networks import Networks
from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine
from appliance.engine.gpt_sovits.preparation import Preparation
from appliance.engine.gpt_sovits.s1_exports import S1Decoders, open_prefill
from appliance.engine.gpt_sovits.turns import Turns

from .conftest import Models, Syllables, clip


def make_host(folder: Path) -> EngineHost:
    backends = {"native": NativeBackend(), "onnxruntime": OnnxRuntimeBackend()}
    return EngineHost(backends, {"zh": Syllables("zh")}, folder, 2)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> EngineHost:
    return make_host(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def voice(models: Models) -> VoiceAssets:
    return models.voice("n", {"s1": models.s1(1), "s2": models.s2(2)}, models.reference("n", clip(3.5, 120.0)))


@pytest.fixture(scope="module")
def exported(host: EngineHost, voice: VoiceAssets) -> dict[str, Prepared]:
    found = export_file("s1", voice.files["s1"], voice.files["s1_config"], host)
    return {prepared.manifest.source.network: prepared for prepared in found}


def with_times(exported: dict[str, Prepared], **spent_ms: float) -> dict[str, Prepared]:
    """The same exports, as if exams of 8 bits had taken so long."""
    step = exported["s1.step"]
    rows = tuple(
        replace(row, exams=tuple(replace(exam, milliseconds=spent_ms[exam.backend]) for exam in row.exams))
        for row in step.manifest.artifacts
    )
    return exported | {"s1.step": replace(step, manifest=replace(step.manifest, artifacts=rows))}


def ways(host: EngineHost, prepared: dict[str, Prepared]) -> list[tuple[str, str]]:
    rows = S1Decoders(host, Any, lambda: None, prepared, Turns()).loop().rows()  # type: ignore[arg-type,return-value]
    return [(row["backend"], row["precision"]) for row in rows]


def test_both_precisions_pass_the_exam_and_are_written_down(exported):
    rows = {(row.format, row.precision): row for row in exported["s1.step"].manifest.artifacts}
    eight, half = rows["s1_arrays", "int8"], rows["s1_arrays", "half"]
    assert eight.passed and half.passed
    assert [exam.backend for exam in (*eight.exams, *half.exams)] == ["native", "native"]
    assert half.exams[0].distance < eight.exams[0].distance < 0.02
    assert "nats per token" in eight.exams[0].reason


def test_reading_the_prompt_passes_its_exam_too(host, exported):
    (row,) = [row for row in exported["s1.prefill"].manifest.artifacts if row.format == "s1_reader"]
    (exam,) = row.exams
    assert row.precision == "int8" and exam.backend == "native" and exam.passed and 0 < exam.distance < 0.05
    placed = open_prefill(exported["s1.prefill"], host)
    (tried,) = [record for record in placed.records if record.backend == "native"]
    placed.close()
    assert tried.state in ("chosen", "slower") and tried.precision == "int8"


def test_bert_is_offered_in_eight_bits_and_read_where_it_passes(host, voice):
    (prepared,) = export_file("bert", voice.files["bert"], voice.files["bert_config"], host)
    (row,) = [row for row in prepared.manifest.artifacts if row.format == "bert_reader"]
    (exam,) = row.exams
    assert exam.backend == "native" and exam.passed and 0 < exam.distance < 0.08
    only = replace(host, backends={"native": host.backends["native"]})
    placed = open_network(prepared, only)
    (feeds,), (wanted,) = (samples[:1] for samples in prepared.exam())
    assert relative_error(placed.run(feeds), wanted) == pytest.approx(exam.distance, abs=0.03)
    placed.close()


def test_the_fastest_of_eight_bits_comes_first_and_a_close_one_stays_behind(host, exported):
    native, runtime = ("native", "int8"), ("onnxruntime", "int8")
    assert ways(host, with_times(exported, native=4.0, onnxruntime=6.0))[:2] == [native, runtime]
    assert ways(host, with_times(exported, native=6.0, onnxruntime=4.0))[:2] == [runtime, native]
    first = ways(host, with_times(exported, native=6.0, onnxruntime=6.1))[0]
    assert ways(host, with_times(exported, native=6.1, onnxruntime=6.0))[0] == first
    rest = ways(host, with_times(exported, native=4.0, onnxruntime=6.0))[2:]
    assert rest == [("native", "half"), ("onnxruntime", "float"), ("torch", "float")]


def say(engine: GptSovitsEngine, voice: VoiceAssets, seed: int) -> np.ndarray:
    task = SpeakTask("下雨了，欢迎。", voice, "zh", seed=seed)
    return np.concatenate([chunk.audio.samples for chunk in engine.speak(task, threading.Event())])


def test_the_engine_speaks_with_it_alone_and_in_company(host, voice, exported, monkeypatch):
    monkeypatch.setattr(S1Decoders, "_spent_ms", lambda self, artifact, backend: float(backend != "native"))
    engine = GptSovitsEngine()
    engine.load(host)
    try:
        alone = [say(engine, voice, seed) for seed in (1, 2, 3)]
        together: dict[int, np.ndarray] = {}
        threads = [
            threading.Thread(target=lambda seed=seed: together.update({seed: say(engine, voice, seed)}))
            for seed in (1, 2, 3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        chosen = [row for row in engine.placement() if row["network"] == "s1.step" and row["state"] == "chosen"]
        assert [(row["backend"], row["precision"]) for row in chosen] == [("native", "int8")]
        assert all(np.array_equal(together[seed], wanted) for seed, wanted in zip((1, 2, 3), alone, strict=True))
    finally:
        engine.close()


def test_when_the_kernel_fails_the_next_decoder_finishes_the_answer(host, voice, exported, monkeypatch):
    monkeypatch.setattr(S1Decoders, "_spent_ms", lambda self, artifact, backend: float(backend != "native"))
    from voiced_native.library import Decoder, KernelError

    engine, real, calls = GptSovitsEngine(), Decoder.step, []

    def fails_later(self: Decoder, *given: Any) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise KernelError(4)
        real(self, *given)

    monkeypatch.setattr(Decoder, "step", fails_later)
    engine.load(host)
    try:
        assert len(say(engine, voice, 1)) > 0 and len(calls) == 4
        rows = {(row["backend"], row["precision"]): row for row in engine.placement() if row["network"] == "s1.step"}
        assert rows["native", "int8"]["state"] == "demoted"
        assert "not enough memory" in rows["native", "int8"]["reason"]
        assert [key for key, row in rows.items() if row["state"] == "chosen"] == [("onnxruntime", "int8")]
    finally:
        engine.close()


def test_a_damaged_file_is_named_and_the_next_decoder_speaks(models, tmp_path, monkeypatch):
    monkeypatch.setattr(S1Decoders, "_spent_ms", lambda self, artifact, backend: float(backend != "native"))
    host = make_host(tmp_path)
    weights, config = models.s1(1)
    (_, step) = export_file("s1", weights, config, host)
    path = step.folder / "step_int8.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    voice = VoiceAssets("one", "gpt_sovits", {"s1": weights, "s1_config": config})
    loop = Networks(Preparation(host)).decoder(voice)
    assert loop.open().name == "onnxruntime int8"
    assert "step_int8.safetensors" in loop.failures["native int8"]


def test_the_time_in_the_exam_is_that_of_steps_without_the_prompt(exported):
    spent = {
        (exam.backend, row.precision): exam.milliseconds
        for row in exported["s1.step"].manifest.artifacts
        for exam in row.exams
    }
    pairs = {("native", "int8"), ("native", "half"), ("onnxruntime", "int8"), ("onnxruntime", "float")}
    assert set(spent) == pairs
    assert all(0 < milliseconds < 1000 for milliseconds in spent.values())
