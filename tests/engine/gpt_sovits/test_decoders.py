"""Decoders and the loop around them: every way to compute s1 gives the reference's numbers, alone and in company."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch
from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend
from torch import Tensor

from appliance.contracts import Artifact, Session, SessionOptions
from appliance.engine.gpt_sovits.decode_loop import Answer, DecodeLoop, Question
from appliance.engine.gpt_sovits.decoder_graphs import prefill_graph, quantize, step_graph
from appliance.engine.gpt_sovits.decoding import Decoder, Place, Row, TorchDecoder
from appliance.engine.gpt_sovits.device_decoder import CAPACITIES, DeviceDecoder
from appliance.engine.gpt_sovits.generation import generate_tokens
from appliance.engine.gpt_sovits.sampling import SamplingSettings, seeded_noise
from appliance.engine.gpt_sovits.session_decoder import ROWS, SessionDecoder, prompt_feeds
from appliance.engine.gpt_sovits.t2s import TextPrompt, TextToSemantic, TextToSemanticConfig
from appliance.engine.gpt_sovits.turns import Listener, Turns
from appliance.errors import Busy, Cancelled, TooLarge

from .conftest import random_weights

CONFIG = TextToSemanticConfig(width=128, heads=4, layers=2)
SAMPLING = SamplingSettings()


@pytest.fixture(scope="module")
def network() -> TextToSemantic:
    with torch.device("meta"):
        made = TextToSemantic(CONFIG)
    return TextToSemantic.from_tensors(
        random_weights(made, 5),
        {"phoneme_vocab_size": 732, "vocab_size": 1025, "hidden_dim": 128, "head": 4, "n_layer": 2},
    )


@pytest.fixture(scope="module")
def open_sessions(network: TextToSemantic, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Decoder]:
    """bits -> a decoder on ONNX Runtime."""
    folder = tmp_path_factory.mktemp("graphs")

    def open_graph(name: str, bits: int) -> Session:
        path = folder / f"{name}_{bits}.onnx"
        if not path.exists():
            make = {"prefill": prefill_graph, "step": step_graph}[name]
            path.write_bytes(make(network, bits).SerializeToString())
        artifact = Artifact(path, "onnx_contrib", hashlib.sha256(path.read_bytes()).hexdigest())
        return OnnxRuntimeBackend().load(artifact, SessionOptions(threads=1, spins=True))

    return lambda bits: SessionDecoder(f"{bits} bits", CONFIG, open_graph("prefill", 32), open_graph("step", bits))


def prompt(seed: int, phones: int = 30, tokens: int = 20) -> TextPrompt:
    generator = torch.Generator().manual_seed(seed)
    return TextPrompt(
        torch.randint(0, 732, (phones,), generator=generator),
        torch.randn(1024, phones, generator=generator),
        torch.randint(0, 1024, (tokens,), generator=generator),
    )


PROMPTS = [prompt(1), prompt(2, 12, 7), prompt(3, 50, 33), prompt(4, 25, 0)]


def question(number: int, most: int = 40) -> Question:
    return Question(PROMPTS[number], seeded_noise(number), SAMPLING, most)


def listener(cancelled: threading.Event | None = None) -> Listener:
    return Listener(Turns.now(), cancelled or threading.Event())


def forced(decoder: Decoder, one: TextPrompt, tokens: list[int]) -> Tensor:
    """Logits (t, v) along given tokens."""
    logits, place = decoder.begin(one, len(tokens))
    rows = [logits]
    for index, token in enumerate(tokens):
        rows.append(decoder.step([Row(place, token, len(one.tokens) + index)])[0])
    decoder.end(place)
    return torch.stack(rows)


def ask_all(loop: DecodeLoop, count: int = 40) -> list[list[int]]:
    """All questions at once, each in a thread of its own."""
    answers = [loop.ask(question(number), listener()) for number in range(len(PROMPTS))]
    threads = [threading.Thread(target=answer.wait, args=(count,)) for answer in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        answer.close()
    return [answer.tokens for answer in answers]


def test_onnxruntime_computes_the_reference_logits(network, open_sessions):
    tokens = torch.randint(0, 1024, (15,), generator=torch.Generator().manual_seed(9)).tolist()
    for one in PROMPTS:
        wanted = forced(TorchDecoder(network), one, tokens)
        torch.testing.assert_close(forced(open_sessions(32), one, tokens), wanted, atol=1e-4, rtol=1e-4)


def test_eight_bits_are_close_and_the_quantizer_loses_half_a_step(network, open_sessions):
    tokens = list(range(100, 115))
    wanted = forced(TorchDecoder(network), PROMPTS[0], tokens)
    assert (forced(open_sessions(8), PROMPTS[0], tokens) - wanted).std() < 0.05 * wanted.std()
    weight = np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32)
    numbers, scales = quantize(weight)
    steps = scales.reshape(3, -1, 1)
    restored = ((numbers.astype(np.float32) - 128) * steps).reshape(3, -1)[:, :100]
    assert (np.abs(restored - weight) <= 0.5001 * steps.max()).all()


def test_phones_are_padded_without_changing_a_number(open_sessions):
    plain = open_sessions(32)
    padded = SessionDecoder("padded", CONFIG, plain._prefill, plain._step, text_step=16)
    for one in PROMPTS:
        wanted = forced(plain, one, [5, 6, 7])
        torch.testing.assert_close(forced(padded, one, [5, 6, 7]), wanted, atol=1e-5, rtol=1e-5)
    feeds = [prompt_feeds(prompt(7, phones), 16) for phones in (17, 32)]
    assert feeds[0]["mask"].shape == feeds[1]["mask"].shape


def test_nothing_of_an_answer_stays_in_its_slot(open_sessions):
    """Whether the memory of a slot is kept or given back, and when a neighbour's steps went through it."""
    decoder = open_sessions(8)
    begun = [decoder.begin(PROMPTS[number % 4], 10)[1] for number in range(4)]
    decoder.step([Row(begun[0], 5, 20), Row(begun[3], 5, 0)])
    for place in begun:
        decoder.end(place)
    assert not any(table.any() for table in decoder._reserve.arrays.values())


@pytest.mark.parametrize("bits", [32, 8])
def test_rows_do_not_depend_on_who_else_is_stepped(open_sessions, bits):
    alone = [forced(open_sessions(bits), one, [5, 6, 7]) for one in PROMPTS]
    decoder = open_sessions(bits)
    begun = [decoder.begin(one, 10) for one in PROMPTS]
    for step, token in enumerate((5, 6, 7)):
        rows = [Row(place, token, len(one.tokens) + step) for one, (_, place) in zip(PROMPTS, begun, strict=True)]
        together = decoder.step(rows)
        for number, logits in enumerate(together):
            torch.testing.assert_close(logits, alone[number][step + 1], atol=0, rtol=0)


def test_answers_made_together_are_those_made_alone(network, open_sessions):
    for make in (lambda: TorchDecoder(network), lambda: open_sessions(8)):
        alone = []
        for number in range(len(PROMPTS)):
            loop = DecodeLoop({"one": make}, CONFIG)
            answer = loop.ask(question(number), listener())
            answer.wait(40)
            alone.append(answer.tokens)
            answer.close()
        assert ask_all(DecodeLoop({"one": make}, CONFIG)) == alone


def test_the_loop_over_the_network_itself_is_the_reference(network):
    wanted = [list(generate_tokens(network, one, seeded_noise(i), SAMPLING, 40)) for i, one in enumerate(PROMPTS)]
    assert ask_all(DecodeLoop({"torch": lambda: TorchDecoder(network)}, CONFIG)) == wanted


def test_an_answer_pauses_where_nobody_waits_and_leaves_nothing_behind(open_sessions):
    decoder = open_sessions(8)
    loop = DecodeLoop({"one": lambda: decoder}, CONFIG)
    answer = loop.ask(question(0), listener())
    assert answer.wait(7)
    assert len(answer.tokens) == 7
    answer.close()
    assert not loop._answers
    assert not any(table.any() for table in decoder._reserve.arrays.values())


class FailsAt(Decoder):
    """Computes like another decoder until its step number `last`."""

    name, places = "breaks", 8

    def __init__(self, inner: Decoder, last: int) -> None:
        self._inner, self._left = inner, last

    def begin(self, prompt: TextPrompt, more: int) -> tuple[Tensor, Place]:
        return self._inner.begin(prompt, more)

    def step(self, rows):
        self._left -= 1
        if self._left < 0:
            raise RuntimeError("the device is lost")
        return self._inner.step(rows)

    def end(self, place: Place) -> None:
        self._inner.end(place)

    def close(self) -> None:
        self._inner.close()


def test_a_decoder_that_fails_is_followed_by_the_next_one_with_the_same_tokens(network):
    wanted = ask_all(DecodeLoop({"torch": lambda: TorchDecoder(network)}, CONFIG))
    decoders = {
        "does not open": lambda: 1 / 0,
        "breaks": lambda: FailsAt(TorchDecoder(network), 13),
        "torch": lambda: TorchDecoder(network),
    }
    loop = DecodeLoop(decoders, CONFIG)
    assert ask_all(loop) == wanted
    assert (loop.chosen, set(loop.failures)) == ("torch", {"does not open", "breaks"})
    assert loop.failures["breaks"] == "the device is lost"


def test_when_all_decoders_fail_the_request_says_so_and_the_next_one_may_succeed(network):
    inner = FailsAt(TorchDecoder(network), 3)
    loop = DecodeLoop({"breaks": lambda: inner}, CONFIG)
    answer = loop.ask(question(0), listener())
    with pytest.raises(RuntimeError, match="device is lost"):
        answer.wait(40)
    answer.close()
    inner._left = 1000
    again: Answer = loop.ask(question(0), listener())
    assert again.wait(11)
    again.close()


def test_numbers_that_are_not_finite_are_never_spoken(network):
    class Broken(FailsAt):
        def step(self, rows):
            return self._inner.step(rows) * torch.nan

    wanted = ask_all(DecodeLoop({"torch": lambda: TorchDecoder(network)}, CONFIG))
    loop = DecodeLoop({"nan": lambda: Broken(TorchDecoder(network), 0), "torch": lambda: TorchDecoder(network)}, CONFIG)
    assert ask_all(loop) == wanted


def test_too_long_a_prompt_is_refused_and_the_others_go_on(open_sessions):
    loop = DecodeLoop({"one": lambda: open_sessions(8)}, CONFIG)
    long = loop.ask(Question(prompt(1, ROWS, 5), seeded_noise(0), SAMPLING), listener())
    short = loop.ask(question(1), listener())
    with pytest.raises(TooLarge) as caught:
        long.wait(5)
    assert caught.value.code == "clause_too_long"
    assert short.wait(11)
    for answer in (long, short):
        answer.close()


def test_more_answers_than_places_wait_for_one(open_sessions):
    loop = DecodeLoop({"one": lambda: open_sessions(8)}, CONFIG)
    answers = [loop.ask(question(number % 4, 12), listener()) for number in range(19)]

    def work(answer: Answer) -> None:
        answer.wait(13)
        answer.close()

    threads = [threading.Thread(target=work, args=(answer,)) for answer in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(answer.is_over and len(answer.tokens) in (11, 12) for answer in answers)


def test_a_cancelled_answer_ends_at_once(network):
    loop = DecodeLoop({"torch": lambda: TorchDecoder(network)}, CONFIG)
    cancelled = threading.Event()
    answer = loop.ask(question(0, 1000), listener(cancelled))
    cancelled.set()
    with pytest.raises(Cancelled):
        answer.wait(1000)
    answer.close()
    assert not loop._answers


def test_the_memory_of_the_caller_is_used_in_place(network, tmp_path: Path):
    path = tmp_path / "step.onnx"
    path.write_bytes(step_graph(network).SerializeToString())
    session = OnnxRuntimeBackend().load(Artifact(path, "onnx_contrib"), SessionOptions())
    rng = np.random.default_rng(0)
    arrays = {
        "tokens": np.array([[3]]),
        "positions": np.array([[9]]),
        "rows": np.array([4], np.int32),
        "total": np.array(5, np.int32),
        "logits": np.zeros((1, 1, 1025), np.float32),
    }
    for name in session.inputs[4:]:
        arrays[name] = arrays[f"grown_{name}"] = rng.standard_normal((1, 4, 16, 32)).astype(np.float32)
    before = {name: array.copy() for name, array in arrays.items()}
    copied = session.run({name: before[name] for name in session.inputs})
    session.bind(arrays)()
    np.testing.assert_allclose(arrays["logits"], copied["logits"], atol=1e-5)
    np.testing.assert_allclose(arrays["keys_0"][:, :, :5], copied["grown_keys_0"][:, :, :5], atol=1e-5)
    np.testing.assert_array_equal(arrays["keys_0"][:, :, 5:], before["keys_0"][:, :, 5:])
    base = {name: array.copy() for name, array in before.items()}
    for name in session.inputs[4:]:
        base[f"grown_{name}"] = base[name].copy()
    Session.bind(session, base)()
    np.testing.assert_allclose(base["logits"], copied["logits"], atol=1e-5)


# ---------------------------------------------------------------- on a device with memory of its own


@pytest.fixture(params=["cpu", "cuda"])
def on_device(request: pytest.FixtureRequest, network: TextToSemantic) -> DeviceDecoder:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    return DeviceDecoder(request.param, copy.deepcopy(network).to(request.param))


def test_a_device_gives_the_numbers_of_the_network(on_device: DeviceDecoder, network: TextToSemantic) -> None:
    for one in PROMPTS:
        tokens = torch.randint(0, 1024, (12,), generator=torch.Generator().manual_seed(9)).tolist()
        expected = forced(TorchDecoder(network), one, tokens)
        assert torch.allclose(forced(on_device, one, tokens), expected, atol=2e-4)
    assert on_device.why_eager or on_device.recorded_capacities == (CAPACITIES[0],)


def test_answers_on_a_device_do_not_depend_on_their_neighbours(
    on_device: DeviceDecoder, network: TextToSemantic, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.engine.gpt_sovits import device_decoder

    monkeypatch.setattr(device_decoder, "CAPACITIES", (64, 80, CAPACITIES[-1]))  # so that these answers outgrow them
    loop = DecodeLoop({"device": lambda: on_device}, network.config)
    together = ask_all(loop)
    for number in range(len(PROMPTS)):
        answer = loop.ask(question(number), listener())
        answer.wait(40)
        assert answer.tokens == together[number]
        answer.close()
    reference = DecodeLoop({"torch": lambda: TorchDecoder(network)}, network.config)
    assert ask_all(reference) == together


def test_a_device_refuses_what_has_no_room(on_device: DeviceDecoder) -> None:
    with pytest.raises(TooLarge):
        on_device.begin(PROMPTS[0], CAPACITIES[-1])
    held = [on_device.begin(PROMPTS[0], 4)[1] for _ in range(on_device.places)]
    with pytest.raises(Busy):
        on_device.begin(PROMPTS[0], 4)
    on_device.end(held[3])
    on_device.begin(PROMPTS[0], 4)
