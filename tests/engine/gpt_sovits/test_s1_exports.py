"""s1 exported, examined, opened as decoders, and what happens to damaged and foreign files in the cache."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend

from appliance.contracts import EngineHost, SpeakTask, VoiceAssets
from appliance.engine.artifact_store import ArtifactStore
from appliance.engine.gpt_sovits.exports import export_file, sources_of
from appliance.engine.gpt_sovits.networks import Networks
from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine
from appliance.engine.gpt_sovits.preparation import Preparation
from appliance.engine.gpt_sovits.s1_exam import MOST_DIVERGENCE, distance

from .conftest import Models, Syllables, clip


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> EngineHost:
    frontends = {"zh": Syllables("zh")}
    return EngineHost({"onnxruntime": OnnxRuntimeBackend()}, frontends, tmp_path_factory.mktemp("cache"), 1)


@pytest.fixture(scope="module")
def voices(models: Models, host: EngineHost) -> list[VoiceAssets]:
    """Two voices of one s1, exported."""
    networks = {"s1": models.s1(1), "s2": models.s2(2)}
    made = [models.voice(f"v{n}", networks, models.reference(f"v{n}", clip(3.5, 100.0 + 40 * n))) for n in range(2)]
    export_file("s1", made[0].files["s1"], made[0].files["s1_config"], host)
    return made


def rows_of(networks: Networks, network: str = "s1.step") -> dict[tuple[str, str], dict]:
    found = [row for row in networks.decoder_rows() if row["network"] == network]
    return {(row["backend"], row["precision"]): row for row in found}


def test_eight_bits_are_examined_and_chosen_and_why_is_said(host, voices):
    networks = Networks(Preparation(host))
    loop = networks.decoder(voices[0])
    assert loop.open().name == "onnxruntime int8"
    rows = rows_of(networks)
    assert rows["onnxruntime", "int8"]["state"] == "chosen"
    assert 0 < rows["onnxruntime", "int8"]["distance"] <= MOST_DIVERGENCE
    assert "nats per token" in rows["onnxruntime", "int8"]["reason"]
    assert rows["onnxruntime", "float"]["distance"] < 1e-6
    assert set(rows) == {("onnxruntime", "int8"), ("onnxruntime", "float"), ("torch", "float")}


def test_voices_of_one_s1_share_what_decodes(host, voices):
    networks = Networks(Preparation(host))
    assert networks.decoder(voices[0]) is networks.decoder(voices[1])


def test_the_engine_speaks_with_it_alone_and_in_company(host, voices):
    engine = GptSovitsEngine()
    engine.load(host)
    tasks = [SpeakTask("下雨了，欢迎。", voice, "zh", seed=seed) for voice in voices for seed in (1, 2)]

    def say(task: SpeakTask) -> np.ndarray:
        return np.concatenate([chunk.audio.samples for chunk in engine.speak(task, threading.Event())])

    try:
        alone = [say(task) for task in tasks]
        together: dict[int, np.ndarray] = {}
        threads = [
            threading.Thread(target=lambda number=number: together.update({number: say(tasks[number])}))
            for number in range(len(tasks))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        chosen = [row for row in engine.placement() if row["state"] == "chosen" and row["network"] == "s1.step"]
        assert [(row["backend"], row["precision"]) for row in chosen] == [("onnxruntime", "int8")]
        for number, wanted in enumerate(alone):
            np.testing.assert_array_equal(together[number], wanted)
    finally:
        engine.close()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_changed_graph_is_refused_by_name_and_the_next_decoder_speaks(models, tmp_path):
    host = EngineHost({"onnxruntime": OnnxRuntimeBackend()}, {}, tmp_path, 1)
    weights, config = models.s1(1)
    (prefill, step) = export_file("s1", weights, config, host)
    damage(step.folder / "step_int8.onnx")
    networks = Networks(Preparation(host))
    voice = VoiceAssets("one", "gpt_sovits", {"s1": weights, "s1_config": config})
    loop = networks.decoder(voice)
    assert loop.open().name == "onnxruntime float"
    assert "step_int8.onnx" in loop.failures["onnxruntime int8"]
    assert rows_of(networks)["onnxruntime", "int8"]["state"] == "demoted"
    damage(prefill.folder / "prefill.onnx")
    damage(prefill.folder / "prefill_int8.onnx")
    assert Networks(Preparation(host)).decoder(voice).open().name == "torch float"


def test_what_was_made_of_other_weights_is_thrown_away_with_the_reason(models, tmp_path, caplog):
    host = EngineHost({"onnxruntime": OnnxRuntimeBackend()}, {}, tmp_path, 1)
    weights, config = models.s1(1)
    other, _ = models.s1(3)
    export_file("s1", weights, config, host)
    store = ArtifactStore(tmp_path)
    mine, theirs = sources_of("s1", weights, config), sources_of("s1", other, config)
    for name, source in mine.items():
        (store.root / source.folder).rename(store.root / theirs[name].folder)
    preparation = Preparation(host)
    assert preparation.find("s1", other, config) is None
    assert not (store.root / theirs["s1.prefill"].folder).exists()
    assert [(row["network"], row["backend"]) for row in preparation.rows()] == [("s1.prefill", "torch")]
    assert "artifact_foreign" in caplog.text


def test_the_exam_tells_small_errors_from_large_ones():
    logits = 4 * torch.randn(50, 1025, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(50, 1025, generator=torch.Generator().manual_seed(1))
    assert distance(logits, logits).divergence == pytest.approx(0, abs=1e-6)
    assert distance(logits + 0.1 * noise, logits).passed
    assert not distance(logits + 0.6 * noise, logits).passed  # what four bits cost
    assert not distance(logits * torch.nan, logits).passed
