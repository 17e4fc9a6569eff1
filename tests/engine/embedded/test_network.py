"""The network at toy size: shapes, what each input changes, and that a clone's numbers can be learned."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="cloning libraries are not installed")

from appliance.engine.embedded.network import HarmonicSource, Network, NetworkConfig, ShortTime  # noqa: E402

TOY = NetworkConfig(
    symbols=20,
    hidden=16,
    style=8,
    duration_bins=5,
    bert_embedding=8,
    bert_hidden=12,
    bert_inner=16,
    bert_heads=2,
    bert_layers=2,
    bert_positions=32,
    decoder_hidden=16,
    generator_channels=16,
)


@pytest.fixture
def network() -> Network:
    torch.set_num_threads(1)  # toy layers: a second thread only waits
    torch.manual_seed(7)
    return Network(TOY).eval()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.tensor([[0, 3, 5, 7, 11, 0]])


def test_every_feature_frame_becomes_600_samples(network: Network, tokens: torch.Tensor) -> None:
    features = network.front(tokens, torch.randn(1, TOY.style))
    frames = int(features.durations.sum())
    assert features.phones.shape == (1, TOY.hidden, frames)
    assert features.f0_hz.shape == features.energy.shape == (1, 2 * frames)
    assert network.decode(features, torch.randn(1, TOY.style)).shape == (1, 600 * frames)


def test_every_phone_lasts_at_least_one_frame_at_any_speed(network: Network, tokens: torch.Tensor) -> None:
    style = torch.randn(1, TOY.style)
    slow, fast = (network.front(tokens, style, speed).durations for speed in (0.25, 50.0))
    assert (fast == 1).all()
    assert slow.sum() > fast.sum()


def test_same_inputs_give_the_same_sound_and_noise_is_the_callers(network: Network, tokens: torch.Tensor) -> None:
    style = torch.randn(1, TOY.style)
    features = network.front(tokens, style)
    silent = torch.zeros(1, 300 * features.f0_hz.shape[1], 1)
    quiet, again = network.decode(features, style), network.decode(features, style, silent)
    noisy = network.decode(features, style, silent + 0.1)
    assert torch.equal(quiet, again)
    assert not torch.allclose(quiet, noisy)


def test_source_carries_the_pitch_it_is_given_and_is_flat_when_unvoiced() -> None:
    source = HarmonicSource(NetworkConfig())
    with torch.no_grad():
        source.l_linear.weight.zero_()[0, 0] = 1.0
        source.l_linear.bias.zero_()
        voiced = source(torch.full((1, 80), 200.0), None)[0]
        unvoiced = source(torch.zeros(1, 80), None)[0]
    spectrum = torch.fft.rfft(voiced).abs()
    assert int(spectrum.argmax()) * 24_000 / len(voiced) == pytest.approx(200.0, abs=2.0)
    assert unvoiced.abs().max() == 0.0


def test_short_time_transform_inverts_up_to_its_documented_gain() -> None:
    transform = ShortTime(20, 5)
    sound = torch.randn(1, 600)
    bins = transform.analyse(sound)
    assert bins.shape == (1, 22, 121)
    back = transform.synthesise(bins[:, :11], bins[:, 11:])
    # conv_transpose overlap-adds windowed frames without the division by the summed window squares, 1.5
    assert torch.allclose(back[:, 20:-20], 1.5 * sound[:, 20:-20], atol=1e-4)


def test_gradients_reach_the_style_and_every_adaptive_bias(network: Network, tokens: torch.Tensor) -> None:
    style = torch.randn(1, TOY.style, requires_grad=True)
    features = network.front(tokens, style.detach())
    network.decode(type(features)(*(part.detach() for part in features)), style).square().mean().backward()
    biases = [value for name, value in network.decoder.named_parameters() if name.endswith("fc.bias")]
    assert len(biases) == 58
    assert style.grad is not None and style.grad.abs().sum() > 0
    assert all(bias.grad is not None and torch.isfinite(bias.grad).all() for bias in biases)
    assert sum(bool(bias.grad.abs().sum() > 0) for bias in biases) == 58
