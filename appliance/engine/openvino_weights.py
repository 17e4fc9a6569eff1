"""Matrices of an OpenVINO graph in 8 bits: integers times one scale per output, which the runtime multiplies as such.

Symmetric rounding per row of a weight W (outputs, inputs): q = round(W / s), s = max|W| / 127. OpenVINO recognises
constant -> convert -> multiply in front of a product as compressed weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1 << 14  # numbers; smaller matrices cost no time


def compress(model: Any) -> int:
    """Rewrite all large constant matrices that are multiplied, in place; how many they were."""
    from openvino import opset13 as ops

    count = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        weights = _constant(node.input_value(1).get_node())
        if weights is None or weights.ndim != 2 or weights.size < SMALLEST:
            continue
        outputs = 0 if node.get_attributes()["transpose_b"] else 1
        whole, scale = _rounded(weights, axis=1 - outputs)
        product = ops.multiply(ops.convert(ops.constant(whole), "f32"), ops.constant(scale))
        node.input(1).replace_source_output(product.output(0))
        count += 1
    return count


def _constant(node: Any) -> NDArray[np.float32] | None:
    if node.get_type_name() != "Constant":
        return None
    data = np.array(node.data)
    return data if data.dtype == np.float32 else None


def _rounded(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    scale = np.maximum(np.abs(weights).max(axis=axis, keepdims=True), 1e-12) / 127.0
    return np.clip(np.rint(weights / scale), -127, 127).astype(np.int8), scale.astype(np.float32)
