"""Dynamic integer arithmetic undone: the same weights, multiplied as floats.

The published graph rounds every activation to eight bits before it multiplies (`DynamicQuantizeLinear`, then
`MatMulInteger` or `ConvInteger` of weights that were stored as eight bits). ONNX Runtime is fast at that on CPUs; other
runtimes are slower at it than at floats, and OpenVINO 2026.4 computes some of these nodes wrongly. In the graphs made
here an activation stays as it is and its scale becomes one; weights stay eight bits in the file, behind a
`DequantizeLinear` that runtimes fold away when they load it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_ONE = "float/one"
_FLOAT, _INT32 = 1, 6  # onnx.TensorProto.FLOAT, .INT32


def undo_quantization(graph: Any) -> int:
    """Rewrite the integer products of `graph` in place; returns how many."""
    import onnx

    signals = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DynamicQuantizeLinear"}
    scales = {node.output[1] for node in graph.node if node.op_type == "DynamicQuantizeLinear"}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {_ONE: onnx.numpy_helper.from_array(np.array(1, np.float32), _ONE)}
    nodes: list[Any] = []
    products = 0
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            continue
        if node.op_type in ("MatMulInteger", "ConvInteger"):
            nodes += _product(node, signals[node.input[0]], constants, made)
            products += 1
            continue
        for index, name in enumerate(node.input):
            if name in scales:
                node.input[index] = _ONE
        nodes.append(node)
    _keep_biases(nodes)
    _replace(graph, nodes, made)
    return products


def _product(node: Any, signal: str, constants: dict[str, Any], made: dict[str, Any]) -> list[Any]:
    """`signal` times the dequantised weights of an integer product; without their scale, which the graph applies."""
    import onnx

    weights, zero = node.input[1], node.input[3]
    floats, ones = f"{weights}/float", f"{weights}/ones"
    is_convolution = node.op_type == "ConvInteger"
    nodes = []
    if ones not in made:
        shape = tuple(constants[zero].dims)
        made[ones] = onnx.numpy_helper.from_array(np.ones(shape, np.float32), ones)
        axis: dict[str, Any] = {"axis": 0 if is_convolution else len(constants[weights].dims) - 1} if shape else {}
        nodes.append(onnx.helper.make_node("DequantizeLinear", [weights, ones, zero], [floats], name=floats, **axis))
    kind = "Conv" if is_convolution else "MatMul"
    product = onnx.helper.make_node(kind, [signal, floats], [node.output[0]], name=node.name)
    product.attribute.extend(node.attribute)
    return [*nodes, product]


def _keep_biases(nodes: list[Any]) -> None:
    """Biases are rounded to the scale of the integers before they are added; here they stay as they are."""
    makers = {name: node for node in nodes for name in node.output}
    for node in nodes:
        if node.op_type != "Cast" or node.attribute[0].i != _INT32 or "bias" not in node.output[0]:
            continue
        rounding = makers.get(node.input[0])
        if rounding is not None and rounding.op_type == "Floor":
            rounding.op_type = "Identity"
            node.attribute[0].i = _FLOAT


def _replace(graph: Any, nodes: list[Any], made: dict[str, Any]) -> None:
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in [*graph.initializer, *made.values()] if tensor.name in used]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(kept)
