"""s2 at the official sizes, weights by the hash recipe: v2, v2Pro, v2ProPlus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity_recipe import fill, golden, load_json, load_npz, salt
from parity_s2_files import tensor
from torch import Tensor, nn

from appliance.engine.gpt_sovits.prior import change_speed
from appliance.engine.gpt_sovits.sovits import Synthesizer, SynthesizerConfig
from appliance.engine.gpt_sovits.spectrogram import reference_spectrogram

WAVE = 1e-5
ACTIVATION = 1e-4
NUMBERS = {"v2": 52_883_969, "v2Pro": 81_001_985, "v2ProPlus": 99_912_321}  # with the posterior encoder
Arrays = dict[str, NDArray[Any]]


class Full:
    def __init__(self, version: str) -> None:
        torch.set_num_threads(1)
        self.version = version
        self.arrays: Arrays = load_npz(f"gptsovits_full/s2_{version}_full_infer.npz")
        config = load_json(f"gptsovits_full/s2_{version}_full_config.json")
        with torch.device("meta"):
            empty = Synthesizer(SynthesizerConfig.from_dict(config))
        shapes = {name: weight.shape for name, weight in empty.state_dict().items()}
        weights = fill(shapes, salt(f"s2_{version}"))
        self.network = Synthesizer.from_tensors({n: torch.from_numpy(w) for n, w in weights.items()}, config).folded()
        self.codes, self.text = tensor(self.arrays["codes"]), tensor(self.arrays["text"])
        self.ge = self._timbre()

    def _timbre(self) -> Tensor:
        spec = reference_spectrogram(tensor(self.arrays["ref_wav_0"]))
        return self.network.timbre([spec], [tensor(self.arrays["sv_0"])] if self.network.config.is_pro else None)

    def compare(self, found: Tensor, name: str, tolerance: float) -> None:
        wanted = self.arrays[name]
        assert tuple(found.shape) == wanted.shape, name
        difference, largest = float(np.abs(found.numpy() - wanted).max()), float(np.abs(wanted).max())
        print(f"{self.version} {name}: {difference:.2e} of {largest:.3g}")
        assert difference <= tolerance * (max(1.0, largest) if tolerance == ACTIVATION else 1.0), (name, difference)


@pytest.fixture(scope="module", params=["v2", "v2Pro", "v2ProPlus"])
def full(request: pytest.FixtureRequest) -> Iterator[Full]:
    golden(f"gptsovits_full/s2_{request.param}_full_infer.npz")
    yield Full(request.param)


@pytest.mark.parametrize("version", list(NUMBERS))
def test_count_of_numbers(version: str) -> None:
    config = load_json(f"gptsovits_full/s2_{version}_full_config.json")
    with torch.device("meta"):
        sizes = replace(SynthesizerConfig.from_dict(config), has_posterior=True)
        assert sum(weight.numel() for weight in Synthesizer(sizes).state_dict().values()) == NUMBERS[version]


def test_sizes_of_v1() -> None:
    sizes = SynthesizerConfig.from_dict({"model": {"version": "v1", "n_layers_q": 3, "gin_channels": 512}})
    assert (sizes.symbols, sizes.style_bins, sizes.is_pro) == (322, 1025, False)


def test_codes(full: Full) -> None:
    assert full.network.encode_codes(tensor(full.arrays["ssl"])).tolist() == full.arrays["codes"].tolist()


def test_waveform_and_activations(full: Full) -> None:
    network = full.network
    watched: dict[str, nn.Module] = {
        "act_ref_enc": network.ref_enc,
        "act_enc_p_encoder_ssl": network.enc_p.encoder_ssl,
        "act_enc_p_mrte": network.enc_p.mrte,
        "act_enc_p_encoder2": network.enc_p.encoder2,
        "act_flow_out": network.flow,
    }
    if network.config.is_pro:
        watched["act_ge_final"], watched["act_ge512"] = network.prelu, network.ge_to512
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    handles = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    try:
        ge = full._timbre()
        waveform = network.decode(full.codes, full.text, ge)
    finally:
        for handle in handles:
            handle.remove()
    for name in watched:
        full.compare(seen[name].unsqueeze(2) if name == "act_ge512" else seen[name], name, ACTIVATION)
    mean, log_deviation = network.enc_p.project(seen["act_enc_p_encoder2"])
    full.compare(mean, "act_m_p", ACTIVATION)
    full.compare(log_deviation, "act_logs_p", ACTIVATION)
    full.compare(waveform, "wav_noise0", WAVE)


def test_waveform_with_noise(full: Full) -> None:
    noise = tensor(full.arrays["noise"])
    full.compare(full.network.decode(full.codes, full.text, full.ge, noise), "wav_noise05", WAVE)


def test_waveform_at_speed(full: Full) -> None:
    network = full.network
    full.compare(network.decode(full.codes, full.text, full.ge, None, 1.3), "wav_speed1.3", WAVE)
    features = network.features(full.codes, full.text, full.ge)
    for speed in (1.3, 0.8):
        mean = network.enc_p.project(change_speed(features, speed))[0]
        full.compare(mean, f"m_p_speed{speed}", ACTIVATION)


def test_upstream_streaming(full: Full) -> None:
    overlap, before = None, 0
    for i, cut in enumerate(full.arrays["stream_cuts"].tolist()):
        last = None if i == 0 else cut - before + 2
        codes = full.codes[:, :, :cut]
        part = full.network.decode_stream(codes, full.text, full.ge, last_tokens=last, overlap=overlap)
        if f"stream_wav_{i}" in full.arrays:
            full.compare(part.waveform, f"stream_wav_{i}", WAVE)
        kept = full.arrays[f"stream_latent_{i}"].shape[1]
        full.compare(part.features[:, :kept], f"stream_latent_{i}", ACTIVATION)
        overlap, before = part.features[:, :, -4:], cut
