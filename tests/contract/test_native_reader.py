"""Prompts on the native kernel: what the networks compute at every level of instructions, however the work is cut, and
what is refused.
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
from voiced_native.backend import NativeBackend
from voiced_native.reader import Prompt, Reader, ReaderShape
from voiced_native.reader_arrays import read_s1

from appliance.contracts import Artifact, Session, SessionOptions
from appliance.engine.exporting import relative_error
from appliance.engine.gpt_sovits.bert import Bert, BertConfig
from appliance.engine.gpt_sovits.reader_arrays import BERT, PROMPT, write_bert_reader, write_prompt_reader
from appliance.engine.gpt_sovits.s1_exports import _ReferencePrefill
from appliance.engine.gpt_sovits.session_decoder import prompt_feeds
from appliance.engine.gpt_sovits.synthetic import fill
from appliance.errors import Corrupt, Unavailable

from .broken_files import stands_broken_files
from .test_native import LEVELS, changed, make_network, prompt

LENGTHS = [(30, 41), (1, 1), (7, 0), (13, 90), (64, 24)]  # phones, speech tokens
BERT_SIZES = {"vocab_size": 300, "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 400}


@pytest.fixture(scope="module")
def network():
    return make_network()


@pytest.fixture(scope="module")
def path(network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reader") / "prompt.safetensors"
    write_prompt_reader(network, path)
    return path


@pytest.fixture(scope="module")
def bert() -> Bert:
    sizes = {**BERT_SIZES, "num_hidden_layers": 4}
    with torch.device("meta"):
        made = Bert(BertConfig.from_dict(sizes))
    return Bert.from_tensors(fill(made, "reader"), sizes)


def load(path: Path, form: str, level: str = "", threads: int = 1) -> Session:
    artifact = Artifact(path, form, hashlib.sha256(path.read_bytes()).hexdigest())
    return NativeBackend(level).load(artifact, SessionOptions(threads=threads))


def feeds_of(phones: int, tokens: int, text_step: int = 1) -> dict[str, np.ndarray]:
    return prompt_feeds(prompt(phones, phones, tokens), text_step)


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_reads_a_prompt_as_the_network_does(network, path, level):
    session, reference = load(path, PROMPT, level), _ReferencePrefill(network)
    for lengths in LENGTHS:
        feeds = feeds_of(*lengths)
        found, wanted = session.run(feeds), reference.run(feeds)
        assert set(found) == set(wanted) and found["keys_1"].dtype == np.float16
        assert 1e-4 < relative_error(found, wanted) < 0.03


@pytest.mark.parametrize("level", LEVELS)
def test_the_numbers_do_not_depend_on_threads(path, bert, tmp_path, level):
    write_bert_reader(bert, tmp_path / "bert")
    feeds, ids = feeds_of(60, 47), {"ids": np.arange(3, 128)[None]}
    one, words = load(path, PROMPT, level).run(feeds), load(tmp_path / "bert", BERT, level).run(ids)
    for threads in (2, 3):
        other = load(path, PROMPT, level, threads).run(feeds)
        assert all(np.array_equal(one[name], other[name]) for name in one)
        again = load(tmp_path / "bert", BERT, level, threads).run(ids)
        assert np.array_equal(words["features"], again["features"])


@pytest.mark.parametrize("level", LEVELS)
def test_rows_do_not_depend_on_those_that_nobody_shows_them(path, level):
    session, feeds = load(path, PROMPT, level), feeds_of(23, 80)
    whole = session.run(feeds)
    for tokens in (1, 24, 50):
        rows = 23 + tokens
        shorter = feeds | {"tokens": feeds["tokens"][:, :tokens], "mask": feeds["mask"][:, :, :rows, :rows]}
        found = session.run(shorter)
        for name in ("keys_0", "keys_1", "values_1"):
            assert np.array_equal(found[name], whole[name][:, :, :rows])


def test_padding_of_phones_changes_no_more_than_rounding_does(path):
    session = load(path, PROMPT, threads=2)
    for phones, tokens in ((30, 41), (5, 70)):
        plain, padded = session.run(feeds_of(phones, tokens)), session.run(feeds_of(phones, tokens, 16))
        rows = np.r_[:phones, -tokens:0]
        kept = {name: values if name == "logits" else values[:, :, rows] for name, values in padded.items()}
        assert relative_error(kept, {name: values.astype(np.float32) for name, values in plain.items()}) < 0.01


def test_levels_agree_with_each_other(path):
    feeds = feeds_of(30, 41)
    best, *others = [load(path, PROMPT, level).run(feeds) for level in LEVELS]
    wanted = {name: values.astype(np.float32) for name, values in best.items()}
    assert all(relative_error(other, wanted) < 0.02 for other in others)


@pytest.mark.parametrize(("width", "heads"), [(32, 2), (192, 3)])
@pytest.mark.parametrize("level", LEVELS)
def test_other_sizes_than_the_official_ones(tmp_path, level, width, heads):
    network = make_network(width, heads)  # heads of 16 and 64; groups that are not full
    write_prompt_reader(network, tmp_path / "a")
    feeds = feeds_of(30, 41)
    assert relative_error(load(tmp_path / "a", PROMPT, level).run(feeds), _ReferencePrefill(network).run(feeds)) < 0.03


@pytest.mark.parametrize("level", LEVELS)
@torch.inference_mode()
def test_every_level_reads_characters_as_bert_does(bert, tmp_path, level):
    write_bert_reader(bert, tmp_path / "a")
    session = load(tmp_path / "a", BERT, level)
    for count in (1, 12, 49, 130):
        ids = torch.randint(0, 300, (1, count), generator=torch.Generator().manual_seed(count))
        found = session.run({"ids": ids.numpy()})
        assert 1e-4 < relative_error(found, {"features": bert(ids).numpy()}) < 0.03


def test_results_that_are_lent_are_those_that_are_given(path):
    session, first, second = load(path, PROMPT), feeds_of(30, 41), feeds_of(13, 90)
    given = session.run(first)
    lent = {name: np.array(values) for name, values in session.lend(first).items()}
    assert all(np.array_equal(given[name], lent[name]) for name in given)
    session.lend(second)
    assert all(np.array_equal(given[name], values) for name, values in session.run(first).items())


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "arrays",
    [
        {"layers__1__out_proj__numbers": None},
        {"bert_proj__bias": None},
        {"stranger": np.zeros(3, np.float32)},
        {"text__embedding": np.zeros((732, 64), np.float32)},
        {"audio__positions": np.zeros((10, 128), np.float32)},
        {"heads": np.array(0, np.int32)},
        {"heads": np.array(5, np.int32)},
        {"bert_proj__numbers": np.zeros((128, 0, 0), np.uint8)},
        {"predict__numbers": np.zeros((1025, 1, 100), np.uint8)},
        {"layers__0__in_proj__scales": np.zeros((384, 2), np.float32)},
    ],
    ids=lambda arrays: "-".join(arrays),
)
def test_arrays_that_do_not_belong_together_are_refused(path, tmp_path, arrays):
    with pytest.raises((Corrupt, Unavailable), match=r"artifact_corrupt|backend_unavailable"):
        load(changed(path, tmp_path / "a", **arrays), PROMPT)


def test_a_file_of_another_network_is_refused(path, bert, tmp_path):
    write_bert_reader(bert, tmp_path / "a")
    for file, form in ((path, BERT), (tmp_path / "a", PROMPT), (path, "s1_arrays")):
        with pytest.raises(Corrupt, match="artifact_corrupt"):
            load(file, form)
    for name, wrong in (("words", np.zeros((300, 192))), ("epsilon", np.zeros(2, np.float32))):
        arrays = load_file(tmp_path / "a")
        save_file(arrays | {name: wrong}, tmp_path / "b")
        with pytest.raises(Corrupt, match="artifact_corrupt"):
            load(tmp_path / "b", BERT)


def test_a_cut_or_scrambled_file_is_refused_and_never_brings_the_process_down(path, tmp_path):
    stands_broken_files(path, tmp_path, lambda found: load(found, PROMPT).close(), 30)


def test_the_kernel_itself_refuses_sizes_that_do_not_fit(path):
    from voiced_native.library import KernelError

    file = read_s1(path.read_bytes())
    for wrong in (file.arrays[:-1], [*file.arrays, file.arrays[-1]], [file.arrays[0][:-1], *file.arrays[1:]], []):
        with pytest.raises(KernelError, match="shape demands"):
            Reader(file.shape, wrong, 1)
    sizes = {field: getattr(file.shape, field) for field in file.shape.__dataclass_fields__}
    odd = [("layers", 0), ("width", -128), ("heads", 3), ("group", 24), ("inner", 0), ("features", -1)]
    for field, value in [*odd, ("vocabulary", -1), ("activation", 2), ("epsilon", float("nan"))]:
        with pytest.raises(KernelError, match="sizes"):
            Reader(ReaderShape(**(sizes | {field: value})), file.arrays, 1)
    reader = Reader(file.shape, file.arrays, 1)
    for rows in (0, 4097):
        with pytest.raises(KernelError, match="out of range"):
            reader.read(Prompt(np.zeros((rows, 128), np.float32), logits=np.zeros(1025, np.float32)))
    for x, logits in ((np.zeros((3, 64), np.float32), np.zeros(1025, np.float32)), (np.zeros((3, 128)), None)):
        with pytest.raises(ValueError, match="instead of"):
            reader.read(Prompt(x, logits=logits))


def broken_feeds() -> list[dict[str, np.ndarray]]:
    good = feeds_of(10, 20)
    return [
        good | {"phones": good["phones"] - 800},
        good | {"phones": good["phones"] + 732},
        good | {"tokens": good["tokens"] + 1025},
        good | {"phones": good["phones"][:, :-1]},
        good | {"bert": good["bert"][:, :, :-1]},
        good | {"mask": good["mask"][:, :, 1:]},
        good | {"tokens": np.zeros((1, 5000), np.int64)},
        good | {"tokens": np.repeat(good["tokens"], 2, axis=0)},
        {name: good[name] for name in ("phones", "bert", "tokens")},
    ]


@pytest.mark.parametrize("number", range(9))
def test_what_cannot_be_read_is_refused_and_the_next_prompt_is_read(path, number):
    session = load(path, PROMPT, threads=2)
    wanted = session.run(feeds_of(10, 20))
    with pytest.raises(Unavailable, match="backend_unavailable"):
        session.run(broken_feeds()[number])
    assert np.array_equal(session.run(feeds_of(10, 20))["logits"], wanted["logits"])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_shows_in_the_logits(path, level, value):
    session, feeds = load(path, PROMPT, level), feeds_of(10, 20)
    feeds["bert"][0, 3, 5] = value
    assert not np.isfinite(session.run(feeds)["logits"]).any()


def test_a_closed_session_says_so_also_to_who_is_reading(path):
    session, feeds = load(path, PROMPT, threads=2), feeds_of(10, 20)
    said: list[str] = []

    def go_on(read: Callable[[], object]) -> None:
        try:
            for _ in range(100_000):
                read()
        except Unavailable as error:
            said.append(error.code)

    threads = [threading.Thread(target=go_on, args=(lambda: session.run(feeds),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    session.close()
    session.close()
    for thread in threads:
        thread.join(60)
    assert said == ["session_closed"] * 2
