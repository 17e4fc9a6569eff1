"""Files for GPT-SoVITS itself: read back to equal numbers by our importer and by torch, laid out like official ones."""

from __future__ import annotations

import io
import json
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file  # noqa: E402

from appliance.engine.gpt_sovits.checkpoint import read_checkpoint  # noqa: E402
from appliance.engine.gpt_sovits.official import export_pair  # noqa: E402
from appliance.engine.gpt_sovits.pickle_writing import write_archive  # noqa: E402
from appliance.engine.gpt_sovits.training import rehearsal  # noqa: E402
from appliance.errors import Corrupt  # noqa: E402

TRAINING = {"s1_epochs": 15, "s2_epochs": 8, "s2_steps": 1234}


class HParams:
    """As upstream's loader has it: everything is an attribute."""


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that official files name."""
    module = types.ModuleType("utils")
    module.HParams = HParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "utils", module)
    monkeypatch.setattr(HParams, "__module__", "utils")


def as_torch_reads(path: Path) -> Any:
    content = path.read_bytes()
    return torch.load(io.BytesIO(b"PK" + content[2:]), weights_only=False)


@pytest.mark.parametrize(("version", "header"), [("v2", b"PK"), ("v2Pro", b"05"), ("v2ProPlus", b"06")])
@pytest.mark.usefixtures("upstream")
def test_a_voice_leaves_and_comes_back_unchanged(tmp_path: Path, version: str, header: bytes) -> None:
    files = rehearsal.make_base(tmp_path, version, "tiny")
    made = export_pair("anna", files, TRAINING, tmp_path)
    assert (made.s1.name, made.s2.name) == ("anna-e15.ckpt", "anna_e8_s1234.pth")
    assert (made.s1.read_bytes()[:2], made.s2.read_bytes()[:2]) == (b"PK", header)
    for role, path in (("s1", made.s1), ("s2", made.s2)):
        wanted = {key: one for key, one in load_file(files[role]).items() if not key.startswith("enc_q")}
        found = read_checkpoint(path)
        assert (found.kind, found.version) == (role, "v2" if role == "s1" else version)
        assert found.tensors.keys() == wanted.keys()
        assert all(np.array_equal(found.tensors[key], wanted[key]) for key in wanted)
        content = as_torch_reads(path)
        assert list(content) == ["weight", "config", "info"]
        assert all(content["weight"][key].dtype == torch.float16 for key in wanted)
        assert all(np.array_equal(content["weight"][key].numpy(), wanted[key]) for key in wanted)
        config = json.loads(files[f"{role}_config"].read_text())
        if role == "s1":
            assert (content["config"], content["info"]) == (config, "GPT-e15")
        else:
            assert content["info"] == "8epoch_1234iteration"
            assert isinstance(content["config"], HParams)
            assert vars(content["config"].model) == config["model"]  # type: ignore[attr-defined]


def test_the_archive_is_laid_out_as_torch_lays_it_out(tmp_path: Path) -> None:
    numbers = {"a": np.arange(7, dtype=np.float16), "b": np.zeros((2, 3), np.float32), "c": np.array(2.0, np.float16)}
    content = {"weight": numbers, "x": [1, 2.5, None, True, "ü", (1 << 40, -5)]}
    write_archive(tmp_path / "ours.pth", content)
    torch.save({"weight": {key: torch.from_numpy(one.copy()) for key, one in numbers.items()}}, tmp_path / "theirs.pth")
    listed = {}
    for name in ("ours", "theirs"):
        with zipfile.ZipFile(tmp_path / f"{name}.pth") as archive, (tmp_path / f"{name}.pth").open("rb") as file:
            listed[name] = {entry.filename.removeprefix(name) for entry in archive.infolist()}
            for entry in archive.infolist():
                file.seek(entry.header_offset + 26)
                begin = entry.header_offset + 30 + sum(np.frombuffer(file.read(4), "<u2").tolist())
                assert begin % 64 == 0 or "/data/" not in entry.filename
    assert listed["ours"] == listed["theirs"]
    back = torch.load(tmp_path / "ours.pth", weights_only=True)
    assert back["x"] == content["x"]
    assert all(np.array_equal(back["weight"][key].numpy(), numbers[key]) for key in numbers)


def test_numbers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    files = rehearsal.make_base(tmp_path, "v2", "tiny")
    weights = {key: one.astype(np.float32) for key, one in load_file(files["s1"]).items()}
    weights["model.bert_proj.bias"][0] = 1e6
    save_file(weights, files["s1"])
    with pytest.raises(Corrupt) as wrong:
        export_pair("anna", files, {}, tmp_path)
    assert "bert_proj.bias" in wrong.value.measured["reason"]
    with pytest.raises(TypeError):
        write_archive(tmp_path / "odd.pth", {"x": {1, 2}})
