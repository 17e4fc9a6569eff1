"""Every installed backend runs the same tiny graph, and none accepts a damaged one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
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


USABLE = {name: made for name, made in BACKENDS.items() if made.probe().usable}
GENERAL = {
    name for name, made in USABLE.items() if {"onnx", "torch"} & set(made.formats)
}  # the others know one network
WEIGHTS = np.arange(6, dtype=np.float32).reshape(3, 2)
SHIFT = np.array([0.5, -0.5], np.float32)
COARSE = ("bf16", "gpu", "npu", "cuda", "tensorrt")  # in names of backends that compute in half precision


@pytest.fixture(params=sorted(GENERAL))
def backend(request: pytest.FixtureRequest) -> Backend:
    return USABLE[request.param]


@pytest.fixture
def tiny(backend: Backend, tmp_path: Path) -> Artifact:
    """y = x * weights + shift, rows of any number, as the backend reads it."""
    return _graph(tmp_path / "tiny.onnx") if "onnx" in backend.formats else _module(tmp_path / "tiny.safetensors")


def _module(path: Path) -> Artifact:
    from safetensors.numpy import save_file
    from safetensors.torch import load_file

    torch = pytest.importorskip("torch")
    save_file({"weights": WEIGHTS, "shift": SHIFT}, path)

    class Tiny(torch.nn.Module):  # type: ignore[name-defined,misc]
        input_names, output_names = ("x",), ("y",)

        def __init__(self) -> None:
            super().__init__()
            for name, tensor in load_file(path).items():
                self.register_buffer(name, tensor)

        def forward(self, x):
            return x @ self.weights + self.shift

    return Artifact(path, "torch", hashlib.sha256(path.read_bytes()).hexdigest(), module=Tiny)


def _graph(path: Path) -> Artifact:
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
            numpy_helper.from_array(WEIGHTS, "weights"),
            numpy_helper.from_array(SHIFT, "shift"),
        ],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    path.write_bytes(content)
    return Artifact(path, "onnx", hashlib.sha256(content).hexdigest())


def test_the_default_backend_is_registered() -> None:
    assert "onnxruntime" in BACKENDS


def test_a_usable_backend_names_its_devices(backend: Backend) -> None:
    probe = backend.probe()
    assert probe.devices and probe.version and probe.reason == ""


@pytest.mark.parametrize("name", sorted(BACKENDS.keys() - USABLE.keys()))
def test_a_backend_that_cannot_be_used_says_why_and_refuses(name: str, tmp_path: Path) -> None:
    backend = BACKENDS[name]
    probe = backend.probe()
    missing = ("not installed", "built without", "no TensorRT", "no NVIDIA GPU", "no device with a driver", "no instr")
    assert any(words in probe.reason for words in missing), probe.reason
    artifact = _module(tmp_path / "m") if "torch" in backend.formats else _graph(tmp_path / "g.onnx")
    with pytest.raises(Unavailable):
        backend.load(artifact, SessionOptions())


def test_a_graph_computes_for_every_length(backend: Backend, tiny: Artifact) -> None:
    session = backend.load(tiny, SessionOptions(threads=1))
    assert session.inputs == ("x",) and session.outputs == ("y",)
    for rows in (1, 5, 2):
        x = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
        y = session.run({"x": x})["y"]
        coarse = "f32" not in backend.name and any(part in backend.name for part in COARSE)
        assert y.dtype == np.float32 and np.allclose(y, x @ WEIGHTS + SHIFT, atol=0.1 if coarse else 1e-4)
    session.close()


def test_a_shape_that_comes_again_gives_the_same_numbers(backend: Backend, tiny: Artifact) -> None:
    session = backend.load(tiny, SessionOptions())
    rows = [np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32) for seed in range(6)]
    first = [session.run({"x": x})["y"] for x in rows]
    assert all(np.array_equal(session.run({"x": x})["y"], y) for x, y in zip(rows, first, strict=True))
    memory = session.device_memory()
    assert memory is None or memory > 0
    if backend.formats == ("torch",):
        assert session.recorded_shapes == 1 and session.why_eager == ""
    session.close()


def test_a_module_that_cannot_be_recorded_runs_all_the_same(tmp_path: Path) -> None:
    cuda = USABLE.get("cuda")
    if cuda is None:
        pytest.skip(BACKENDS["cuda"].probe().reason)
    import torch

    class Branches(torch.nn.Module):
        """Asks the card for a number in the middle, which no CUDA graph can hold."""

        input_names, output_names = ("x",), ("y",)

        def forward(self, x):
            return x * 2 if float(x.sum()) > 0 else x * 3

    path = tmp_path / "none"
    path.write_bytes(b"no weights")
    session = cuda.load(Artifact(path, "torch", module=Branches), SessionOptions())
    for sign in (1, -1, 1, -1, 1, -1):
        x = np.full((2, 2), sign, np.float32)
        assert np.array_equal(session.run({"x": x})["y"], x * (2 if sign > 0 else 3))
    assert session.why_eager and session.recorded_shapes == 0


def test_a_result_survives_the_next_run(backend: Backend, tiny: Artifact) -> None:
    session = backend.load(tiny, SessionOptions(threads=1))
    first = session.run({"x": np.ones((4, 3), np.float32)})["y"]
    kept = first.copy()
    session.run({"x": np.zeros((4, 3), np.float32)})
    assert np.array_equal(first, kept)


def test_a_flipped_byte_is_noticed_before_parsing(backend: Backend, tiny: Artifact, tmp_path: Path) -> None:
    content = bytearray(tiny.path.read_bytes())
    content[content.index(np.float32(5).tobytes())] ^= 1  # inside a weight: the graph would still load
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    with pytest.raises(Corrupt, match="artifact_corrupt"):
        backend.load(replace(tiny, path=damaged), SessionOptions())


@pytest.mark.parametrize("content", [b"", b"not a graph at all", b"\x08\x09" * 200], ids=["empty", "text", "noise"])
def test_what_is_no_graph_is_refused(backend: Backend, tmp_path: Path, content: bytes) -> None:
    if "onnx" not in backend.formats:
        pytest.skip("reads no graphs; its modules are made by the engine")
    path = tmp_path / "garbage.onnx"
    path.write_bytes(content)
    with pytest.raises(Corrupt, match="artifact_corrupt"):
        backend.load(Artifact(path, "onnx"), SessionOptions())


def test_a_missing_file_is_refused(backend: Backend, tiny: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="artifact_corrupt"):
        backend.load(replace(tiny, path=tmp_path / "absent"), SessionOptions())


def test_an_unknown_format_is_refused(backend: Backend, tiny: Artifact) -> None:
    with pytest.raises(Unavailable):
        backend.load(replace(tiny, format="abacus"), SessionOptions())


def test_a_device_that_is_not_there_is_refused(backend: Backend, tiny: Artifact) -> None:
    with pytest.raises(Unavailable):
        backend.load(tiny, SessionOptions(device="cuda:77"))


def test_a_closed_session_says_so_and_closes_twice(backend: Backend, tiny: Artifact) -> None:
    session = backend.load(tiny, SessionOptions())
    session.close()
    session.close()
    with pytest.raises(Unavailable, match="session_closed"):
        session.run({"x": np.ones((1, 3), np.float32)})
