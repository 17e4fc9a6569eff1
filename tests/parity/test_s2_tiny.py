"""s2 at small sizes, in the official file format: codes, activations, waveforms, streaming."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity_recipe import golden, load_npz
from parity_s2_files import read_tiny, tensor
from torch import Tensor, nn

from appliance.engine.gpt_sovits.prior import change_speed
from appliance.engine.gpt_sovits.sovits import Synthesizer
from appliance.errors import Corrupt

WAVE = 1e-5
ACTIVATION = 1e-4


@dataclass
class Case:
    network: Synthesizer
    arrays: dict[str, NDArray[Any]]

    def timbre(self, *references: int) -> Tensor:
        specs = [tensor(self.arrays[f"ref_spec_{i}"]) for i in references]
        speakers = [tensor(self.arrays[f"sv_{i}"]) for i in references] if self.network.config.is_pro else None
        return self.network.timbre(specs, speakers)

    def decode(self, noise: str | None = None, speed: float = 1.0, references: tuple[int, ...] = (0,)) -> Tensor:
        return self.network.decode(
            tensor(self.arrays["codes"]),
            tensor(self.arrays["text"]),
            self.timbre(*references),
            tensor(self.arrays[noise]) if noise else None,
            speed,
        )

    def compare(self, found: Tensor, name: str, tolerance: float) -> None:
        wanted = self.arrays[name]
        assert tuple(found.shape) == wanted.shape, name
        difference = float(np.abs(found.numpy() - wanted).max())
        scale = max(1.0, float(np.abs(wanted).max()))
        print(f"{name}: {difference:.2e} (largest {np.abs(wanted).max():.3g})")
        assert difference <= tolerance * (scale if tolerance == ACTIVATION else 1.0), (name, difference)


@pytest.fixture(scope="module", params=["v2", "v2Pro"])
def case(request: pytest.FixtureRequest) -> Case:
    tensors, config = read_tiny(golden(f"gptsovits_tiny/s2_{request.param}_tiny.pth"))
    network = Synthesizer.from_tensors(tensors, config).folded()
    return Case(network, load_npz(f"gptsovits_tiny/s2_{request.param}_tiny_infer.npz"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_codes(case: Case) -> None:
    ssl = tensor(case.arrays["ssl"])
    with torch.inference_mode():
        projected = case.network.ssl_proj(ssl)
        codes = case.network.encode_codes(ssl)
        case.compare(projected, "ssl_proj_out", ACTIVATION)
        case.compare(case.network.quantizer.decode(codes), "quantized_25hz", 0.0)
    assert codes.numpy().tolist() == case.arrays["codes"].tolist()


def test_activations(case: Case) -> None:
    network = case.network
    watched: dict[str, nn.Module] = {
        "act_ref_enc": network.ref_enc,
        "act_enc_p_ssl_proj_raw": network.enc_p.ssl_proj,
        "act_enc_p_encoder_ssl": network.enc_p.encoder_ssl,
        "act_enc_p_encoder_text": network.enc_p.encoder_text,
        "act_enc_p_mrte": network.enc_p.mrte,
        "act_enc_p_encoder2": network.enc_p.encoder2,
        "act_flow_out": network.flow,
        "act_dec_conv_pre": network.dec.conv_pre,
        "act_dec_up0": network.dec.ups[0],
        "act_dec_up1": network.dec.ups[1],
    }
    if network.config.is_pro:
        watched["act_ge_final"], watched["act_ge512"] = network.prelu, network.ge_to512
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    handles = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    try:
        case.decode()
    finally:
        for handle in handles:
            handle.remove()
    assert seen.keys() == watched.keys()
    if "act_ge512" in seen:
        seen["act_ge512"] = seen["act_ge512"].unsqueeze(2)
    for name, found in seen.items():
        case.compare(found, name, ACTIVATION)


def test_prior(case: Case) -> None:
    features = case.network.features(tensor(case.arrays["codes"]), tensor(case.arrays["text"]), case.timbre(0))
    with torch.inference_mode():
        mean, log_deviation = case.network.enc_p.project(features)
    case.compare(mean, "act_m_p", ACTIVATION)
    case.compare(log_deviation, "act_logs_p", ACTIVATION)


def test_waveform_without_noise(case: Case) -> None:
    case.compare(case.decode(), "wav_noise0", WAVE)


def test_waveform_with_noise(case: Case) -> None:
    case.compare(case.decode("noise"), "wav_noise05", WAVE)


@pytest.mark.parametrize("speed", [1.3, 0.8])
def test_waveform_at_speed(case: Case, speed: float) -> None:
    found = case.decode(speed=speed)
    case.compare(found, f"wav_speed{speed}", WAVE)
    features = change_speed(
        case.network.features(tensor(case.arrays["codes"]), tensor(case.arrays["text"]), case.timbre(0)), speed
    )
    with torch.inference_mode():
        case.compare(case.network.enc_p.project(features)[0], f"m_p_speed{speed}", ACTIVATION)
    tokens = case.arrays["codes"].shape[2]
    assert found.shape[2] == case.network.frames(tokens, speed) * case.network.config.samples_per_frame


def test_two_references(case: Case) -> None:
    case.compare(case.decode(references=(0, 1)), "wav_2refs", WAVE)


def test_upstream_streaming(case: Case) -> None:
    ge, text, codes = case.timbre(0), tensor(case.arrays["text"]), tensor(case.arrays["codes"])
    overlap, before = None, 0
    for i, cut in enumerate(case.arrays["stream_cuts"].tolist()):
        last = None if i == 0 else cut - before + 2
        part = case.network.decode_stream(codes[:, :, :cut], text, ge, last_tokens=last, overlap=overlap)
        case.compare(part.waveform, f"stream_wav_{i}", WAVE)
        case.compare(part.features, f"stream_latent_{i}", ACTIVATION)
        overlap, before = part.features[:, :, -4:], cut


def test_unfolded_is_equal(case: Case) -> None:
    name = "v2Pro" if case.network.config.is_pro else "v2"
    tensors, config = read_tiny(golden(f"gptsovits_tiny/s2_{name}_tiny.pth"))
    unfolded = Case(Synthesizer.from_tensors(tensors, config), case.arrays)
    unfolded.compare(unfolded.decode(), "wav_noise0", WAVE)


def test_refuses_incomplete_weights() -> None:
    tensors, config = read_tiny(golden("gptsovits_tiny/s2_v2_tiny.pth"))
    tensors.pop("flow.flows.2.pre.bias")
    with pytest.raises(Corrupt, match="s2_tensors_wrong") as caught:
        Synthesizer.from_tensors(tensors, config)
    assert caught.value.measured["first"] == "flow.flows.2.pre.bias"
