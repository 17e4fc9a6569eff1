"""Flow and vocoder on the native kernel: the reference's sound at every level of instructions, at any length, the same
with any number of threads, and never a look outside its memory, whatever the file or the caller says.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("voiced_native", reason="the native kernel is not installed (make native)")

import torch
from safetensors.numpy import load_file, save_file
from voiced_native import library
from voiced_native.backend import NativeBackend
from voiced_native.voice import MOST_FRAMES, Voice, VoiceSession, voice_level
from voiced_native.voice_arrays import read_voice

from appliance.contracts import Artifact, SessionOptions
from appliance.engine.exporting import relative_error
from appliance.engine.gpt_sovits.convolutions import fold_all
from appliance.engine.gpt_sovits.flow import Flow, WaveNetSizes
from appliance.engine.gpt_sovits.generator import Generator, GeneratorSizes
from appliance.engine.gpt_sovits.voice_arrays import write_voice
from appliance.errors import Corrupt, Unavailable

from .broken_files import stands_broken_files

LEVELS = [name for name in ("avx512_bf16", "portable") if voice_level(name)]
TIMBRE = 20
CLOSE = 0.02  # of the sound's power, as a ratio of roots: bf16 is at 0.01


@dataclass(frozen=True)
class Sizes:
    """As much of a configuration as the file needs."""

    upsample_rates: tuple[int, ...] = (5, 2)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 3


class Network(torch.nn.Module):
    """A flow and a vocoder of odd sizes: channels that fill no vector, one stage whose taps are computed in groups and
    one where they are not.
    """

    def __init__(self, config: Sizes, couplings: int) -> None:
        super().__init__()
        self.config = config
        self.flow = Flow(12, couplings, WaveNetSizes(channels=10, kernel=5, layers=2, timbre=TIMBRE))
        sizes = GeneratorSizes(
            latent=12,
            timbre=TIMBRE,
            initial=134,
            rates=config.upsample_rates,
            kernels=(9, 4),
            block_kernels=(3, 7, 11),
            block_dilations=config.resblock_dilation_sizes,
        )
        self.dec = Generator(sizes)
        torch.manual_seed(3)
        for parameter in self.parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 100
            torch.nn.init.normal_(parameter, std=fan**-0.5)
        fold_all(self)

    @torch.inference_mode()
    def forward(self, latent: np.ndarray, timbre: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(timbre)
        found = self.dec(self.flow(torch.from_numpy(latent), None, given, is_inverse=True), given)
        return found.numpy()


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(Sizes(), couplings=3)


@pytest.fixture(scope="module")
def file(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voice") / "arrays.safetensors"
    write_voice(network, path)  # type: ignore[arg-type]
    return path


def load(path: Path, level: str = "", threads: int = 1) -> VoiceSession:
    artifact = Artifact(path, "s2_arrays", hashlib.sha256(path.read_bytes()).hexdigest(), "bf16")
    session = NativeBackend(level).load(artifact, SessionOptions(threads=threads))
    assert isinstance(session, VoiceSession)
    return session


def feeds(frames: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "latent": generator.standard_normal((1, 12, frames)).astype(np.float32),
        "timbre": generator.standard_normal((1, TIMBRE, 1)).astype(np.float32),
    }


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_makes_the_sound_of_the_reference_at_any_length(network, file, level):
    session = load(file, level)
    for frames in (*range(1, 41), 130):
        given = feeds(frames, seed=frames)
        wanted = network(**given)
        assert wanted.std() > 0.05
        assert relative_error(session.run(given), {"sound": wanted}) < CLOSE, frames


def test_a_long_one_goes_through_a_stage_in_sections(network, file):
    given = feeds(3001)
    assert relative_error(load(file, threads=2).run(given), {"sound": network(**given)}) < CLOSE


@pytest.mark.parametrize("level", LEVELS)
def test_the_sound_does_not_depend_on_the_number_of_threads_or_on_what_was_said_before(file, level):
    wanted = {frames: load(file, level).run(feeds(frames))["sound"] for frames in (7, 64)}
    for threads in (1, 2, 3):
        session = load(file, level, threads)
        for frames in (64, 7, 64):
            assert np.array_equal(session.run(feeds(frames))["sound"], wanted[frames])
            session.run(feeds(11, seed=5))


@pytest.mark.parametrize("level", LEVELS)
def test_a_part_has_the_bits_of_the_whole_where_it_hears_the_same(file, level):
    session, whole = load(file, level), feeds(140)
    part = {"latent": np.ascontiguousarray(whole["latent"][:, :, 20:120]), "timbre": whole["timbre"]}
    wanted = session.run(whole)["sound"][:, :, 600:800]
    assert np.array_equal(session.run(part)["sound"][:, :, 400:600], wanted)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_not_finite_stays_where_it_is_heard(file, level):
    session = load(file, level, threads=2)
    given = feeds(40)
    wanted = session.run(given)["sound"]
    given["latent"][0, 3, 5] = np.nan
    assert np.isnan(session.run(given)["sound"]).any()
    given["latent"] = feeds(40)["latent"]
    assert np.array_equal(session.run(given)["sound"], wanted)


def test_the_portable_level_is_offered_on_request_only(file):
    for level, is_offered in (("", "avx512_bf16" in LEVELS), ("portable", True), ("avx2", False)):
        backend = NativeBackend(level)
        assert ("s2_arrays" in backend.formats) == ("bf16" in backend.precisions) == is_offered
    with pytest.raises(Unavailable, match="backend_un"):
        load(file, "avx2")


@pytest.mark.parametrize("level", LEVELS)
def test_dilations_that_are_even_and_couplings_of_another_number(tmp_path, level):
    network = Network(Sizes(resblock_dilation_sizes=((1, 2, 4), (2, 3, 5), (1, 1, 6))), couplings=2)
    write_voice(network, tmp_path / "a")  # type: ignore[arg-type]
    given = feeds(23)
    session = load(tmp_path / "a", level)
    assert relative_error(session.run(given), {"sound": network(**given)}) < CLOSE
    assert not session.prepares_lengths


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "arrays",
    [
        {"dec.conv_pre.weight": None},
        {"flow.flows.2.enc.in_layers.1.bias": None},
        {"stranger": np.zeros(3, np.float32)},
        {"rates": np.array([5, 3], np.int32)},
        {"rates": np.array([5, 2**30], np.int32)},
        {"rates": np.array([5, -2], np.int32)},
        {"rates": np.array([63, 63, 63, 63], np.int32)},
        {"rates": np.zeros(0, np.int32)},
        {"rates": np.ones(9, np.int32)},
        {"rates": np.array([5.0, 2.0])},
        {"dilations": np.zeros((3, 3), np.int32)},
        {"dilations": np.full((3, 3), 2**20, np.int32)},
        {"dilations": np.ones(3, np.int32)},
        {"dilations": np.ones((3, 2), np.int32)},
        {"dec.ups.1.weight": np.zeros((67, 33, 3), np.float32)},
        {"dec.ups.1.weight": np.zeros((67, 33), np.float32)},
        {"dec.resblocks.1.convs1.0.weight": np.zeros((67, 67, 6), np.float32)},
        {"dec.conv_post.weight": np.zeros((1, 33, 7), np.float64)},
        {"dec.cond.weight": np.zeros((134, 0, 1), np.float32)},
    ],
    ids=lambda arrays: "-".join(arrays),
)
def test_arrays_that_do_not_belong_together_are_refused(file, tmp_path, arrays):
    kept = load_file(file) | arrays
    save_file({name: array for name, array in kept.items() if array is not None}, tmp_path / "a")
    with pytest.raises((Corrupt, Unavailable), match=r"artifact_corrupt|backend_unavailable"):
        load(tmp_path / "a")


def test_a_cut_or_scrambled_file_is_refused_and_never_brings_the_process_down(file, tmp_path):
    stands_broken_files(file, tmp_path, lambda found: load(found).close(), 40)


def test_the_kernel_itself_refuses_sizes_that_do_not_fit(file):
    shape, arrays = read_voice(file.read_bytes())
    for wrong in (arrays[:-1], [*arrays, arrays[-1]], [arrays[0][:-1], *arrays[1:]], []):
        with pytest.raises(library.KernelError, match="shape demands"):
            Voice(shape, wrong, 1)
    for field, value in (("layers", 0), ("couplings", 10**6), ("latent", 13), ("wave_taps", 4), ("initial", -1)):
        with pytest.raises(library.KernelError, match="sizes"):
            Voice(replace(shape, **{field: value}), arrays, 1)


def test_other_sizes_than_the_networks_are_refused_and_so_is_who_comes_after_the_end(file):
    session = load(file)
    given = feeds(3)
    for name, wrong in {
        "latent": np.zeros((1, 13, 3), np.float32),
        "timbre": np.zeros((1, TIMBRE + 1, 1), np.float32),
    }.items():
        with pytest.raises(Unavailable, match="backend_unavailable"):
            session.run(given | {name: wrong})
    for frames in (0, MOST_FRAMES + 1):
        with pytest.raises(Unavailable, match="frames"):
            session.run(given | {"latent": np.zeros((1, 12, frames), np.float32)})
    session.close()
    session.close()
    with pytest.raises(Unavailable, match="session_closed"):
        session.run(given)
