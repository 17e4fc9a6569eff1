"""Files of weights: what they are is found by content, and nothing in them can run, fill memory, or pass damaged."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))  # for `forge`; test folders are no packages

import forge

from appliance.engine.gpt_sovits.checkpoint import read_checkpoint
from appliance.engine.gpt_sovits.conversion import convert
from appliance.engine.gpt_sovits.pairing import check_pair, helpers_of
from appliance.errors import InvalidInput, VoicedError
from appliance.messages import catalogue

GOLDEN = Path(os.environ.get("VOICED_GOLDEN", Path(__file__).parents[4] / "shared" / "golden")) / "gptsovits_tiny"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden files at {GOLDEN} (VOICED_GOLDEN)")


def refusal(path: Path) -> VoicedError:
    with pytest.raises(VoicedError) as caught:
        read_checkpoint(path)
    error = caught.value
    assert error.measured["file"] == path.name
    for language in ("en", "zh"):
        assert {f"{error.code}.message", f"{error.code}.remedy"} <= catalogue(language).keys()
        assert not re.search(r"\{[a-z_]+\}", error.message(language) + error.remedy(language))
    return error


# ---------------------------------------------------------------- official formats


@needs_golden
@pytest.mark.parametrize(
    ("name", "kind", "version", "header"),
    [
        ("s1_tiny.ckpt", "s1", "v2", ""),
        ("s2_v2_tiny.pth", "s2", "v2", ""),  # small enough that a rule by size would call it v1
        ("s2_v2Pro_tiny.pth", "s2", "v2Pro", "05"),
    ],
)
def test_official_files_are_known_by_their_content(name, kind, version, header, tmp_path):
    found = read_checkpoint(GOLDEN / name)
    assert (found.kind, found.version, found.report["header"]) == (kind, version, header)
    assert found.config["version"] == version and found.config["model"]
    assert found.report["unexpected"] == [] and found.report["warnings"] == []
    assert all(missing.startswith("enc_q.") for missing in found.report["missing"])
    assert {tensor.dtype.name for tensor in found.tensors.values()} == {"float16"}
    renamed = tmp_path / "called-otherwise.bin"
    renamed.write_bytes((GOLDEN / name).read_bytes())
    assert read_checkpoint(renamed).version == version


@needs_golden
@pytest.mark.parametrize("name", ["s1_tiny.ckpt", "s2_v2_tiny.pth", "s2_v2Pro_tiny.pth"])
def test_numbers_are_those_that_torch_reads(name, tmp_path):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch to compare with")
    import torch

    class HParams:
        pass

    HParams.__module__, HParams.__qualname__ = "utils", "HParams"
    content = bytearray((GOLDEN / name).read_bytes())
    content[:2] = b"PK"
    (tmp_path / "repaired").write_bytes(content)
    with torch.serialization.safe_globals([(HParams, "utils.HParams")]):
        theirs = torch.load(tmp_path / "repaired", weights_only=True)["weight"]
    converted = load_file(convert(read_checkpoint(GOLDEN / name), tmp_path / "ours").weights)
    assert converted.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert np.array_equal(converted[key], tensor.numpy()), key


@pytest.mark.parametrize(
    ("version", "header", "expected"),
    [
        ("v1", "", "v1"),
        ("v1", "00", "v1"),
        ("v2", "", "v2"),
        ("v2", "01", "v2"),
        ("v2Pro", "05", "v2Pro"),
        ("v2Pro", "", "v2Pro"),
        ("v2Pro", "06", "v2ProPlus"),  # reduced: only the header can tell
        ("v2ProPlus", "06", "v2ProPlus"),
        ("v2ProPlus", "", "v2ProPlus"),
    ],
)
def test_every_header_and_version_loads(version, header, expected, tmp_path):
    found = read_checkpoint(forge.write(tmp_path / "x.pth", forge.s2_content(version), header=header))
    assert (found.kind, found.version, found.config["model"]["version"]) == ("s2", expected, expected)
    assert found.report["warnings"] == []


def test_content_counts_when_the_header_says_otherwise(tmp_path):
    found = read_checkpoint(forge.write(tmp_path / "x.pth", forge.s2_content("v2Pro"), header="01"))
    assert found.version == "v2Pro"
    assert found.report["warnings"] == [{"code": "model_header_differs", "measured": {"said": "v2", "found": "v2Pro"}}]


@pytest.mark.parametrize(("symbols", "version"), [(512, "v1"), (732, "v2")])
def test_s1_is_known_by_its_symbols(symbols, version, tmp_path):
    assert read_checkpoint(forge.write(tmp_path / "x.ckpt", forge.s1_content(symbols))).version == version
    strange = forge.write(tmp_path / "y.ckpt", forge.s1_content(600))
    assert refusal(strange).code == "model_symbols_unknown"


def test_an_attribute_bag_and_a_plain_dictionary_are_the_same_configuration(tmp_path):
    plain = forge.s2_content()
    bagged = dict(plain)
    bagged["config"] = forge.HParams(**{key: forge.HParams(**part) for key, part in plain["config"].items()})
    one, other = (read_checkpoint(forge.write(tmp_path / "x.pth", content)) for content in (plain, bagged))
    assert one.config == other.config


def test_paths_in_a_configuration_become_text(tmp_path):
    content = forge.s1_content()
    content["config"]["output_dir"] = forge._Call(forge._Named("pathlib", "PosixPath"), "/", "home", "x")
    assert read_checkpoint(forge.write(tmp_path / "x.ckpt", content)).config["output_dir"] == "//home/x"


def test_the_posterior_encoder_is_kept_where_it_is(tmp_path):
    found = read_checkpoint(forge.write(tmp_path / "x.pth", forge.s2_content(posterior=True)))
    assert "enc_q.pre.weight" in found.tensors and found.report["missing"] == []


def test_a_half_posterior_encoder_is_reported_and_left_out(tmp_path):
    content = forge.s2_content(posterior=True)
    del content["weight"]["enc_q.proj.bias"]
    found = read_checkpoint(forge.write(tmp_path / "x.pth", content))
    assert not any(name.startswith("enc_q.") for name in found.tensors)
    assert [one["code"] for one in found.report["warnings"]] == ["model_training_part_incomplete"]


def test_a_folder_with_its_tokenizer_is_one_model(tmp_path):
    folder = forge.bert_folder(tmp_path / "chinese-roberta")
    found = read_checkpoint(folder / "pytorch_model.bin")
    assert (found.kind, found.version) == ("bert", "")
    assert found.config["vocabulary"] == forge.PIECES
    (folder / "vocab.txt").unlink()
    assert refusal(folder / "pytorch_model.bin").code == "model_vocabulary_missing"
    (folder / "config.json").unlink()
    assert refusal(folder / "pytorch_model.bin").code == "model_config_missing"


def test_old_names_heads_and_formats_of_a_bert_are_understood(tmp_path):
    folder = forge.bert_folder(tmp_path / "bert")
    tensors = forge.zeros(forge.bert_layout(forge.BERT_SIZES).required)
    renames = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    old = {}
    for name, tensor in tensors.items():
        for new, earlier in renames.items():
            name = name.replace(new, earlier)
        old[name] = tensor.astype(np.float32)
    old["cls.predictions.bias"] = np.zeros(8, np.float32)
    found = read_checkpoint(forge.legacy(folder / "pytorch_model.bin", old))
    assert found.tensors.keys() == tensors.keys()
    assert found.report["left_out"] == ["cls.predictions.bias"] and found.report["unexpected"] == []
    assert np.array_equal(found.tensors["bert.embeddings.LayerNorm.bias"], old["bert.embeddings.LayerNorm.beta"])
    save_file(dict(tensors), folder / "model.safetensors")
    assert read_checkpoint(folder / "model.safetensors").tensors.keys() == tensors.keys()


def test_equal_checkpoints_become_equal_bytes(tmp_path):
    made = []
    for name in ("one", "two"):
        path = forge.write(tmp_path / f"{name}.pth", forge.s2_content("v2Pro"), header="05")
        made.append(convert(read_checkpoint(path), tmp_path / name))
    assert made[0].weights.read_bytes() == made[1].weights.read_bytes()
    assert made[0].config.read_bytes() == made[1].config.read_bytes()


# ---------------------------------------------------------------- incomplete or foreign


def test_only_the_training_part_may_be_missing(tmp_path):
    content = forge.s2_content()
    del content["weight"]["dec.cond.bias"]
    error = refusal(forge.write(tmp_path / "x.pth", content))
    assert (error.code, error.measured["count"], error.measured["names"]) == ("model_keys_missing", 1, "dec.cond.bias")


def test_unknown_tensors_are_told_and_left_out(tmp_path):
    content = forge.s2_content()
    content["weight"]["extra.weight"] = np.ones(3, np.float16)
    found = read_checkpoint(forge.write(tmp_path / "x.pth", content))
    assert found.report["unexpected"] == ["extra.weight"] and "extra.weight" not in found.tensors
    assert [one["code"] for one in found.report["warnings"]] == ["model_keys_unexpected"]


def test_sizes_must_be_those_of_the_configuration(tmp_path):
    content = forge.s1_content()
    content["weight"]["model.bert_proj.bias"] = np.zeros(17, np.float16)
    error = refusal(forge.write(tmp_path / "x.ckpt", content))
    assert (error.code, error.measured["found"], error.measured["wanted"]) == ("model_shape_wrong", "[17]", "[16]")
    content["config"]["model"]["n_layer"] = 10**9
    assert refusal(forge.write(tmp_path / "y.ckpt", content)).code == "model_config_incomplete"


def test_numbers_that_are_none_are_refused(tmp_path):
    content = forge.s1_content()
    content["weight"]["model.bert_proj.bias"][3] = np.nan
    error = refusal(forge.write(tmp_path / "x.ckpt", content))
    assert (error.code, error.measured["name"]) == ("model_not_finite", "model.bert_proj.bias")


@pytest.mark.parametrize(("header", "version"), [("", "v3 / v4"), ("02", "v3"), ("04", "v4")])
def test_v3_and_v4_are_recognised_and_not_yet_spoken(header, version, tmp_path):
    content = {"weight": {"cfm.estimator.x": np.zeros(4, np.float16)}, "config": {}, "info": ""}
    error = refusal(forge.write(tmp_path / "x.pth", content, header=header))
    assert (error.code, error.measured["version"]) == ("model_version_not_yet", version)
    lora = {"weight": {"x": np.zeros(4, np.float16)}, "config": {}, "info": "", "lora_rank": 32}
    assert refusal(forge.write(tmp_path / "y.pth", lora, header="03")).code == "model_version_not_yet"


def test_training_states_and_other_models_have_their_own_words(tmp_path):
    state = {"model": forge.zeros({"x": (3,)}), "optimizer": {}, "iteration": 7, "learning_rate": 1e-4}
    assert refusal(forge.write(tmp_path / "G_1.pth", state)).code == "checkpoint_is_training_state"
    assert refusal(forge.write(tmp_path / "x.pth", forge.zeros({"w": (3,)}))).code == "model_kind_unknown"


def test_versions_that_do_not_share_their_tokens_are_no_pair():
    for s1, s2 in (("v1", "v1"), ("v2", "v2"), ("v2", "v2Pro"), ("v2", "v2ProPlus")):
        check_pair(s1, s2)
    for s1, s2 in (("v1", "v2"), ("v2", "v1"), ("v1", "v2Pro")):
        with pytest.raises(InvalidInput) as caught:
            check_pair(s1, s2)
        assert caught.value.code == "model_pair_wrong"
    assert "sv" in helpers_of("v2ProPlus") and "sv" not in helpers_of("v2")


# ---------------------------------------------------------------- damaged or malicious


@pytest.mark.parametrize("name", sorted(forge.malicious(Path("/nowhere"))))
@pytest.mark.parametrize("shape", ["archive", "bare"])
def test_code_is_refused_and_never_runs(name, shape, tmp_path, monkeypatch):
    flag = tmp_path / "it-ran"
    data = forge.malicious(flag)[name]
    path = tmp_path / "evil.pth"
    imported = set(sys.modules)
    if shape == "archive":
        forge.write_raw(path, data, header="05")
    elif data.startswith(b"\x80"):
        path.write_bytes(data + b"\0" * 64)
    else:
        pytest.skip("protocol 0 has no mark to be known by; it is refused as an unknown header")
    error = refusal(path)
    assert error.code == "checkpoint_carries_code" and error.measured["name"]
    assert not flag.exists()
    assert set(sys.modules) == imported  # not even an import


def test_a_bare_pickle_without_mark_is_an_unknown_file(tmp_path):
    path = tmp_path / "evil.pth"
    path.write_bytes(forge.malicious(tmp_path / "flag")["instance"] + b"\0" * 64)
    assert refusal(path).code == "checkpoint_header_unknown"
    assert not (tmp_path / "flag").exists()


def test_short_files_and_unknown_headers(tmp_path):
    (tmp_path / "two.pth").write_bytes(b"05")
    assert refusal(tmp_path / "two.pth").code == "checkpoint_too_short"
    (tmp_path / "none.pth").write_bytes(b"")
    assert refusal(tmp_path / "none.pth").code == "checkpoint_too_short"
    error = refusal(forge.write(tmp_path / "x.pth", forge.s2_content(), header="09"))
    assert (error.code, error.measured["header"]) == ("checkpoint_header_unknown", "30 39")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("header", ["", "05"])
def test_a_truncated_file_is_called_so(share, header, tmp_path):
    whole = forge.write(tmp_path / "x.pth", forge.s2_content("v2Pro"), header=header).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: int(len(whole) * share)])
    assert refusal(tmp_path / "cut.pth").code == "checkpoint_truncated"


def test_a_flipped_byte_never_changes_a_number(tmp_path):
    """Every flip is refused, or lies where the archive keeps nothing that is used (dates, padding)."""
    path = forge.write(tmp_path / "x.ckpt", forge.s1_content())
    whole, expected = path.read_bytes(), read_checkpoint(path)
    places = np.random.default_rng(5).integers(0, len(whole), 150)
    refused = 0
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            found = read_checkpoint(path)
        except VoicedError as error:
            assert error.code in {"checkpoint_damaged", "checkpoint_truncated", "checkpoint_header_unknown"}, error
            refused += 1
            continue
        assert all(np.array_equal(found.tensors[name], expected.tensors[name]) for name in expected.tensors)
        assert found.config == expected.config
    assert refused > 140


def test_bombs_are_refused_before_anything_is_unpacked(tmp_path):
    assert refusal(forge.overlapping_bomb(tmp_path / "x.pth")).code == "checkpoint_bomb"
    packed = forge.write_raw(tmp_path / "y.pth", b"\x80\x02}.", [b"\0" * (64 << 20)], packed=True)
    assert packed.stat().st_size < 1 << 20
    error = refusal(packed)
    assert error.code == "checkpoint_bomb" and error.measured["declared_bytes"] > 64 << 20
    mild = forge.write_raw(tmp_path / "z.pth", b"\x80\x02}.", [np.random.default_rng(1).bytes(5000)], packed=True)
    assert refusal(mild).code == "checkpoint_compressed"


def test_a_configuration_that_grows_when_written_out_is_refused(tmp_path):
    writer = forge._Writer()
    writer.write(forge.s1_content()["weight"])
    grown = bytearray(b"]q\x00")
    for number in range(18):  # each list holds the one before ten times
        grown += b"](" + b"h" + bytes([number]) + (b"h" + bytes([number])) * 9 + b"eq" + bytes([number + 1])
    table = b"}(X\x06\0\0\0weight" + bytes(writer.out[2:]) + b"X\x06\0\0\0config" + b"h\x12" + b"u."
    keep_last = b"0" * 18 + b"0"  # the lists stay in the memo only
    path = forge.write_raw(tmp_path / "x.ckpt", b"\x80\x02" + bytes(grown) + keep_last + table, writer.storages)
    error = refusal(path)
    assert error.code == "model_config_incomplete" and "large" in error.measured["problem"]


def test_a_tensor_cannot_look_outside_its_numbers(tmp_path):
    content = forge.s1_content()
    path = forge.write(tmp_path / "x.ckpt", content)
    writer = forge._Writer()
    writer.write(content)
    from_the_start, from_the_middle = b"K\x00(K\x10t", b"K\x05(K\x10t"  # offset, and a shape of 16
    assert from_the_start in writer.out
    forge.write_raw(path, bytes(writer.out).replace(from_the_start, from_the_middle) + b".", writer.storages)
    error = refusal(path)
    assert error.code == "checkpoint_damaged" and "larger than its storage" in error.measured["problem"]


def test_nonsense_is_damage_not_a_crash(tmp_path):
    rng = np.random.default_rng(3)
    for number in range(60):
        path = forge.write_raw(tmp_path / "x.pth", b"\x80\x02" + rng.bytes(int(rng.integers(1, 200))))
        assert refusal(path).code in {"checkpoint_damaged", "checkpoint_carries_code", "model_kind_unknown"}, number
    for number in range(20):
        (tmp_path / "y.safetensors").write_bytes(rng.bytes(100))
        assert refusal(tmp_path / "y.safetensors").code in {"checkpoint_truncated", "checkpoint_damaged"}
