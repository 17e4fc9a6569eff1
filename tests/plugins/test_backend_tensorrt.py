"""Plans of TensorRT: which folder they lie in, and that a damaged or half written one is not used."""

from __future__ import annotations

import pytest
from appliance_plugins.backend_tensorrt.plans import plan_folder, prepare, seal


@pytest.fixture
def folder(tmp_path):
    return plan_folder(tmp_path, "NVIDIA Orin (nvgpu)", "10.3.0", "ab" * 32)


def fill(folder):
    assert prepare(folder) == ""
    (folder / "subgraph_0_sm87.engine").write_bytes(b"a plan" * 100)
    (folder / "subgraph_0_sm87.profile").write_bytes(b"shapes")
    seal(folder)


def test_another_card_version_or_graph_has_another_folder(tmp_path, folder):
    others = [("NVIDIA L4", "10.3.0", "ab" * 32), ("NVIDIA Orin (nvgpu)", "10.4.0", "ab" * 32)]
    others.append(("NVIDIA Orin (nvgpu)", "10.3.0", "cd" * 32))
    folders = {folder, *(plan_folder(tmp_path, *other) for other in others)}
    assert len(folders) == 4 and all(one.parent == tmp_path / "tensorrt" for one in folders)
    assert folder.name.startswith("NVIDIA-Orin-nvgpu-")


def test_what_was_sealed_is_used_again(folder):
    fill(folder)
    assert prepare(folder) == ""
    assert (folder / "subgraph_0_sm87.engine").read_bytes() == b"a plan" * 100


@pytest.mark.parametrize("harm", ["flip", "cut", "add", "remove", "unsealed", "list"])
def test_what_is_not_as_written_is_thrown_away_with_a_reason(folder, harm):
    fill(folder)
    plan = folder / "subgraph_0_sm87.engine"
    if harm == "flip":
        plan.write_bytes(b"b plan" + b"a plan" * 99)
    elif harm == "cut":
        plan.write_bytes(b"a plan")
    elif harm == "add":
        (folder / "foreign.engine").write_bytes(b"from elsewhere")
    elif harm == "remove":
        (folder / "subgraph_0_sm87.profile").unlink()
    elif harm == "unsealed":
        (folder / "digests.json").unlink()
    else:
        (folder / "digests.json").write_text("[")
    assert prepare(folder) != ""
    assert folder.is_dir() and not list(folder.iterdir())
