"""One training step of s2 against upstream: every loss term of judges and network, gradients, weights afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity_recipe import fill, golden, load_npz, salt
from parity_s2_files import read_tiny, tensor
from torch import Tensor, nn

from appliance.engine.gpt_sovits.discriminator import PERIODS, PRO_PERIODS, Discriminator
from appliance.engine.gpt_sovits.sovits import Lesson, Synthesizer, SynthesizerConfig
from appliance.engine.gpt_sovits.spectrogram import spectrogram
from appliance.engine.gpt_sovits.training.optimisers import SoundRates, adamw_of_generator, adamw_of_judges
from appliance.engine.gpt_sovits.training.sound_steps import (
    HOP,
    Draws,
    Made,
    SoundLearners,
    SoundLesson,
    SoundLosses,
    judge_losses,
    make_slices,
    sound_losses,
    teach_judges,
    teach_network,
)

LOSS, GRADIENT, WEIGHT = 1e-4, 1e-3, 2e-4
MOST_WEIGHTS = 1e-6  # of 95 % of them: a step is itself smaller than WEIGHT, and signs flip where gradients are ~0
Arrays = dict[str, NDArray[Any]]


class Training:
    """A golden step of a tiny network, taken once."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.arrays: Arrays = load_npz(f"gptsovits_tiny/s2_{version}_tiny_train.npz")
        network, judges = read_network(version), read_judges(version)
        rates = SoundRates()
        self.learners = SoundLearners(
            network, judges, adamw_of_generator(network, rates), adamw_of_judges(judges, rates)
        )
        self.batch = batch_of(self.arrays)
        noise, uniform = tensor(self.arrays["enc_q_noise"]), tensor(self.arrays["slice_uniform"])
        self.draws = Draws.of(noise, uniform, self.batch.lesson.frames)
        self.made: Made = make_slices(network, self.batch, self.draws)
        with torch.no_grad():
            self.judged = judge_losses(judges, self.made)
            self.before = sound_losses(judges, self.made)
        assert all(weight.requires_grad for weight in judges.parameters())
        teach_judges(self.learners, self.made)
        self.judges_gradient = norm_of(judges.parameters())
        self.after: SoundLosses = teach_network(self.learners, self.made)

    def compare(self, name: str, found: Tensor | float, tolerance: float = LOSS) -> None:
        """Relative to the largest number of the array."""
        wanted = self.arrays[name]
        numbers = np.asarray(found.detach().numpy() if isinstance(found, Tensor) else found)
        assert numbers.shape == wanted.shape, name
        difference = float(np.abs(numbers - wanted).max() / np.abs(wanted).max())
        print(f"{self.version} {name}: relative difference {difference:.1e}")
        assert difference <= tolerance, (name, numbers, wanted)


def read_network(version: str) -> Synthesizer:
    tensors, config = read_tiny(golden(f"gptsovits_tiny/s2_{version}_tiny.pth"))
    shapes = {name: weight.shape for name, weight in tensors.items()}
    with torch.device("meta"):
        whole = Synthesizer(replace(SynthesizerConfig.from_dict(config, shapes), has_posterior=True))
    missing = {name: weight.shape for name, weight in whole.state_dict().items() if name not in tensors}
    weights = {name: torch.from_numpy(weight).half() for name, weight in fill(missing, salt(f"s2_{version}")).items()}
    network = Synthesizer.from_tensors({**tensors, **weights}, config).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # as in the file, also where the configuration has no say
    return network


def read_judges(version: str) -> Discriminator:
    judges = Discriminator(PRO_PERIODS if "Pro" in version else PERIODS)
    shapes = {name: weight.shape for name, weight in judges.state_dict().items()}
    weights = fill(shapes, salt(f"s2_{version}"), prefix="net_d.")
    judges.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    return judges


def batch_of(arrays: Arrays) -> SoundLesson:
    frames = tensor(arrays["spec_len"])
    padded = torch.zeros(len(frames), 1025, arrays["ssl"].shape[2])
    for i, count in enumerate(frames.tolist()):
        padded[i, :, :count] = spectrogram(tensor(arrays["wav"][i, :, : count * HOP]))[0]
    speakers = tensor(arrays["sv_emb"]) if "sv_emb" in arrays else None
    text, phones = tensor(arrays["text"]), tensor(arrays["text_len"])
    return SoundLesson(Lesson(tensor(arrays["ssl"]), padded, frames, text, phones, speakers), tensor(arrays["wav"]))


def norm_of(parameters: Iterator[nn.Parameter]) -> float:
    return float(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm())


@pytest.fixture(scope="module", params=["v2", "v2Pro"])
def training(request: pytest.FixtureRequest) -> Iterator[Training]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Training(request.param)
    torch.set_num_threads(before)


def test_slices(training: Training) -> None:
    np.testing.assert_array_equal(training.draws.starts.numpy(), training.arrays["ids_slice"])
    training.compare("y_hat", training.made.made, 1e-4)
    for name, mel in (("y_mel", training.made.real_mel), ("y_hat_mel", training.made.made_mel)):
        assert float(np.abs(mel.detach().numpy() - training.arrays[name]).max()) < 1e-3


def test_judges(training: Training) -> None:
    training.compare("loss_disc", training.judged.total)
    training.compare("loss_disc_real_each", training.judged.real)
    training.compare("loss_disc_gen_each", training.judged.made)
    training.compare("gradnorm_d", training.judges_gradient, GRADIENT)


@pytest.mark.parametrize("moment", ["pre", "post"])
def test_network_terms(training: Training, moment: str) -> None:
    losses = training.before if moment == "pre" else training.after
    training.compare(f"{moment}_loss_gen_each", losses.fooling)
    training.compare(f"{moment}_loss_gen", losses.fooling.sum())
    training.compare(f"{moment}_loss_fm", losses.features)
    training.compare(f"{moment}_loss_gen_all", losses.total)
    training.compare("loss_mel", losses.mel)
    training.compare("loss_kl", losses.prior)


def test_gradients(training: Training) -> None:
    names = [name for name in training.arrays if name.startswith("gradnorm_g:")]
    assert names
    for name in names:
        part = training.learners.network.get_submodule(name.removeprefix("gradnorm_g:"))
        training.compare(name, norm_of(part.parameters()), GRADIENT)
    untouched = {name for name, weight in training.learners.network.named_parameters() if weight.grad is None}
    assert untouched == set(training.arrays["no_grad_params"].tolist())


def test_weights_afterwards(training: Training) -> None:
    names = [name for name in training.arrays if name.startswith("after1:")]
    assert names
    for name in names:
        wanted = training.arrays[name]
        weight = training.learners.network.get_parameter(name.removeprefix("after1:")).detach().flatten()
        differences = np.abs(weight[: wanted.size].numpy() - wanted)
        print(f"{training.version} {name}: {differences.max():.1e}")
        assert differences.max() <= WEIGHT, name
        assert np.quantile(differences, 0.95) <= MOST_WEIGHTS, name
