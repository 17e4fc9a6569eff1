"""What only the training of s2 uses: posterior encoder, one pass to learn from, discriminator, mel of the loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity_recipe import fill, golden, load_npz, salt
from parity_s2_files import read_tiny, tensor
from torch import Tensor

from appliance.engine.gpt_sovits.discriminator import PERIODS, PRO_PERIODS, Discriminator
from appliance.engine.gpt_sovits.sovits import Lesson, Synthesizer, SynthesizerConfig
from appliance.engine.gpt_sovits.spectrogram import mel_spectrogram, spectrogram

ACTIVATION = 1e-4
SLICE_FRAMES = 32
HOP = 640


class Step:
    """One golden training step of a tiny network; dropout off, as in the file."""

    def __init__(self, version: str) -> None:
        torch.set_num_threads(1)
        self.version = version
        self.arrays: dict[str, NDArray[Any]] = load_npz(f"gptsovits_tiny/s2_{version}_tiny_train.npz")
        tensors, config = read_tiny(golden(f"gptsovits_tiny/s2_{version}_tiny.pth"))
        config["model"]["p_dropout"] = 0.0
        self.network = self._network(config, tensors)
        self.lesson = self._lesson()

    def _network(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> Synthesizer:
        shapes = {name: weight.shape for name, weight in tensors.items()}
        with torch.device("meta"):
            whole = Synthesizer(replace(SynthesizerConfig.from_dict(config, shapes), has_posterior=True))
        shapes = {name: weight.shape for name, weight in whole.state_dict().items()}
        weights = fill(shapes, salt(f"s2_{self.version}"))
        rounded = {name: torch.from_numpy(weight).half().float() for name, weight in weights.items()}
        for name, weight in tensors.items():  # the recipe is what the file was made with
            torch.testing.assert_close(rounded[name], weight.float(), rtol=0, atol=0)
        return Synthesizer.from_tensors(rounded, config)

    def _lesson(self) -> Lesson:
        arrays = self.arrays
        frames = tensor(arrays["spec_len"])
        padded = torch.zeros(len(frames), 1025, arrays["ssl"].shape[2])
        for i, count in enumerate(frames.tolist()):
            padded[i, :, :count] = spectrogram(tensor(arrays["wav"][i, :, : count * HOP]))[0]
        speakers = tensor(arrays["sv_emb"]) if "sv_emb" in arrays else None
        return Lesson(
            tensor(arrays["ssl"]), padded, frames, tensor(arrays["text"]), tensor(arrays["text_len"]), speakers
        )

    def compare(self, found: Tensor, name: str, tolerance: float = ACTIVATION) -> None:
        wanted = self.arrays[name]
        assert tuple(found.shape) == wanted.shape, name
        difference = float(np.abs(found.detach().numpy() - wanted).max())
        largest = float(np.abs(wanted).max())
        print(f"{self.version} {name}: {difference:.2e} of {largest:.3g}")
        assert difference <= tolerance * max(1.0, largest), (name, difference)


@pytest.fixture(scope="module", params=["v2", "v2Pro"])
def step(request: pytest.FixtureRequest) -> Step:
    return Step(request.param)


def test_one_pass(step: Step) -> None:
    learned = step.network.learn(step.lesson, tensor(step.arrays["enc_q_noise"]))
    for name, found in {
        "m_q": learned.mean,
        "logs_q": learned.log_deviation,
        "m_p": learned.mean_prior,
        "logs_p": learned.log_deviation_prior,
        "z": learned.z,
        "z_p": learned.z_prior,
        "z_mask": learned.mask,
    }.items():
        step.compare(found, name)
    starts = step.arrays["ids_slice"].tolist()
    slices = torch.stack([learned.z[i, :, start : start + SLICE_FRAMES] for i, start in enumerate(starts)])
    said = step.network.dec(slices, learned.ge)
    step.compare(said, "y_hat", 1e-5)
    step.compare(mel_spectrogram(said.squeeze(1)), "y_hat_mel", 1e-3)
    assert {name for name, weight in step.network.named_parameters() if not weight.requires_grad} == set()


def test_gradients_reach_all_but_the_quantiser(step: Step) -> None:
    step.network.zero_grad()
    learned = step.network.learn(step.lesson, tensor(step.arrays["enc_q_noise"]))
    said = step.network.dec(learned.z[:, :, :SLICE_FRAMES], learned.ge)
    fit = learned.log_deviation_prior - learned.log_deviation
    fit = fit + (learned.z_prior - learned.mean_prior).square() * torch.exp(-2 * learned.log_deviation_prior)
    (said.square().mean() + (fit * learned.mask).mean()).backward()
    untouched = {name for name, weight in step.network.named_parameters() if weight.grad is None}
    assert untouched == set(step.arrays["no_grad_params"].tolist())


def test_discriminator(step: Step) -> None:
    network = Discriminator(PRO_PERIODS if step.network.config.is_pro else PERIODS)
    shapes = {name: weight.shape for name, weight in network.state_dict().items()}
    weights = fill(shapes, salt(f"s2_{step.version}"), prefix="net_d.")
    network.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    starts = step.arrays["ids_slice"].tolist()
    length = SLICE_FRAMES * HOP
    real = torch.stack([tensor(step.arrays["wav"])[i, :, s * HOP : s * HOP + length] for i, s in enumerate(starts)])
    with torch.inference_mode():
        on_real, on_made = network(real), network(tensor(step.arrays["y_hat"]))
    step.compare(on_real[0].score, "disc_out_real_0")
    step.compare(on_made[1].score, "disc_out_gen_1")
    real_losses = torch.stack([(1 - verdict.score).square().mean() for verdict in on_real])
    made_losses = torch.stack([verdict.score.square().mean() for verdict in on_made])
    step.compare(real_losses, "loss_disc_real_each")
    step.compare(made_losses, "loss_disc_gen_each")
