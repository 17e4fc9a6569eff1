"""The native kernel: the reference's logits at every level of instructions, the same alone and in company, and never a
look outside its memory, whatever the file or the caller says.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("voiced_native", reason="the native kernel is not installed (make native)")

import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from voiced_native import library
from voiced_native.backend import LEVEL, NativeBackend, NativeSession

from appliance.contracts import Artifact, SessionOptions
from appliance.engine.gpt_sovits.decoder_arrays import write_arrays
from appliance.engine.gpt_sovits.decoding import Decoder, Row, TorchDecoder
from appliance.engine.gpt_sovits.s1_exam import distance, judge, set_exam
from appliance.engine.gpt_sovits.s1_exports import _ReferencePrefill
from appliance.engine.gpt_sovits.session_decoder import SessionDecoder
from appliance.engine.gpt_sovits.synthetic import fill
from appliance.engine.gpt_sovits.t2s import TextPrompt, TextToSemantic, TextToSemanticConfig
from appliance.errors import Corrupt, Unavailable

from .broken_files import stands_broken_files

KNOWN = ("avx512_bf16", "avx512", "avx2", "portable")
LEVELS = [name for name in KNOWN if library.level(name)]
ABSENT = [name for name in KNOWN if name not in LEVELS]
SIZES = {"phoneme_vocab_size": 732, "vocab_size": 1025, "n_layer": 2}


def make_network(width: int = 128, heads: int = 4) -> TextToSemantic:
    config = {**SIZES, "hidden_dim": width, "head": heads}
    with torch.device("meta"):
        made = TextToSemantic(TextToSemanticConfig.from_dict(config))
    halves = {name: tensor.half().float() for name, tensor in fill(made, "native").items()}  # as in official files
    return TextToSemantic.from_tensors(halves, config)


@pytest.fixture(scope="module")
def network() -> TextToSemantic:
    return make_network()


@pytest.fixture(scope="module")
def files(network: TextToSemantic, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """bits -> the file of the decoder."""
    folder = tmp_path_factory.mktemp("native")
    for bits in (8, 16):
        write_arrays(network, folder / f"{bits}.safetensors", bits)
    return {bits: folder / f"{bits}.safetensors" for bits in (8, 16)}


def load(path: Path, level: str = "", threads: int = 1) -> NativeSession:
    artifact = Artifact(path, "s1_arrays", hashlib.sha256(path.read_bytes()).hexdigest())
    return NativeBackend(level).load(artifact, SessionOptions(threads=threads))


@pytest.fixture
def decoder(network: TextToSemantic, files: dict[int, Path]) -> Callable[..., Decoder]:
    def make(bits: int, level: str = "", threads: int = 1) -> Decoder:
        session = load(files[bits], level, threads)
        return SessionDecoder("native", network.config, _ReferencePrefill(network), session)

    return make


def prompt(seed: int, phones: int, tokens: int) -> TextPrompt:
    generator = torch.Generator().manual_seed(seed)
    return TextPrompt(
        torch.randint(0, 732, (phones,), generator=generator),
        torch.randn(1024, phones, generator=generator),
        torch.randint(0, 1024, (tokens,), generator=generator),
    )


PROMPTS = [prompt(1, 30, 20), prompt(2, 12, 7), prompt(3, 50, 33), prompt(4, 25, 1), prompt(5, 9, 60)]
TOKENS = torch.randint(0, 1024, (12,), generator=torch.Generator().manual_seed(9)).tolist()


def follow_all(decoder: Decoder, prompts: list[TextPrompt]) -> list[Tensor]:
    """Logits (t, v) of each, stepped together along the same tokens."""
    places = [decoder.begin(one, len(TOKENS))[1] for one in prompts]
    found: list[list[Tensor]] = [[] for _ in prompts]
    for index, token in enumerate(TOKENS):
        rows = [Row(place, token, len(one.tokens) + index) for place, one in zip(places, prompts, strict=True)]
        for logits, row in zip(found, decoder.step(rows), strict=True):
            logits.append(row)
    for place in places:
        decoder.end(place)
    return [torch.stack(rows) for rows in found]


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_computes_the_reference_logits(network, decoder, level):
    exam = set_exam(TorchDecoder(network), network.config)
    halves = judge(decoder(16, level), exam)
    assert halves.worst < 2e-3  # half floats hold the weights exactly; keys and values are rounded to them
    eight = judge(decoder(8, level), exam)
    assert eight.passed and 1e-4 < eight.rms < 0.05


@pytest.mark.parametrize("level", ABSENT)
def test_instructions_that_the_processor_lacks_are_refused(level):
    assert "no instructions" in NativeBackend(level).probe().reason


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("bits", [8, 16])
def test_an_answer_is_the_same_alone_and_in_company_and_with_more_threads(decoder, level, bits):
    alone = [follow_all(decoder(bits, level), [one])[0] for one in PROMPTS]
    for threads in (1, 3):
        together = follow_all(decoder(bits, level, threads), PROMPTS)
        assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    a_few = follow_all(decoder(bits, level), PROMPTS[:2])
    assert all(torch.equal(one, other) for one, other in zip(alone, a_few, strict=False))


def test_levels_agree_with_each_other(decoder):
    for bits in (8, 16):
        best, *others = [follow_all(decoder(bits, level), PROMPTS[:1])[0] for level in LEVELS]
        assert all(distance(other, best).rms < 0.01 for other in others)


@pytest.mark.parametrize(("width", "heads"), [(32, 2), (192, 3)])
@pytest.mark.parametrize("level", LEVELS)
def test_other_sizes_than_the_official_ones(tmp_path, level, width, heads):
    network = make_network(width, heads)  # heads of 16 and 64; groups that are not full
    exam = set_exam(TorchDecoder(network), network.config)
    write_arrays(network, tmp_path / "a", 8)
    session = load(tmp_path / "a", level)
    assert judge(SessionDecoder("native", network.config, _ReferencePrefill(network), session), exam).passed


def test_heads_of_other_sizes_are_refused(tmp_path):
    write_arrays(make_network(40, 5), tmp_path / "a", 8)
    with pytest.raises(Unavailable, match="backend_unavailable"):
        load(tmp_path / "a")


def test_the_level_can_be_told_from_outside(monkeypatch):
    monkeypatch.setenv(LEVEL, "portable")
    assert NativeBackend().probe().version.endswith(" portable")
    monkeypatch.setenv(LEVEL, "abacus")
    assert not NativeBackend().probe().usable


# ---------------------------------------------------------------- bad input


def changed(path: Path, to: Path, **arrays: np.ndarray | None) -> Path:
    """The file with some arrays replaced, or left out."""
    kept = load_file(path) | {name.replace("__", "."): array for name, array in arrays.items()}
    save_file({name: array for name, array in kept.items() if array is not None}, to)
    return to


@pytest.mark.parametrize(
    "arrays",
    [
        {"layers__1__out_proj__numbers": None},
        {"layers__1__linear1__bias": None},
        {"stranger": np.zeros(3, np.float32)},
        {"embedding": np.zeros((1025, 64), np.float32)},
        {"embedding": np.zeros(0, np.float32)},
        {"positions": np.zeros((10, 128), np.float64)},
        {"heads": np.array(0, np.int32)},
        {"heads": np.array(2**40)},
        {"heads": np.array([4, 4], np.int32)},
        {"predict__numbers": np.zeros((1025, 128), np.uint8)},
        {"predict__numbers": np.zeros((1025, 0, 0), np.uint8)},
        {"layers__0__in_proj__scales": np.zeros((384, 2), np.float32)},
        {"layers__0__norm1__weight": np.zeros(127, np.float32)},
    ],
    ids=lambda arrays: "-".join(arrays),
)
def test_arrays_that_do_not_belong_together_are_refused(files, tmp_path, arrays):
    with pytest.raises((Corrupt, Unavailable), match=r"artifact_corrupt|backend_unavailable"):
        load(changed(files[8], tmp_path / "a", **arrays))


def test_a_cut_or_scrambled_file_is_refused_and_never_brings_the_process_down(files, tmp_path):
    stands_broken_files(files[8], tmp_path, lambda found: load(found).close(), 60)


def test_the_kernel_itself_refuses_sizes_that_do_not_fit(files):
    from voiced_native.arrays import read

    shape, arrays = read(files[8].read_bytes())
    for wrong in (arrays[:-1], [*arrays, arrays[-1]], [arrays[0][:-1], *arrays[1:]], []):
        with pytest.raises(library.KernelError, match="shape demands"):
            library.Decoder(shape, wrong, 1)
    sizes = {field: getattr(shape, field) for field in shape.__dataclass_fields__}
    for field, value in (("layers", 0), ("layers", 10**6), ("width", -128), ("heads", 3), ("group", 7), ("inner", 0)):
        with pytest.raises(library.KernelError, match="sizes"):
            library.Decoder(library.Shape(**(sizes | {field: value})), arrays, 1)


def arrays_of(session: NativeSession, rows: int = 2, capacity: int = 16) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        "tokens": np.full((rows, 1), 3),
        "positions": np.full((rows, 1), 9),
        "rows": np.full(rows, 4, np.int32),
        "total": np.array(5, np.int32),
        "logits": np.zeros((rows, 1, 1025), np.float32),
    }
    for name in session.inputs[4:]:
        table = generator.standard_normal((rows, 4, capacity, 32)).astype(np.float16)
        arrays[name] = arrays[f"grown_{name}"] = table
    return arrays


def test_a_step_grows_the_memory_of_the_caller_by_one_row(files):
    session = load(files[8])
    arrays = arrays_of(session)
    before = {name: array.copy() for name, array in arrays.items()}
    copied = session.run({name: before[name] for name in session.inputs})
    session.bind(arrays)()
    assert np.array_equal(arrays["logits"], copied["logits"])
    for name in session.inputs[4:]:
        differs = (arrays[name] != before[name]).any(axis=(0, 1, 3))
        assert np.flatnonzero(differs).tolist() == [4]
        assert np.array_equal(arrays[name], copied[f"grown_{name}"])
    assert all(np.array_equal(before[name], arrays[name]) for name in ("tokens", "positions", "rows"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("tokens", -1), ("tokens", 1025), ("positions", 4096), ("positions", -1), ("rows", 16), ("rows", -1)],
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(files, name, value):
    session = load(files[8], threads=2)
    arrays = arrays_of(session)
    arrays[name][1] = value
    before = arrays["keys_0"].copy()
    with pytest.raises(Unavailable, match="out of range"):
        session.bind(arrays)()
    assert np.array_equal(arrays["keys_0"], before)


def test_arrays_of_other_types_and_places_are_refused(files):
    session = load(files[8])
    good = arrays_of(session)
    wrong = {
        "tokens": good["tokens"].astype(np.int32),
        "logits": good["logits"][:, :, ::2],
        "keys_1": good["keys_1"].astype(np.float32),
        "grown_values_0": good["values_0"].copy(),
        "rows": np.zeros(3, np.int32),
    }
    for name, array in wrong.items():
        with pytest.raises(Unavailable):
            session.bind(good | {name: array})
    for rows, capacity in ((library.MOST_ROWS + 1, 16), (1, library.MOST_CAPACITY + 1)):
        with pytest.raises(Unavailable):
            session.bind(arrays_of(session, rows, capacity))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("name", "value"), [("keys_0", np.nan), ("values_0", np.inf), ("values_1", -np.inf)])
def test_what_is_not_finite_shows_in_the_logits_of_that_answer_alone(files, level, bits, name, value):
    session = load(files[bits], level)
    arrays = arrays_of(session)
    step = session.bind(arrays)
    step()
    wanted = arrays["logits"][1].copy()
    arrays[name][0, 2, 1, 5] = value
    step()
    assert not np.isfinite(arrays["logits"][0]).any()
    assert np.array_equal(arrays["logits"][1], wanted)


# ---------------------------------------------------------------- threads


def test_a_closed_session_says_so_also_to_who_is_stepping(files):
    session = load(files[8], threads=2)
    arrays = arrays_of(session)
    step, said = session.bind(arrays), []

    def go_on() -> None:
        try:
            for _ in range(100_000):
                step()
        except Unavailable as error:
            said.append(error.code)

    threads = [threading.Thread(target=go_on) for _ in range(2)]  # they wait for each other
    for thread in threads:
        thread.start()
    session.close()
    session.close()
    for thread in threads:
        thread.join(60)
    assert said == ["session_closed"] * 2
    with pytest.raises(Unavailable, match="session_closed"):
        session.run({name: arrays[name] for name in session.inputs})


def test_many_decoders_open_step_and_close_side_by_side(files):
    wanted = load(files[8]).run(
        {name: array for name, array in arrays_of(load(files[8])).items() if "grown" not in name}
    )
    found: list[bool] = []

    def go() -> None:
        for _ in range(5):
            session = load(files[8], threads=3)
            arrays = arrays_of(session)
            step = session.bind(arrays)
            for _ in range(20):
                step()
            found.append(np.array_equal(arrays["logits"], wanted["logits"]))
            session.close()

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 20
