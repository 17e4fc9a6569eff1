"""The generator's shortcuts compute what the published operators compute."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from appliance.contracts import EngineHost
from appliance.engine.embedded import assets, graphs
from appliance.engine.embedded.shortcuts import expand_snakes

from .conftest import needs_weights

node = onnx.helper.make_node
FLOAT = onnx.TensorProto.FLOAT


def _run(graph: onnx.GraphProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return found


def test_the_square_of_a_sine_without_a_sine() -> None:
    alpha = np.array([0.2, 1.0, 3.0, 20.0], np.float32).reshape(1, 4, 1)
    constants = {"alpha": alpha, "two": np.float32(2.0)}
    graph = onnx.helper.make_graph(
        [node("Mul", ["alpha", "x"], ["angle"]), node("Sin", ["angle"], ["sine"]), node("Pow", ["sine", "two"], ["y"])],
        "snake",
        [onnx.helper.make_tensor_value_info("x", FLOAT, [1, 4, "n"])],
        [onnx.helper.make_tensor_value_info("y", FLOAT, [1, 4, "n"])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    x = np.linspace(-30, 30, 4 * 50_001, dtype=np.float32).reshape(1, 4, -1)
    assert expand_snakes(graph) == 1
    assert "Sin" not in {one.op_type for one in graph.node}
    ours, exact = _run(graph, x), np.sin(alpha.astype(np.float64) * x) ** 2
    assert np.abs(ours - exact)[:, :3].max() < 5e-5
    assert np.abs(ours - exact).max() < 2e-4  # 600 radians: a float knows them to 3e-5


@needs_weights
def test_all_products_and_snakes_of_the_generator_are_shortened(host: EngineHost) -> None:
    prepared = graphs.prepare_graphs(assets.read_model, assets.MODEL_SHA256, host.cache_dir)
    nodes = onnx.load(prepared.generator[0].path).graph.node
    kinds = [one.op_type for one in nodes]
    assert kinds.count("Round") == 48
    assert kinds.count("Sin") == 2  # of the phase of the inverse transform
    users = {name: one.op_type for one in nodes for name in one.input}
    products = [one for one in nodes if one.op_type == "MatMulInteger"]
    assert len(products) == 97
    assert {users[one.output[0]] for one in products} == {"Cast"}
