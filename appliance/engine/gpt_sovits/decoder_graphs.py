"""s1 as two graphs for runtimes: `prefill` reads a prompt, `step` gives one more row of logits for up to b answers.

Both are written out from the parameters of the one network (`t2s.TextToSemantic`), node by node, because what makes a
step fast is not in the network's own terms: keys and values grow in place in memory that the caller owns, and weights
may be 8-bit numbers. Letters as in `t2s`: b items, x phones, y speech tokens, n = x + y, d width, h heads, v
vocabulary; c is the capacity of a cache.

    prefill   phones (1, x) i64, bert (1, x, 1024), tokens (1, y) i64, mask (1, 1, n, n) added to the scores
              -> logits (1, 1, v), keys_0 (1, h, n, d / h), values_0, keys_1, …
    step      tokens (b, 1) i64, positions (b, 1) i64, rows (b,) i32 before this step, total () i32 = max rows + 1,
              keys_0 (b, h, c, d / h), values_0, …
              -> logits (b, 1, v), grown_keys_0, grown_values_0, … to be bound to the memory of the inputs

`prefill` in floats has operators of plain ONNX only. `step` has com.microsoft ones: GroupQueryAttention, whose cache is
shared, and MatMulNBits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from appliance.engine.gpt_sovits.t2s import BERT_WIDTH, Block, Embedding, Position, TextToSemantic

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 10
CONTRIB = "com.microsoft"
GROUP = 64  # weights that share one scale; with 128 ONNX Runtime computes a row alone otherwise than among others
LONGEST = 4096  # positions that the tables of the graphs know
EPSILON = 1e-5  # of the layer norms

Array = NDArray[Any]


def prefill_graph(network: TextToSemantic, bits: int = 32) -> onnx.ModelProto:
    """The graph that reads a prompt, with weights of 32 or 8 `bits`."""
    return _Prefill(network, bits).build("prefill")


def step_graph(network: TextToSemantic, bits: int = 32) -> onnx.ModelProto:
    """The graph of one step of decoding, with weights of 32 or 8 `bits`."""
    return _Step(network, bits).build("step")


def quantize(weight: Array, group: int = GROUP) -> tuple[Array, Array]:
    """(outputs, inputs) -> 8-bit numbers (outputs, groups, group) around 128, scales (outputs * groups,).

    Symmetric: the largest number of a group becomes 127. The last group is filled up with zeros.
    """
    outputs, inputs = weight.shape
    groups = -(-inputs // group)
    grouped = np.zeros((outputs, groups * group), np.float32)
    grouped[:, :inputs] = weight
    grouped = grouped.reshape(outputs, groups, group)
    scales = np.maximum(np.abs(grouped).max(axis=2, keepdims=True) / 127.0, np.finfo(np.float32).tiny)
    numbers = np.rint(grouped / scales) + 128.0
    return numbers.astype(np.uint8), scales.astype(np.float32).reshape(-1)


@dataclass
class _Builder:
    """Collects nodes and weights; what both graphs have in common."""

    network: TextToSemantic
    bits: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def build(self, name: str) -> onnx.ModelProto:
        from onnx import helper

        self.write()
        graph = helper.make_graph(self.nodes, f"gpt_sovits_s1_{name}", self.inputs, self.outputs, self.weights)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="voiced")

    def write(self) -> None:
        raise NotImplementedError

    @property
    def head_size(self) -> int:
        return self.network.config.width // self.network.config.heads

    def input(self, name: str, kind: str, *shape: int | str) -> None:
        self.inputs.append(_value(name, kind, shape))

    def output(self, name: str, kind: str, *shape: int | str) -> None:
        self.outputs.append(_value(name, kind, shape))

    def weight(self, name: str, values: Array) -> str:
        """Weights of official files are half floats: they are stored as such where that loses nothing."""
        from onnx import numpy_helper

        values = np.ascontiguousarray(values)
        if values.dtype != np.float32 or values.size < LONGEST or not is_half(values):
            self.weights.append(numpy_helper.from_array(values, name))
            return name
        self.weights.append(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        return self.node("Cast", [f"{name}.half"], name, to=1)

    def node(self, kind: str, inputs: list[str], output: str | list[str], **attributes: Any) -> str:
        from onnx import helper

        outputs = [output] if isinstance(output, str) else output
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def linear(self, x: str, name: str, weight: torch.Tensor, bias: torch.Tensor | None) -> str:
        """x (…, inputs) -> (…, outputs). The weights are large numbers of bytes; the sums are in floats."""
        matrix = weight.numpy()
        if self.bits == 8:
            numbers, scales = quantize(matrix)
            packed = [self.weight(f"{name}.numbers", numbers), self.weight(f"{name}.scales", scales)]
            sizes = {"K": matrix.shape[1], "N": matrix.shape[0], "bits": 8, "block_size": GROUP, "accuracy_level": 4}
            product = self.node("MatMulNBits", [x, *packed], f"{name}.product", domain=CONTRIB, **sizes)
        else:
            product = self.node("MatMul", [x, self.weight(f"{name}.weight", matrix.T)], f"{name}.product")
        if bias is None:
            return product
        return self.node("Add", [product, self.weight(f"{name}.bias", bias.numpy())], f"{name}.sum")

    def norm(self, x: str, name: str, module: torch.nn.LayerNorm) -> str:
        gain, bias = (self.weight(f"{name}.{key}", getattr(module, key).numpy()) for key in ("weight", "bias"))
        return self.node("LayerNormalization", [x, gain, bias], f"{name}.out", axis=-1, epsilon=EPSILON)

    def positions(self, name: str, module: Position) -> str:
        """The table (LONGEST, d) of what a position adds."""
        table = module(torch.zeros(1, LONGEST, self.network.config.width))[0]
        return self.weight(f"{name}.table", table.numpy())

    def blocks(self, x: str) -> str:
        """All layers on x (b, t, d)."""
        for index, layer in enumerate(self.network.h.layers):
            block = cast("Block", layer)
            at = f"layers.{index}"
            attention = block.self_attn
            projected = self.linear(x, f"{at}.in_proj", attention.in_proj_weight, attention.in_proj_bias)
            mixed = self.attend(projected, index)
            mixed = self.linear(mixed, f"{at}.out_proj", attention.out_proj.weight, attention.out_proj.bias)
            x = self.needed(x, index)
            x = self.norm(self.node("Add", [x, mixed], f"{at}.mixed"), f"{at}.norm1", block.norm1)
            inner = self.node(
                "Relu", [self.linear(x, f"{at}.linear1", block.linear1.weight, block.linear1.bias)], f"{at}.relu"
            )
            inner = self.linear(inner, f"{at}.linear2", block.linear2.weight, block.linear2.bias)
            x = self.norm(self.node("Add", [x, inner], f"{at}.fed"), f"{at}.norm2", block.norm2)
        return x

    def attend(self, projected: str, layer: int) -> str:
        """Queries, keys and values side by side (b, t, 3 d) -> (b, t, d), of the rows that are `needed`."""
        raise NotImplementedError

    def needed(self, x: str, layer: int) -> str:
        """The rows of x (b, t, d) that what follows the attention of a layer is computed for."""
        return x


class _Step(_Builder):
    """One row of each of b answers, on the caches of all rows before."""

    def write(self) -> None:
        network = self.network
        for name, kind, shape in (
            ("tokens", "INT64", ("b", 1)),
            ("positions", "INT64", ("b", 1)),
            ("rows", "INT32", ("b",)),
            ("total", "INT32", ()),
        ):
            self.input(name, kind, *shape)
        self.output("logits", "FLOAT", "b", 1, network.config.vocabulary)
        table = self.weight("audio.embedding", network.ar_audio_embedding.word_embeddings.weight.numpy())
        embedded = self.node("Gather", [table, "tokens"], "audio.embedded")
        placed = self.node("Gather", [self.positions("audio", network.ar_audio_position), "positions"], "audio.placed")
        x = self.blocks(self.node("Add", [embedded, placed], "audio.x"))
        self.node("Identity", [self.linear(x, "predict", network.ar_predict_layer.weight, None)], "logits")

    def attend(self, projected: str, layer: int) -> str:
        heads = self.network.config.heads
        stored, grown = [f"keys_{layer}", f"values_{layer}"], [f"grown_keys_{layer}", f"grown_values_{layer}"]
        for name in stored:
            self.input(name, "FLOAT", "b", heads, "c", self.head_size)
        for name in grown:
            self.output(name, "FLOAT", "b", heads, "c", self.head_size)
        inputs = [projected, "", "", *stored, "rows", "total"]
        outputs = [f"layers.{layer}.attended", *grown]
        return self.node("GroupQueryAttention", inputs, outputs, domain=CONTRIB, num_heads=heads, kv_num_heads=heads)


class _Prefill(_Builder):
    """All rows of one prompt."""

    def write(self) -> None:
        network, config = self.network, self.network.config
        self.input("phones", "INT64", 1, "x")
        self.input("bert", "FLOAT", 1, "x", BERT_WIDTH)
        self.input("tokens", "INT64", 1, "y")
        self.input("mask", "FLOAT", 1, 1, "n", "n")
        self.output("logits", "FLOAT", 1, 1, config.vocabulary)
        features = self.linear("bert", "bert_proj", network.bert_proj.weight, network.bert_proj.bias)
        text = self._embed("text", "phones", network.ar_text_embedding, network.ar_text_position)
        audio = self._embed("audio", "tokens", network.ar_audio_embedding, network.ar_audio_position)
        self.weight("heads", np.array([0, 0, 3, config.heads, self.head_size], np.int64))
        self.weight("joined", np.array([0, 0, config.width], np.int64))
        self.weight("scale", np.array(1.0 / math.sqrt(self.head_size), np.float32))
        x = self.node("Concat", [self.node("Add", [text, features], "text.x"), audio], "x", axis=1)
        last = self.blocks(x)
        self.node("Identity", [self.linear(last, "predict", network.ar_predict_layer.weight, None)], "logits")

    def _embed(self, name: str, ids: str, embedding: Embedding, position: Position) -> str:
        table = self.weight(f"{name}.embedding", embedding.word_embeddings.weight.numpy())
        embedded = self.node("Gather", [table, ids], f"{name}.embedded")
        places = self.positions(name, position)
        for key, value in (("zero", 0), ("one", 1)):
            self.weight(f"{name}.{key}", np.array([value], np.int64))
        count = self.node("Gather", [self.node("Shape", [ids], f"{name}.shape"), f"{name}.one"], f"{name}.count")
        placed = self.node("Slice", [places, f"{name}.zero", count, f"{name}.zero"], f"{name}.places")
        return self.node("Add", [embedded, placed], f"{name}.placed")

    def _last_row(self, x: str, axis: int) -> str:
        values = {"last.start": -1, "last.end": np.iinfo(np.int64).max, f"last.axis_{axis}": axis}
        known = {weight.name for weight in self.weights}
        for name in values.keys() - known:
            self.weight(name, np.array([values[name]], np.int64))
        return self.node("Slice", [x, *values], f"{x}.last")

    def _is_last(self, layer: int) -> bool:
        """Of the last layer only keys and values are wanted, and what the logits after the last row need."""
        return layer == self.network.config.layers - 1

    def needed(self, x: str, layer: int) -> str:
        return self._last_row(x, 1) if self._is_last(layer) else x

    def attend(self, projected: str, layer: int) -> str:
        at, heads = f"layers.{layer}", self.network.config.heads
        split = self.node("Reshape", [projected, "heads"], f"{at}.split")  # (1, n, 3, h, d / h)
        turned = self.node("Transpose", [split], f"{at}.turned", perm=[2, 0, 3, 1, 4])
        parts = [f"{at}.{part}" for part in ("query", "key", "value")]
        self.node("Split", [turned], parts, axis=0)
        if "axis_0" not in {weight.name for weight in self.weights}:
            self.weight("axis_0", np.array([0], np.int64))
        names = [f"{at}.q", f"keys_{layer}", f"values_{layer}"]
        q, k, v = (self.node("Squeeze", [part, "axis_0"], name) for part, name in zip(parts, names, strict=True))
        for name in (k, v):
            self.output(name, "FLOAT", 1, heads, "n", self.head_size)
        mask = "mask"
        if self._is_last(layer):
            q, mask = self._last_row(q, 2), self._last_row(mask, 2)
        scaled = self.node("Mul", [q, "scale"], f"{at}.scaled")
        scores = self.node(
            "MatMul", [scaled, self.node("Transpose", [k], f"{at}.k", perm=[0, 1, 3, 2])], f"{at}.scores"
        )
        shares = self.node("Softmax", [self.node("Add", [scores, mask], f"{at}.masked")], f"{at}.shares", axis=-1)
        mixed = self.node("MatMul", [shares, v], f"{at}.mixed_heads")
        back = self.node("Transpose", [mixed], f"{at}.back", perm=[0, 2, 1, 3])
        return self.node("Reshape", [back, "joined"], f"{at}.attended")


def _value(name: str, kind: str, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, getattr(TensorProto, kind), list(shape))


def is_half(values: Array) -> bool:
    """Whether half floats hold all of them exactly."""
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))
