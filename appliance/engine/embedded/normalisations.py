"""The generator's normalisations with statistics from outside, so that sound can be made piece by piece.

Each of them takes mean and deviation of a channel over a whole phrase, and with that the last word of a phrase shapes
the first. Everything else in the generator sees 75 ms to each side. But the statistics belong to the voice and to the
length of a phrase more than to its words (`measuring`). So the published form exists as a graph that tells its
statistics ("measure"), and another one that is told them ("generator").

In the latter, normalisation and the style's scale and shift are one product and one sum per number:

    y = gain * (x - mean) / deviation + shift  =  x * scale + (shift - mean * scale),   scale = gain / deviation
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BLOCK = re.compile(r"/generator/((?:resblocks|noise_res)\.\d+)/(adain\d\.\d)/")


def name_statistics(graph: Any) -> dict[str, int]:
    """Rename means and deviations to `mean.BLOCK.NORM` and `deviation.BLOCK.NORM`; returns name -> channels."""
    makers = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    names: dict[str, str] = {}
    channels: dict[str, int] = {}
    for node in graph.node:
        found = _BLOCK.search(node.output[0])
        centred, deviation = (makers.get(name) for name in node.input[:2]) if node.op_type == "Div" else (None, None)
        if not found or centred is None or deviation is None or deviation.op_type != "Sqrt":
            continue
        place = f"{found.group(1)}.{found.group(2)}"
        names |= {centred.input[1]: f"mean.{place}", deviation.output[0]: f"deviation.{place}"}
        width = weights[f"decoder.decoder.generator.{place}.fc.bias"][0] // 2
        channels |= {f"mean.{place}": width, f"deviation.{place}": width}
    for node in graph.node:
        for ends in (node.input, node.output):
            for index, name in enumerate(ends):
                ends[index] = names.get(name, name)
    return channels


def fold_normalisations(graph: Any, statistics: Mapping[str, int]) -> int:
    """Rewrite normalisation, scale and shift of a graph that is told its statistics as in the formula above, in place;
    returns how many."""
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    replaced: dict[int, list[Any]] = {}
    for norm in graph.node:
        if norm.op_type == "Div" and norm.input[1] in statistics:
            centred = makers[norm.input[0]]
            for product in users[norm.output[0]]:
                (total,) = users[product.output[0]]
                replaced[id(total)] = _affine(centred, norm, product, total)
                replaced |= {id(node): [] for node in (centred, norm, product)}
    nodes = [new for node in graph.node for new in replaced.get(id(node), [node])]
    del graph.node[:]
    graph.node.extend(nodes)
    return sum(1 for new in replaced.values() if new)


def _affine(centred: Any, norm: Any, product: Any, total: Any) -> list[Any]:
    import onnx

    (signal, mean), deviation = centred.input, norm.input[1]
    gain = next(name for name in product.input if name != norm.output[0])
    shift = next(name for name in total.input if name != product.output[0])
    (output,) = total.output
    scale, moved, offset, scaled = (f"{output}/{part}" for part in ("scale", "moved", "offset", "scaled"))
    rows = (
        ("Div", [gain, deviation], scale),
        ("Mul", [mean, scale], moved),
        ("Sub", [shift, moved], offset),
        ("Mul", [signal, scale], scaled),
        ("Add", [scaled, offset], output),
    )
    return [onnx.helper.make_node(kind, inputs, [name], name=name) for kind, inputs, name in rows]
