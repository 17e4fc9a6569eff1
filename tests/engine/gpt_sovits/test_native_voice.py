"""Sound on the native kernel in the engine: exported, examined, in the lengths that there are, and followed when it
fails.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("voiced_native", reason="the native kernel is not installed (make native)")

import torch
from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend
from voiced_native.backend import NativeBackend

from appliance.contracts import EngineHost, Session
from appliance.engine import placement_trial
from appliance.engine.artifact_store import Prepared
from appliance.engine.gpt_sovits.exports import export_file, open_network
from appliance.engine.gpt_sovits.networks import Networks
from appliance.engine.gpt_sovits.placed import CONTEXT, LONGEST, PlacedSound, even_windows
from appliance.engine.gpt_sovits.sovits import Synthesizer
from appliance.engine.gpt_sovits.streaming import Piece, decode_next
from appliance.engine.placement import PlacedNetwork

from .conftest import Models, Syllables, clip

SOUND = "s2.voice"


class Listening(Session):
    """Another session, and the frames that it was asked for."""

    def __init__(self, session: Session) -> None:
        self.session, self.frames = session, []
        self.inputs, self.outputs = session.inputs, session.outputs

    @property
    def prepares_lengths(self) -> bool:
        return self.session.prepares_lengths

    def run(self, feeds):
        self.frames.append(feeds["latent"].shape[2])
        return self.session.run(feeds)

    def close(self) -> None:
        self.session.close()


class Opened(NamedTuple):
    network: Synthesizer
    prepared: dict[str, Prepared]
    host: EngineHost

    def sound(self, *backends: str) -> tuple[PlacedSound, PlacedNetwork, Listening]:
        """What makes the sound with the vocoder on one of `backends`."""
        host = replace(self.host, backends={name: self.host.backends[name] for name in backends})
        rest = {name: open_network(one, self.host) for name, one in self.prepared.items() if name != SOUND}
        placed = open_network(self.prepared[SOUND], host)
        listening = Listening(placed)
        return PlacedSound(self.network, {**rest, SOUND: listening}, lambda: self.network), placed, listening


@pytest.fixture(scope="module")
def opened(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Exported for the kernel, at whatever level this processor has, and for another backend."""
    level = "" if "bf16" in NativeBackend().precisions else "portable"
    backends = {"native": NativeBackend(level), "onnxruntime": OnnxRuntimeBackend()}
    host = EngineHost(backends, {"zh": Syllables("zh")}, tmp_path_factory.mktemp("cache"), 2)
    voice = models.voice("s", {"s1": models.s1(1), "s2": models.s2(3)}, models.reference("s", clip(3.5, 120.0)))
    exports = export_file("s2", voice.files["s2"], voice.files["s2_config"], host)
    found = {one.manifest.source.network: one for one in exports}
    exams = {exam.backend: exam for row in found[SOUND].manifest.artifacts for exam in row.exams}
    assert exams["native"].passed and 1e-5 < exams["native"].distance < 0.02
    return Opened(Networks().s2(voice), found, host)


def piece(network: Synthesizer, tokens: int) -> Piece:
    generator = torch.Generator().manual_seed(tokens)
    codes = torch.randint(0, 1024, (1, 1, tokens), generator=generator)
    ge = torch.randn(1, network.config.gin_channels, 1, generator=generator)
    noise = torch.randn(1, network.config.inter_channels, 2 * tokens, generator=generator)
    return Piece(codes, torch.randint(0, 732, (1, 37), generator=generator), ge, noise)


def error_of(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())


def test_frames_are_voiced_in_the_lengths_that_there_are(opened):
    sound, _, listening = opened.sound("native")
    for tokens in (1, 10, 75):
        given = piece(opened.network, tokens)
        theirs, ours = opened.network.decode(*given), sound.decode(*given)
        assert ours.shape == theirs.shape and error_of(ours, theirs) < 0.02
    assert listening.frames == [2, 20, 150]
    assert sound.first_frame(13, 57) == 13


def test_parts_are_voiced_with_their_context_and_nothing_more(opened):
    sound, _, listening = opened.sound("native")
    whole, state, parts = piece(opened.network, 45), None, []
    for tokens in (10, 20, 36, 45):
        now = whole._replace(codes=whole.codes[:, :, :tokens])
        made, state = decode_next(sound, now, state, tokens == 45)
        parts.append(made)
    assert listening.frames == [20, 36, 48, 34]
    assert torch.cat(parts, dim=2).shape[2] == 90 * opened.network.config.samples_per_frame


def test_when_the_kernel_fails_lengths_are_padded_for_who_takes_over(opened, monkeypatch):
    monkeypatch.setattr(placement_trial, "CLEARLY_FASTER", 0.0)  # tiny networks are no measure: the first one has it
    sound, placed, _ = opened.sound("native", "onnxruntime")
    assert not placed.prepares_lengths

    def fail(*_: object) -> None:
        raise RuntimeError("a bus error, say")

    monkeypatch.setattr(placed._session, "run", fail)
    monkeypatch.setattr(placed._session, "lend", fail)
    given = piece(opened.network, 10)
    assert error_of(sound.decode(*given), opened.network.decode(*given)) < 1e-3
    assert placed.prepares_lengths and sound.first_frame(6, 40) == 4


def test_a_long_one_is_cut_evenly_with_context_on_both_sides():
    for frames in (*range(1, 3 * LONGEST, 7), 5000):
        done = 0
        for window in even_windows(frames):
            end = window.start + window.size
            assert window.kept[0] == done and window.start >= 0 and end <= frames and window.size <= LONGEST
            assert window.start == 0 or done - window.start >= CONTEXT
            assert end == frames or end - window.kept[1] >= CONTEXT
            done = window.kept[1]
        assert done == frames


def test_what_is_written_is_the_folded_network(opened, tmp_path: Path):
    from safetensors.numpy import load_file

    from appliance.engine.gpt_sovits.voice_arrays import write_voice

    network = opened.network
    write_voice(network, tmp_path / "a")
    arrays = load_file(tmp_path / "a")
    up = network.dec.ups[1]
    assert np.array_equal(arrays["dec.ups.1.weight"], up.kernel().detach().numpy())
    assert arrays["rates"].tolist() == list(network.config.upsample_rates)
