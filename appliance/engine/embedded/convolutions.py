"""Integer convolutions rewritten as matrix products: the same integers in about half the time.

ONNX Runtime computes `ConvInteger` by gathering columns on one thread and multiplying matrices the wrong way round for
its packed kernels. Here each stride-1 convolution becomes explicit: transpose to (1, T, C), pad with the zero point,
put the k shifted copies side by side (1, T, k C), one `MatMulInteger` with constant weights (k C, C'), transpose back.
Sums of the same integer products in another order are the same integers, so the sound does not change by one bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_END = np.iinfo(np.int64).max
_SIGN = 128  # uint8 weights minus 128 are int8 weights; the zero point moves along


@dataclass
class _Rewriter:
    """Collects the nodes and constants that replace convolutions; constants of equal value are shared."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    def constant(self, name: str, values: NDArray[Any]) -> str:
        import onnx

        if name not in self.constants:
            self.constants[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def integers(self, *values: int) -> str:
        return self.constant("int64_" + "_".join(map(str, values)), np.array(values, np.int64))

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        import onnx

        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output


def flatten_convolutions(graph: Any) -> int:
    """Rewrite every stride-1 `ConvInteger` of `graph` with constant weights in place; returns how many."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    rewriter = _Rewriter()
    rewritten = 0
    for node in graph.node:
        if node.op_type == "ConvInteger" and _can_flatten(node, weights):
            _flatten(node, weights, rewriter)
            rewritten += 1
        else:
            rewriter.nodes.append(node)
    nodes = list(rewriter.nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    needed = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *rewriter.constants.values()])
    return rewritten


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _can_flatten(node: Any, weights: dict[str, Any]) -> bool:
    has = _attributes(node)
    is_plain = has.get("strides", [1]) == [1] and has.get("group", 1) == 1 and len(has["kernel_shape"]) == 1
    return is_plain and node.input[1] in weights and node.input[3] in weights


def _flatten(node: Any, weights: dict[str, Any], rewriter: _Rewriter) -> None:
    has = _attributes(node)
    (taps,), (dilation,) = has["kernel_shape"], has.get("dilations", [1])
    before, after = has.get("pads", [0, 0])
    signal, zero_point = node.input[0], node.input[2]
    matrix, matrix_zero = _matrix(node, weights)
    prefix = f"{node.output[0]}/flat/"
    columns = rewriter.add("Transpose", [signal], prefix + "time_first", perm=[0, 2, 1])
    if before or after:
        pads = rewriter.integers(0, before, 0, 0, after, 0)
        columns = rewriter.add("Pad", [columns, pads, zero_point], prefix + "padded")
    if taps > 1:
        columns = rewriter.add("Concat", _shifts(columns, taps, dilation, rewriter, prefix), prefix + "columns", axis=2)
    operands = [
        columns,
        rewriter.constant(prefix + "weights", matrix),
        zero_point,
        rewriter.constant(prefix + "weights_zero_point", matrix_zero),
    ]
    product = rewriter.add("MatMulInteger", operands, prefix + "product")
    rewriter.add("Transpose", [product], node.output[0], perm=[0, 2, 1])


def _shifts(padded: str, taps: int, dilation: int, rewriter: _Rewriter, prefix: str) -> list[str]:
    """The k windows (1, T, C) of a padded signal that its output frames see, tap by tap."""
    shifts = []
    for tap in range(taps):
        left = (taps - 1 - tap) * dilation
        borders = [rewriter.integers(tap * dilation), rewriter.integers(-left if left else _END), rewriter.integers(1)]
        shifts.append(rewriter.add("Slice", [padded, *borders], f"{prefix}tap_{tap}"))
    return shifts


def _matrix(node: Any, weights: dict[str, Any]) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Weights (C', C, k) -> int8 (k C, C') and their zero point: signed weights meet the fast kernels of every CPU."""
    import onnx

    values = onnx.numpy_helper.to_array(weights[node.input[1]])
    zero = onnx.numpy_helper.to_array(weights[node.input[3]])
    if values.dtype == np.uint8:
        values, zero = (values.astype(np.int16) - _SIGN), (zero.astype(np.int16) - _SIGN)
    outputs, inputs, taps = values.shape
    matrix = values.transpose(2, 1, 0).reshape(taps * inputs, outputs)
    return matrix.astype(np.int8), zero.astype(np.int8)
