"""Every installed backend runs the same tiny graph, and none accepts a damaged one."""

from __future__ import annotations

import hashlib
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from appliance.contracts import Artifact, Backend, SessionOptions
from appliance.errors import Corrupt, Unavailable

onnx = pytest.importorskip("onnx")


def installed_backends() -> dict[str, Backend]:
    """All backends of all installed plugins, whether usable or not."""
    found: dict[str, Backend] = {}
    for entry in entry_points(group="voiced"):
        plugin = entry.load() if entry.name.startswith("backend_") else None
        if plugin is not None:
            plugin.register_backends(register=lambda name, factory: found.__setitem__(name, factory()))
    return found


BACKENDS = installed_backends()


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    made = BACKENDS[request.param]
    probe = made.probe()
    if not probe.usable:
        pytest.skip(probe.reason)
    return made


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """y = x * weights + shift, rows of any number."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["product"]),
            helper.make_node("Add", ["product", "shift"], ["y"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2])],
        [
            numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "weights"),
            numpy_helper.from_array(np.array([0.5, -0.5], np.float32), "shift"),
        ],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    path.write_bytes(content)
    return Artifact(path, "onnx", hashlib.sha256(content).hexdigest())


def test_the_default_backend_is_registered() -> None:
    assert "onnxruntime" in BACKENDS


def test_a_usable_backend_names_its_devices(backend: Backend) -> None:
    probe = backend.probe()
    assert probe.devices and probe.reason == ""
    assert "onnx" in backend.formats


def test_a_graph_computes_for_every_length(backend: Backend, tiny: Artifact) -> None:
    session = backend.load(tiny, SessionOptions(threads=1))
    assert session.inputs == ("x",) and session.outputs == ("y",)
    for rows in (1, 5, 2):
        x = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
        y = session.run({"x": x})["y"]
        expected = x @ np.arange(6, dtype=np.float32).reshape(3, 2) + np.array([0.5, -0.5], np.float32)
        assert y.dtype == np.float32 and np.allclose(y, expected, atol=0.05 if "bf16" in backend.name else 1e-5)
    session.close()


def test_a_result_survives_the_next_run(backend: Backend, tiny: Artifact) -> None:
    session = backend.load(tiny, SessionOptions(threads=1))
    first = session.run({"x": np.ones((4, 3), np.float32)})["y"]
    kept = first.copy()
    session.run({"x": np.zeros((4, 3), np.float32)})
    assert np.array_equal(first, kept)


def test_a_flipped_byte_is_noticed_before_parsing(backend: Backend, tiny: Artifact, tmp_path: Path) -> None:
    content = bytearray(tiny.path.read_bytes())
    content[content.index(np.float32(5).tobytes())] ^= 1  # inside a weight: the graph would still load
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(content)
    with pytest.raises(Corrupt, match="artifact_corrupt"):
        backend.load(Artifact(damaged, "onnx", tiny.sha256), SessionOptions())


@pytest.mark.parametrize("content", [b"", b"not a graph at all", b"\x08\x09" * 200], ids=["empty", "text", "noise"])
def test_what_is_no_graph_is_refused(backend: Backend, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.onnx"
    path.write_bytes(content)
    with pytest.raises(Corrupt, match="artifact_corrupt"):
        backend.load(Artifact(path, "onnx"), SessionOptions())


def test_a_missing_file_is_refused(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="artifact_corrupt"):
        backend.load(Artifact(tmp_path / "absent.onnx", "onnx"), SessionOptions())


def test_an_unknown_format_is_refused(backend: Backend, tiny: Artifact) -> None:
    with pytest.raises(Unavailable):
        backend.load(Artifact(tiny.path, "abacus", tiny.sha256), SessionOptions())


def test_a_closed_session_says_so_and_closes_twice(backend: Backend, tiny: Artifact) -> None:
    session = backend.load(tiny, SessionOptions())
    session.close()
    session.close()
    with pytest.raises(Unavailable, match="session_closed"):
        session.run({"x": np.ones((1, 3), np.float32)})
