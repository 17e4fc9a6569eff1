"""Backends that run the networks themselves: chosen first, examined, and followed by the next when they fail.

Where no NVIDIA GPU is, a backend of this file runs modules on the CPU: the same contract, another device.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend
from appliance_plugins.backend_torch_cuda.backend import TorchCudaBackend
from numpy.typing import NDArray

from appliance.contracts import (
    Artifact,
    Backend,
    Device,
    EngineHost,
    Probe,
    Session,
    SessionOptions,
    SpeakTask,
    VoiceAssets,
)
from appliance.engine.gpt_sovits.exports import export_file
from appliance.engine.gpt_sovits.networks import Networks
from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine
from appliance.engine.gpt_sovits.preparation import Preparation

from .conftest import Models, Syllables, clip


class ModuleSession(Session):
    def __init__(self, module: Any) -> None:
        self._module = module
        self.inputs, self.outputs = tuple(module.input_names), tuple(module.output_names)

    @torch.inference_mode()
    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        found = self._module(*(torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in self.inputs))
        results = found if isinstance(found, tuple) else (found,)
        return {name: result.numpy() for name, result in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        self._module = None


class ModuleBackend(Backend):
    """Modules on the CPU; with `noise`, on a device that computes badly."""

    formats, precisions = ("torch",), ("float",)

    def __init__(self, noise: float = 0.0) -> None:
        self.name, self._noise = "modules", noise

    def probe(self) -> Probe:
        return Probe(usable=True, devices=(Device("cpu", "this machine"),), version="1")

    def load(self, artifact: Artifact, options: SessionOptions) -> ModuleSession:
        assert artifact.module is not None
        return ModuleSession(self.take_module(artifact.module()))

    def take_module(self, module: Any) -> Any:
        with torch.no_grad():
            for weight in module.parameters():
                weight.add_(self._noise * torch.randn(weight.shape))
        return module


def host_with(backend: Backend, folder) -> EngineHost:
    backends = {backend.name: backend, "onnxruntime": OnnxRuntimeBackend()}
    return EngineHost(backends, {"zh": Syllables("zh")}, folder, 1)


@pytest.fixture(params=["cpu", "cuda"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "cpu":
        return ModuleBackend()
    made = TorchCudaBackend("cuda_f32", "f32")
    if not made.probe().usable:
        pytest.skip(made.probe().reason)
    return made


@pytest.fixture(scope="module")
def voice(models: Models) -> VoiceAssets:
    networks = {"s1": models.s1(1), "s2": models.s2(2)}
    return models.voice("v", networks, models.reference("v", clip(3.5, 120.0)))


def say(engine: GptSovitsEngine, voice: VoiceAssets, seed: int = 3) -> np.ndarray:
    task = SpeakTask("下雨了，欢迎。", voice, "zh", seed=seed)
    return np.concatenate([chunk.audio.samples for chunk in engine.speak(task, threading.Event())])


def test_the_engine_speaks_on_it_what_the_networks_say(backend, voice, tmp_path):
    host = host_with(backend, tmp_path)
    for role in ("s1", "s2"):
        export_file(role, voice.files[role], voice.files[f"{role}_config"], host)
    engine, plain = GptSovitsEngine(), GptSovitsEngine()
    engine.load(host)
    plain.load(EngineHost({}, host.frontends, tmp_path / "none", 1))
    try:
        found, wanted = say(engine, voice), say(plain, voice)
        rows = {(row["network"], row["backend"]): row for row in engine.placement()}
        assert rows["s1.step", backend.name]["state"] == "chosen"
        assert rows["s1.step", backend.name]["distance"] < 1e-4
        assert rows["s2.voice", backend.name]["state"] in ("chosen", "slower")
        assert found.shape == wanted.shape
        assert np.corrcoef(found, wanted)[0, 1] > 0.999  # windows hear a little less than the whole
        np.testing.assert_array_equal(say(engine, voice), found)
    finally:
        engine.close()
        plain.close()


def test_one_that_computes_badly_is_not_used_for_tokens(voice, tmp_path):
    loop = Networks(Preparation(host_with(ModuleBackend(noise=0.3), tmp_path))).decoder(voice)
    assert loop.open().name == "torch float"
    rows = {row["backend"]: row for row in loop.rows()}
    assert rows["modules"]["state"] == "demoted" and "nats per token" in rows["modules"]["reason"]
