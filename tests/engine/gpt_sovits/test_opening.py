"""Networks opened side by side, s2 without the weights that exports have, and memory that is given back."""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend

from appliance.cli.machine import resident_mb
from appliance.contracts import Artifact, EngineHost, Session, SessionOptions, SpeakTask, VoiceAssets
from appliance.engine import heap
from appliance.engine.gpt_sovits.exports import export_file
from appliance.engine.gpt_sovits.networks import Networks
from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine
from appliance.engine.gpt_sovits.placed import PlacedSound
from appliance.engine.gpt_sovits.preparation import Preparation
from appliance.errors import Corrupt, VoicedError

from .conftest import Models, Syllables, clip

pytestmark = pytest.mark.timeout(300)  # the first test exports; patience for a busy machine
PATIENCE_S = 60.0


class Doors(OnnxRuntimeBackend):
    """Counts what is loaded, and with a `barrier` lets nobody through who comes alone."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.barrier: threading.Barrier | None = None

    def load(self, artifact: Artifact, options: SessionOptions) -> Session:
        self.loaded.append(artifact.path.parent.name.split(".")[1])
        if self.barrier is not None:
            self.barrier.wait(PATIENCE_S)
        return super().load(artifact, options)


@pytest.fixture(scope="module")
def voice(models: Models) -> VoiceAssets:
    networks = {"s1": models.s1(1), "s2": models.s2(4, "v2Pro"), "sv": models.speaker()}
    return models.voice("opened", networks, models.reference("opened", clip(3.5, 140.0)))


@pytest.fixture(scope="module")
def cache(voice: VoiceAssets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports of all that speaks."""
    folder = tmp_path_factory.mktemp("cache")
    host = EngineHost({"onnxruntime": OnnxRuntimeBackend()}, {}, folder, 1)
    for role in ("s1", "s2", "bert"):
        export_file(role, voice.files[role], voice.files[f"{role}_config"], host)
    return folder


@pytest.fixture
def host(cache: Path) -> EngineHost:
    """As a worker has it."""
    return EngineHost({"onnxruntime": Doors()}, {"zh": Syllables("zh")}, cache, 1, measures=False)


def test_two_networks_are_opened_at_a_time_and_each_of_them_once(host, voice):
    backend = host.backends["onnxruntime"]
    backend.barrier = threading.Barrier(2, action=lambda: setattr(backend, "barrier", None))
    networks = Networks(Preparation(host))
    networks.expect(voice, "bert", "s2")
    networks.expect(voice, "bert", "s2")
    sounds = [networks.sound(voice), networks.sound(voice)]
    assert isinstance(sounds[0], PlacedSound) and sounds[0] is sounds[1]
    networks.bert(voice)
    assert sorted(backend.loaded) == ["bert", "s2", "s2", "s2"]
    networks.close()


def test_what_fails_beside_is_raised_by_its_name_where_it_is_asked_for(host, voice, tmp_path):
    damaged = tmp_path / "bert.json"
    damaged.write_text("{")
    broken = replace(voice, files={**voice.files, "bert_config": damaged})
    networks = Networks(Preparation(host))
    networks.expect(broken, "bert", "s2", "s1")
    with pytest.raises(Corrupt, match="voice_files_corrupt"):
        networks.bert(broken)
    assert isinstance(networks.sound(broken), PlacedSound)
    networks.close()


def test_after_a_crash_networks_are_opened_one_by_one_until_all_have_been(host, voice):
    """Or those that were merely under way would be taken for what crashed."""
    gone = os.fork()
    if not gone:
        os._exit(0)
    os.waitpid(gone, 0)
    preparation = Preparation(host)
    networks = Networks(preparation)
    assert preparation.opens_side_by_side
    mark = host.cache_dir / "placement" / f".trying-gpt_sovits-bert-onnxruntime-{gone}"
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    assert not preparation.opens_side_by_side
    networks.expect(voice, "bert")
    assert not host.backends["onnxruntime"].loaded
    networks.bert(voice)
    assert preparation.opens_side_by_side and not mark.exists()
    assert not Preparation(replace(host, measures=True)).opens_side_by_side  # a trial wants the machine for itself
    networks.close()


def test_s2_without_the_weights_of_its_exports_gives_the_same_numbers_and_the_whole_steps_in(host, voice):
    networks = Networks()
    whole, rest = networks.s2(voice), networks.s2_rest(voice)
    spectrogram, speaker = torch.rand(1, 1025, 90), torch.randn(1, whole.config.speaker_width)
    content, features = torch.randn(1, 768, 21), torch.randn(1, whole.config.hidden_channels, 9)
    assert rest.config == whole.config
    assert torch.equal(rest.encode_codes(content), whole.encode_codes(content))
    ge = whole.timbre([spectrogram], [speaker])
    assert torch.equal(rest.timbre([spectrogram], [speaker]), ge)
    assert torch.equal(rest.mixer_timbre(ge), whole.mixer_timbre(ge))
    assert torch.equal(rest.latent(features, None), whole.latent(features, None))
    placed = Networks(Preparation(host)).sound(voice)
    assert isinstance(placed, PlacedSound) and any(tensor.is_meta for tensor in placed._rest.parameters())
    for session in placed._sessions.values():
        session.close()
    codes, phones = torch.arange(20)[None, None], torch.arange(12)[None]
    assert torch.equal(placed.decode(codes, phones, ge), whole.decode(codes, phones, ge))


def test_a_voice_that_was_made_ready_says_the_same_and_opens_nothing_more(host, voice):
    ready, cold = GptSovitsEngine(), GptSovitsEngine()
    ready.load(host)
    cold.load(replace(host, backends={"onnxruntime": Doors()}))
    ready.prepare(voice)
    loaded = list(host.backends["onnxruntime"].loaded)
    assert set(loaded) == {"bert", "s1", "s2"}
    task = SpeakTask("下雨了。", voice, "zh", seed=3)
    said = [[chunk.audio.samples for chunk in one.speak(task, threading.Event())] for one in (ready, cold)]
    np.testing.assert_array_equal(np.concatenate(said[0]), np.concatenate(said[1]))
    assert host.backends["onnxruntime"].loaded == loaded
    for engine in (ready, cold):
        engine.close()


def test_a_voice_that_cannot_be_made_ready_says_why_as_speaking_does(host, voice):
    engine = GptSovitsEngine()
    engine.load(host)
    for role in ("s1", "s2", "hubert", "bert", "reference"):
        files = {name: path for name, path in voice.files.items() if name != role}
        lacking = replace(voice, key=f"without {role}", files=files)
        with pytest.raises(VoicedError) as told:
            engine.prepare(lacking)
        with pytest.raises(VoicedError) as spoken:
            list(engine.speak(SpeakTask("下雨了。", lacking, "zh"), threading.Event()))
        assert (told.value.code, told.value.measured) == (spoken.value.code, spoken.value.measured)
    engine.close()


def test_memory_that_was_let_go_goes_back_to_the_system():
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        pytest.skip("another C library than glibc")
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    size, count = 100_000, 1500  # too small for mappings of their own
    blocks = [library.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks[:-1]:  # the last one keeps the others from being the end of the heap
        library.free(block)
    before = resident_mb()["rss"]
    heap.give_back()
    assert before - resident_mb()["rss"] > 70
    library.free(blocks[-1])
