"""Two rewritings of the generator of integer products that take the time out of what surrounds these products.

**Scales.** The published graph adds a rounded bias to integers and turns them into floats afterwards, in three passes
over memory. Turned into floats right behind the product, with the bias as it was before it was rounded, all three are
part of the product: ONNX Runtime fuses `MatMulInteger`, `Cast`, `Mul` and `Add`.

**Snakes.** ONNX Runtime computes `Sin` on one core, number by number. The activation needs only its square, which is
even and repeats itself every half turn: with r = x alpha / pi less its nearest whole number and t = r * r,

    sin(x alpha)^2 = sin(pi r)^2 = t (c0 + t (c1 + t (c2 + t c3))) within 2.3e-5,

sums and products that run on all cores. (Minimax coefficients for |r| <= 1/2; 8 bits are a hundred times coarser.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

COEFFICIENTS = (9.86667513, -32.35388359, 41.29505104, -22.99113005)
_Steps = list[tuple[str, list[str]]]
_Replaced = dict[int, list[Any]]  # id of a node -> what comes in its place


class _Reader:
    """Who makes and who uses a tensor."""

    def __init__(self, graph: Any) -> None:
        self.makers = {name: node for node in graph.node for name in node.output}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self._users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)

    def chain(self, node: Any, *kinds: str) -> list[Any] | None:
        """The nodes behind `node`, each the only user of the one before, if they are of these kinds."""
        found = []
        for kind in kinds:
            users = self._users.get(node.output[0], [])
            if len(users) != 1 or users[0].op_type != kind:
                return None
            found.append(node := users[0])
        return found

    def origin(self, name: str, kind: str) -> Any:
        """The first node of a kind on the way that `name` came by; None where there is none."""
        node = self.makers.get(name)
        while node is not None and node.op_type != kind:
            node = self.makers.get(node.input[0])
        return node


def fuse_scales(graph: Any) -> int:
    """Rewrite the products that `flatten_convolutions` made, in place; returns how many."""
    reader, replaced = _Reader(graph), _Replaced()
    count = 0
    for product in graph.node:
        chain = reader.chain(product, "Transpose", "Add", "Cast", "Mul") if product.op_type == "MatMulInteger" else None
        if chain is None:
            continue
        turned, biased, cast, scaled = chain
        rounding = reader.origin(_other(biased, turned.output[0]), "Div")  # bias / scale
        if rounding is None or rounding.input[0] not in reader.constants:
            continue
        bias, scale = rounding.input[0], _other(scaled, cast.output[0])
        rows: _Steps = [("Cast", []), ("Mul", [scale]), ("Add", [bias]), ("Transpose", [])]
        replaced |= {id(node): [] for node in (turned, biased, cast)}
        replaced[id(scaled)] = _row(product.output[0], rows, scaled.output[0])
        count += 1
    _replace(graph, replaced)
    return count


def expand_snakes(graph: Any) -> int:
    """Rewrite `Pow(Sin(Mul(alpha, x)), 2)` in place; returns how many."""
    import onnx

    reader, replaced = _Reader(graph), _Replaced()
    constants: dict[str, Any] = {f"snake/c{n}": np.float32(value) for n, value in enumerate(COEFFICIENTS)}
    count = 0
    for sine in graph.node:
        squared = reader.chain(sine, "Pow") if sine.op_type == "Sin" else None
        angle = reader.makers.get(sine.input[0]) if squared else None
        alpha = next((name for name in angle.input if name in reader.constants), "") if angle is not None else ""
        if squared is None or angle is None or not alpha or reader.chain(angle, "Sin") is None:
            continue
        half_turns = f"{alpha}/half_turns"
        constants[half_turns] = onnx.numpy_helper.to_array(reader.constants[alpha]) / np.float32(np.pi)
        replaced |= {id(angle): [], id(sine): []}
        replaced[id(squared[0])] = _snake(_other(angle, alpha), half_turns, squared[0].output[0])
        count += 1
    graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(row), name) for name, row in constants.items())
    _replace(graph, replaced)
    return count


def _snake(signal: str, half_turns: str, output: str) -> list[Any]:
    import onnx

    whole, rest, square = (f"{output}/{part}" for part in ("whole", "rest", "square"))
    turns = f"{output}/turns"
    rows = (("Mul", [signal, half_turns], turns), ("Round", [turns], whole), ("Sub", [turns, whole], rest))
    nodes = [onnx.helper.make_node(kind, inputs, [name]) for kind, inputs, name in rows]
    nodes.append(onnx.helper.make_node("Mul", [rest, rest], [square]))
    last = len(COEFFICIENTS) - 1
    steps: _Steps = [("Mul", [f"snake/c{last}"])]
    for number in range(last - 1, -1, -1):
        steps += [("Add", [f"snake/c{number}"]), ("Mul", [square])]
    return nodes + _row(square, steps, output)


def _row(start: str, steps: _Steps, output: str) -> list[Any]:
    """Nodes one after the other; each step is a kind and its further inputs."""
    import onnx

    attributes: Mapping[str, Mapping[str, Any]] = {
        "Cast": {"to": onnx.TensorProto.FLOAT},
        "Transpose": {"perm": [0, 2, 1]},
    }
    nodes, name = [], start
    for number, (kind, others) in enumerate(steps, start=1):
        made = output if number == len(steps) else f"{output}/{number}"
        nodes.append(onnx.helper.make_node(kind, [name, *others], [made], **attributes.get(kind, {})))
        name = made
    return nodes


def _other(node: Any, name: str) -> str:
    """The input of a node of two inputs that is not `name`."""
    return str(next(one for one in node.input if one != name))


def _replace(graph: Any, replaced: _Replaced) -> None:
    """Put new nodes in, and leave out what nobody needs any more: a dead user keeps ONNX Runtime from fusing."""
    nodes = [new for node in graph.node for new in replaced.get(id(node), [node])]
    needed, kept = {output.name for output in graph.output}, []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
