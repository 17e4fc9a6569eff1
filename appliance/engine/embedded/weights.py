"""Read the twin's weights back from the exported int8 graph. The only file that knows the graph's tensor names.

The export folded weight norms, quantised matrices to 8 bits and renamed some of them after graph nodes, but the nodes
keep the paths of the original modules: a weight is found through the node that consumes it, its scale through the
multiplication that undoes the quantisation. Everything the twin needs is in the graph, so the load is strict. What the
original network has and the export dropped (the unused BERT pooler, instance-norm affines that are ones and zeros) the
twin does not have either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliance.engine.embedded.network import Network
from appliance.errors import Corrupt

Array = NDArray[np.float32]

# Twin name -> name in the graph; the first match wins.
RENAMES = (
    ("bert.layer.", "encoder.bert.encoder.albert_layer_groups.0.albert_layers.0."),
    ("bert.embedding_hidden_mapping_in.", "encoder.bert.encoder.embedding_hidden_mapping_in."),
    ("bert.", "encoder.bert.embeddings."),
    ("predictor.duration_proj.", "encoder.predictor.duration_proj.linear_layer."),
    ("decoder.", "decoder.decoder."),
    ("", "encoder."),
)
# These modules were called directly, so their nodes lack the parent's part of the path.
SHORT_PATHS = ("predictor.F0.", "predictor.N.", "predictor.shared.")
PRODUCTS = frozenset({"MatMul", "MatMulInteger", "Conv", "ConvInteger", "ConvTranspose"})
LSTM_GATES = (0, 2, 3, 1)  # the graph orders input, output, forget, cell; PyTorch input, forget, cell, output


def graph_name(name: str) -> str:
    """The graph's name of a parameter, e.g. `decoder.F0_conv.bias` -> `decoder.decoder.F0_conv.bias`."""
    prefix, replacement = next(row for row in RENAMES if name.startswith(row[0]))
    return replacement + name[len(prefix) :]


def adaptable_names(network: Network) -> list[str]:
    """Twin names of the biases that a clone adapts: every AdaIN projection of the decoder, in module order."""
    return [name for name, _ in network.named_parameters() if name.startswith("decoder.") and name.endswith(".fc.bias")]


def load_network(model: bytes) -> Network:
    """The twin with the weights of the published graph, frozen, for evaluation. Raises Corrupt for another graph."""
    network = Network().eval().requires_grad_(False)
    network.load_state_dict(read_weights(model, network.state_dict()), strict=True)
    return network


def read_weights(model: bytes, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A float32 tensor for each name and shape in `wanted`."""
    graph = _Graph(model)
    state: dict[str, Tensor] = {}
    for name, like in wanted.items():
        try:
            value = graph.parameter(name, tuple(like.shape))
        except (KeyError, StopIteration, IndexError, ValueError) as error:
            raise Corrupt("model_tensor_missing", tensor=name) from error
        state[name] = torch.from_numpy(np.array(value, dtype=np.float32, order="C"))
    return state


class _Graph:
    """Initialisers, nodes by path, and who consumes and produces what."""

    def __init__(self, model: bytes) -> None:
        import onnx

        graph = onnx.load_model_from_string(model).graph
        self.values: dict[str, NDArray[Any]] = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self.consumers: dict[str, list[Any]] = {}
        self.producers: dict[str, Any] = {}
        self.weighted: dict[str, Any] = {}  # path of a module -> the node that holds its weight
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
            for name in node.output:
                self.producers[name] = node
            if node.op_type in PRODUCTS or node.op_type == "DynamicQuantizeLSTM":
                self.weighted.setdefault(node.name.rsplit("/", 1)[0], node)

    def parameter(self, name: str, shape: tuple[int, ...]) -> Array:
        module, _, leaf = name.rpartition(".")
        stored = graph_name(name)
        if re.fullmatch(r"(weight|bias)_[ih]h_l0(_reverse)?", leaf):
            value = self._recurrent(self.weighted[node_path(module)], leaf)
        elif stored in self.values:
            value = self.values[stored]
        elif "embeddings." in name or name.endswith("embedding.weight"):
            value = self._table(stored + "_quantized")
        else:
            value = self._product(self.weighted[node_path(module)])
        if value.shape != shape:
            raise ValueError(f"{name}: {value.shape} is not {shape}")
        return value

    def _product(self, node: Any) -> Array:
        """The dequantised second operand of a matrix product (transposed: the graph multiplies from the right) or of a
        convolution."""
        weight = self.values[node.input[1]]
        is_matrix = node.op_type.startswith("MatMul")
        if node.op_type.endswith("Integer"):
            zero = self.values[node.input[3]] if len(node.input) > 3 else np.zeros((), weight.dtype)
            weight = _dequantise(weight, self._scale_after(node), zero, axis=1 if is_matrix else 0)
        return weight.T if is_matrix else weight

    def _scale_after(self, node: Any) -> NDArray[Any]:
        """Follow the integer result to where it is multiplied by (activation scale x weight scale); take the latter."""
        while node.op_type != "Mul":
            output = node.output[0]
            node = next(n for n in self.consumers[output] if n.op_type in {"Add", "Cast", "Mul"})
        factors = [self.producers[name] for name in node.input if name != output]
        return next(self.values[name] for name in factors[0].input if name in self.values)

    def _table(self, stored: str) -> Array:
        """An embedding table: gathered first, dequantised after, or the other way round."""
        node = self.consumers[stored][0]
        if node.op_type == "Gather":
            node = next(n for n in self.consumers[node.output[0]] if n.op_type == "DequantizeLinear")
        return _dequantise(self.values[stored], self.values[node.input[1]], self.values[node.input[2]], axis=0)

    def _recurrent(self, node: Any, leaf: str) -> Array:
        """One direction of one LSTM tensor, its gates reordered."""
        direction = int(leaf.endswith("_reverse"))
        if leaf.startswith("bias"):
            both = np.split(self.values[node.input[3]][direction], 2)
            stacked = both[0 if "_ih_" in leaf else 1]
        else:
            slot, scale = (1, 8) if "_ih_" in leaf else (2, 10)
            weight, scales, zeros = (self.values[node.input[i]] for i in (slot, scale, scale + 1))
            stacked = _dequantise(weight[direction], scales[direction], zeros[direction], axis=1).T
        gates = np.split(stacked, 4)
        return np.concatenate([gates[i] for i in LSTM_GATES]).astype(np.float32)


def node_path(module: str) -> str:
    """`decoder.decode.0.conv1` -> `/decoder/decoder/decode.0/conv1`; members of a sequence repeat their parent."""
    short = next((p for p in SHORT_PATHS if (module + ".").startswith(p)), None)
    name = "encoder." + module.removeprefix("predictor.") if short else graph_name(module + ".").rstrip(".")
    name = name.replace("predictor.F0_proj", "F0_proj").replace("predictor.N_proj", "N_proj")
    path = re.sub(r"\.(?!\d)", "/", name)
    return "/" + re.sub(r"/(cnn|asr_res)((?:\.\d+)*)(\.\d+)$", r"/\1\2/\1\2\3", path)


def _dequantise(weight: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], axis: int) -> Array:
    """(weight - zero) x scale; scale and zero are scalars or run along `axis`."""

    def along(values: NDArray[Any]) -> NDArray[np.float32]:
        shape = [1] * weight.ndim
        if values.size > 1:
            shape[axis] = values.size
        return values.astype(np.float32).reshape(shape)

    return (weight.astype(np.float32) - along(zero)) * along(scale)
