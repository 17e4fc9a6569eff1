"""s1 against upstream: embeddings, masks, cache, logits, and every token of greedy, sampled, batched and ended runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity_recipe import fill, golden, load_npz, salt
from torch import Tensor

from appliance.engine.gpt_sovits.generation import generate_batch, generate_tokens
from appliance.engine.gpt_sovits.sampling import Noise, SamplingSettings, penalise, probabilities, seeded_noise
from appliance.engine.gpt_sovits.t2s import TextPrompt, TextToSemantic, TextToSemanticConfig, allowed_columns

GREEDY = SamplingSettings(top_k=1)
# Settings of the sampled runs, from the README of the golden files.
SAMPLED = {
    "a": SamplingSettings(top_k=15, top_p=1.0, temperature=1.0, repetition_penalty=1.35),
    "b": SamplingSettings(top_k=20, top_p=0.6, temperature=0.6, repetition_penalty=1.35),
    "c": SamplingSettings(top_k=5, top_p=0.95, temperature=1.3, repetition_penalty=1.1),
}
Arrays = dict[str, NDArray[Any]]


class Run:
    """One network with the golden file that belongs to it."""

    def __init__(self, network: TextToSemantic, arrays: Arrays) -> None:
        self.network, self.arrays = network, arrays

    @property
    def prompt(self) -> TextPrompt:
        return prompt_of(self.arrays)


def prompt_of(arrays: Arrays) -> TextPrompt:
    return TextPrompt(*(torch.from_numpy(arrays[name][0]) for name in ("phones", "bert", "prompt")))


def tiny_file() -> dict[str, Any]:
    # Our own reader of checkpoints has tests of its own; this file is trusted.
    checkpoint: dict[str, Any] = torch.load(golden("gptsovits_tiny/s1_tiny.ckpt"), weights_only=True)
    return checkpoint


def tiny_network(**replaced: Tensor) -> TextToSemantic:
    checkpoint = tiny_file()
    return TextToSemantic.from_tensors({**checkpoint["weight"], **replaced}, checkpoint["config"])


def full_network() -> TextToSemantic:
    with torch.device("meta"):
        network = TextToSemantic(TextToSemanticConfig())
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    tensors = {name: torch.from_numpy(w) for name, w in fill(shapes, salt("s1_full"), prefix="model.").items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["tiny", "full"])
def run(request: pytest.FixtureRequest) -> Run:
    size = request.param
    arrays = load_npz(f"gptsovits_{size}/s1_{size}_infer.npz")
    return Run(tiny_network() if size == "tiny" else full_network(), arrays)


def recorded_noise(rows: NDArray[np.float32]) -> Noise:
    steps = iter(rows)
    return lambda count: next(steps)[:count]


def new_tokens(arrays: Arrays, name: str) -> list[int]:
    full = arrays[name].ravel()
    return [int(token) for token in full[arrays["prompt"].shape[1] :]]


def worst(found: Tensor, expected: NDArray[Any]) -> float:
    return float(np.abs(found.numpy() - expected).max())


def test_official_size() -> None:
    with torch.device("meta"):
        tensors = TextToSemantic(TextToSemanticConfig()).state_dict()
    assert (len(tensors), sum(tensor.numel() for tensor in tensors.values())) == (295, 77_606_402)


def test_config_of_the_file() -> None:
    checkpoint = tiny_file()
    config = TextToSemanticConfig.from_dict(checkpoint["config"])
    assert (config.phonemes, config.width) == checkpoint["weight"][
        "model.ar_text_embedding.word_embeddings.weight"
    ].shape
    assert (config.vocabulary, config.end) == (1025, 1024)
    assert f"model.h.layers.{config.layers - 1}.norm2.weight" in checkpoint["weight"]


def test_prefill(run: Run) -> None:
    arrays, network = run.arrays, run.network
    phones, rows = arrays["phones"].shape[1], arrays["prefill_input"].shape[1]
    assert worst(network.embed_prompt(run.prompt), arrays["prefill_input"]) < 1e-4
    allowed = allowed_columns([0], [phones], rows)[0, 0]
    np.testing.assert_array_equal(~allowed.numpy(), arrays["prefill_mask_true_is_blocked"])
    logits, cache = network.prefill([run.prompt], more=5)
    assert worst(logits, arrays["prefill_logits_last"]) < 1e-4
    for stored, name in ((cache.keys, "k"), (cache.values, "v")):
        joined = stored[0, :, :, :rows].transpose(1, 2).flatten(2)
        assert worst(joined, arrays[f"prefill_{name}_layer0"]) < 1e-4
    assert (cache.length, cache.capacity) == (rows, rows + 5)


def test_hidden_state(run: Run) -> None:
    seen: list[Tensor] = []
    hook = run.network.h.register_forward_hook(lambda module, inputs, output: seen.append(output))
    run.network.prefill([run.prompt], more=1)
    hook.remove()
    assert worst(seen[0], run.arrays["prefill_hidden_last_layer"]) < 1e-4


@pytest.mark.parametrize("name", ["greedy", "greedy_nopen"])
def test_greedy(run: Run, name: str) -> None:
    arrays = run.arrays
    expected = new_tokens(arrays, f"{name}_y_full")
    settings = SamplingSettings(top_k=1, repetition_penalty=1.35 if name == "greedy" else 1.0)
    with logits_of(run.network) as logits:
        found = list(generate_tokens(run.network, run.prompt, seeded_noise(1), settings, most=len(expected)))
    assert found == expected
    assert worst(torch.cat(logits), arrays[f"{name}_logits"]) < 1e-4


@contextmanager
def logits_of(network: TextToSemantic) -> Iterator[list[Tensor]]:
    """The raw logits of every step while inside."""
    rows: list[Tensor] = []
    hook = network.ar_predict_layer.register_forward_hook(lambda module, inputs, output: rows.append(output))
    yield rows
    hook.remove()


@pytest.mark.parametrize("name", SAMPLED)
def test_sampled(run: Run, name: str) -> None:
    arrays, settings = run.arrays, SAMPLED[name]
    expected = new_tokens(arrays, f"sample_{name}_y_full")
    noise = recorded_noise(arrays[f"sample_{name}_noise_q"])
    with logits_of(run.network) as logits:
        found = list(generate_tokens(run.network, run.prompt, noise, settings, most=len(expected)))
    assert found == expected
    for step, likely in enumerate(arrays[f"sample_{name}_probs"]):
        row = logits[step][0, :-1].numpy()
        seen = np.zeros(len(row), np.bool_)
        seen[[*run.prompt.tokens.tolist(), *expected[:step]]] = True
        found = probabilities(penalise(row, seen, settings.repetition_penalty), settings)
        assert np.abs(found - likely[:-1]).max() < 1e-4


def test_without_prompt(run: Run) -> None:
    arrays = run.arrays
    prompt = TextPrompt(run.prompt.phones, run.prompt.bert, run.prompt.tokens[:0])
    expected = [int(token) for token in arrays["noprompt_y"][0]]
    with logits_of(run.network) as logits:
        found = list(generate_tokens(run.network, prompt, seeded_noise(1), GREEDY, most=len(expected)))
    assert found == expected
    assert worst(torch.cat(logits), arrays["noprompt_logits"]) < 1e-4


def batch_of(run: Run) -> tuple[list[TextPrompt], list[list[int]]]:
    """The golden batch: prompts, and the new tokens of each item."""
    arrays, prompts, expected = run.arrays, [], []
    for item in range(len(arrays["batch_idx"])):
        phones, bert = (torch.from_numpy(arrays[f"batch_{name}_{item}"]) for name in ("phones", "bert"))
        prompts.append(TextPrompt(phones, bert, run.prompt.tokens))
        expected.append(new_tokens(arrays, f"batch_y_{item}"))
    return prompts, expected


def test_batch(run: Run) -> None:
    prompts, expected = batch_of(run)
    logits, _ = run.network.prefill(prompts, more=1)
    assert worst(logits, run.arrays["batch_first_logits"]) < 1e-4
    noises = [seeded_noise(item) for item in range(len(prompts))]
    assert generate_batch(run.network, prompts, noises, GREEDY, most=len(expected[0])) == expected


def test_natural_end() -> None:
    arrays = load_npz("gptsovits_tiny/s1_tiny_eos.npz")
    predict = tiny_file()["weight"]["model.ar_predict_layer.weight"].float()
    predict[1024] = torch.from_numpy(arrays["eos_row"])
    network = tiny_network(**{"model.ar_predict_layer.weight": predict})
    noise = recorded_noise(arrays["noise_q"])
    found = list(generate_tokens(network, prompt_of(arrays), noise, SAMPLED["a"]))
    assert found == new_tokens(arrays, "y_full")
    assert len(found) == arrays["idx"]


def ending_network() -> TextToSemantic:
    """The tiny network that ends its answers by itself."""
    predict = tiny_file()["weight"]["model.ar_predict_layer.weight"].float()
    predict[1024] = torch.from_numpy(load_npz("gptsovits_tiny/s1_tiny_eos.npz")["eos_row"])
    return tiny_network(**{"model.ar_predict_layer.weight": predict})


def test_batch_equals_alone_when_items_end_one_by_one_and_prompts_differ() -> None:
    network = ending_network()
    prompts, _ = batch_of(Run(network, load_npz("gptsovits_tiny/s1_tiny_infer.npz")))
    prompts = [TextPrompt(p.phones, p.bert, p.tokens[: 9 * item]) for item, p in enumerate(prompts)]
    alone = [list(generate_tokens(network, p, seeded_noise(item), most=120)) for item, p in enumerate(prompts)]
    together = generate_batch(network, prompts, [seeded_noise(item) for item in range(len(prompts))], most=120)
    assert together == alone
    assert len({len(tokens) for tokens in alone}) > 1  # or nobody left the batch early


def test_no_answer_ends_before_the_eleventh_token() -> None:
    predict = tiny_file()["weight"]["model.ar_predict_layer.weight"].float()
    prompt = prompt_of(load_npz("gptsovits_tiny/s1_tiny_infer.npz"))
    logits, _ = tiny_network().prefill([prompt], more=1)
    predict[1024] = predict[int(logits.argmax())] * 50.0  # as likely as can be
    network = tiny_network(**{"model.ar_predict_layer.weight": predict})
    assert int(network.prefill([prompt], more=1)[0].argmax()) == 1024
    assert len(list(generate_tokens(network, prompt, seeded_noise(1), most=40))) >= 11


def test_equal_seeds_draw_equal_noise_whoever_else_draws() -> None:
    first, other, again = seeded_noise(7), seeded_noise(8), seeded_noise(7)
    torch.manual_seed(0)
    rows = []
    for _ in range(3):
        rows.append((first(1024), other(1024)))
        torch.rand(5)
    for mine, theirs in rows:
        np.testing.assert_array_equal(mine, again(1024))
        assert (mine != theirs).any()


def test_noise_is_what_the_generator_gives_whatever_was_drawn_ahead() -> None:
    noise, generator = seeded_noise(7), torch.Generator().manual_seed(7)
    for count in [1024] * 13 + [1025] * 30 + [1024] * 11 + [1025] * 2 + [1024]:
        wanted = torch.empty(count).exponential_(1.0, generator=generator)
        np.testing.assert_array_equal(noise(count), wanted.numpy())
