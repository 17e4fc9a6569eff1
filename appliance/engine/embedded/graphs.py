"""Graph surgery: the one Kokoro graph of the wheels becomes five, most of them in two kinds of arithmetic.

    front       tokens (1, n) i64, prosody (1, 128) f32, speed (1,) f32
                -> durations (n,) frames of 25 ms, features (1, 512, T), f0 (1, 2T) Hz, energy (1, 2T)
    excitation  f0, noise (1, 600T, 1) f32 -> harmonics (1, 22, 120T + 1), magnitudes and phases of the voice's source
    body        features, f0, energy, timbre (1, 128) f32, AdaIN biases -> body (1, 512, 2T); a twentieth of the work
    measure     body, harmonics, timbre, AdaIN biases -> audio (600T,) 24 kHz, and 88 means and deviations (1, C, 1)
    generator   the same and those means and deviations -> audio; for a window of the frames as well as for all

`f0` and `energy` have frames of 12.5 ms (300 samples), `features` of 25 ms (600 samples). The published export left out
the noise that the network adds to its excitation; `noise` puts it back as an input, so whoever feeds zeros gets the
published graph bit for bit (front, excitation, body, measure), and whoever feeds seeded noise gets the same sound for
the same seed. The excitation stands alone because its running phase wants float32 wherever the rest runs.

All but the excitation exist as "int8" (as published: dynamic integer products) and as "float" (`floating`), for
runtimes that are not good at the former.

`normalisations` says what means and deviations are for. The AdaIN biases are graph inputs: a request feeds its
voice's values, or the published ones (`PreparedGraphs.defaults`). They are named like an adaptation's parameters, as in
the published file (`PreparedGraphs.adaptable` lists them with their sizes), e.g.

    decoder.decoder.encode.norm1.fc.bias                      (1028,)
    decoder.decoder.decode.0.norm2.fc.bias                    (2048,)   decode.0 .. decode.3, norm1 and norm2
    decoder.decoder.generator.resblocks.4.adain1.2.fc.bias     (256,)   resblocks.0 .. 5, adain1 and adain2, .0 .. .2
    decoder.decoder.generator.noise_res.1.adain2.0.fc.bias     (256,)   noise_res.0 and 1

58 tensors, 37 396 numbers in all; a file of an adaptation holds some or all of them and `style` (128,), the timbre half
of the style. The first half of a bias belongs to the scale (gamma), the second to the shift (beta) of the normalised
channels.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Artifact
from appliance.engine.embedded.convolutions import flatten_convolutions
from appliance.engine.embedded.floating import undo_quantization
from appliance.engine.embedded.normalisations import fold_normalisations, name_statistics
from appliance.engine.embedded.shortcuts import expand_snakes, fuse_scales

SURGERY = 5  # raise it whenever this file makes other graphs from the same source
MANIFEST = "manifest.json"
DEFAULTS = "defaults.npz"  # published values of the adaptable inputs

_PREFIX = "decoder.decoder."
_SUFFIX = ".fc.bias"
_EXCITATION = "/decoder/decoder/generator/m_source/l_linear/MatMul_output_0"  # (1, 600T, 1), harmonics mixed to one
_NAMES = {  # tensor of the published graph -> our name
    "/encoder/Slice_output_0": "prosody",
    "/decoder/Slice_output_0": "timbre",
    "/encoder/Clip_output_0": "durations",
    "/encoder/MatMul_1_output_0": "features",
    "/encoder/Reshape_output_0": "f0",
    "/encoder/Reshape_1_output_0": "energy",
    "/decoder/decoder/generator/Concat_3_output_0": "harmonics",
    "/decoder/decoder/decode.3/Div_4_output_0": "body",
}
_SHAPES: dict[str, tuple[str, tuple[int | str, ...]]] = {  # name -> element type, shape
    "tokens": ("INT64", (1, "phones")),
    "prosody": ("FLOAT", (1, 128)),
    "speed": ("FLOAT", (1,)),
    "durations": ("FLOAT", (1, "phones")),
    "features": ("FLOAT", (1, 512, "frames")),
    "f0": ("FLOAT", (1, "half_frames")),
    "energy": ("FLOAT", (1, "half_frames")),
    "timbre": ("FLOAT", (1, 128)),
    "noise": ("FLOAT", (1, "samples", 1)),
    "harmonics": ("FLOAT", (1, 22, "fifths_of_frames")),
    "body": ("FLOAT", (1, 512, "half_frames")),
    "audio": ("FLOAT", ("samples",)),
}
_CUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # graph -> inputs, outputs
    "front": (("tokens", "prosody", "speed"), ("durations", "features", "f0", "energy")),
    "excitation": (("f0", "noise"), ("harmonics",)),
    "body": (("features", "f0", "energy", "timbre"), ("body",)),
    "measure": (("body", "harmonics", "timbre"), ("audio",)),  # and statistics out
    "generator": (("body", "harmonics", "timbre"), ("audio",)),  # and statistics in
}


@dataclass(frozen=True)
class PreparedGraphs:
    """The graph files and what may be adapted. Of each graph the published arithmetic comes first."""

    front: tuple[Artifact, ...]
    excitation: tuple[Artifact, ...]
    body: tuple[Artifact, ...]
    measure: tuple[Artifact, ...]
    generator: tuple[Artifact, ...]
    adaptable: Mapping[str, int]  # name of an AdaIN bias -> its length
    defaults: Mapping[str, NDArray[np.float32]] = field(compare=False)  # the same names -> published values


def prepare_graphs(read_model: Callable[[], bytes], source_sha256: str, cache_dir: Path) -> PreparedGraphs:
    """The graphs from the cache; cut anew (a few seconds) when they are absent or damaged.

    `read_model` is called only then. Several processes may do this at once: each builds beside the cache, and the last
    rename wins with equal content.
    """
    folder = cache_dir / f"embedded-{source_sha256[:16]}-v{SURGERY}"
    found = _read_prepared(folder)
    if found is not None:
        return found
    cache_dir.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=cache_dir))
    try:
        _write_graphs(read_model(), building, source_sha256)
        _swap_in(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    prepared = _read_prepared(folder)
    if prepared is None:
        raise OSError(f"{folder} changed while it was being prepared")
    return prepared


def cut_model(model: bytes) -> dict[str, bytes]:
    """File name without suffix ("front", "front_float", "excitation", …) -> ONNX model."""
    import onnx

    whole = onnx.load_model_from_string(model)
    _add_noise_input(whole.graph)
    _rename_tensors(whole.graph, _NAMES)
    statistics = name_statistics(whole.graph)
    cut = {}
    for name, (inputs, outputs) in _CUTS.items():
        told = tuple(statistics) if name == "measure" else ()
        asked = tuple(statistics) if name == "generator" else ()
        part = _extract(whole, name, inputs + asked, outputs + told, statistics)
        if asked:
            fold_normalisations(part.graph, statistics)
        floats = onnx.ModelProto()
        floats.CopyFrom(part)
        if undo_quantization(floats.graph):
            cut[f"{name}_float"] = floats.SerializeToString()
        flatten_convolutions(part.graph)
        if asked:
            fuse_scales(part.graph)
            expand_snakes(part.graph)
        cut[name] = part.SerializeToString()
    return cut


def published_biases(model: bytes) -> dict[str, NDArray[np.float32]]:
    """Name -> values of all that may be adapted."""
    import onnx

    constants = onnx.load_model_from_string(model).graph.initializer
    return {t.name: onnx.numpy_helper.to_array(t) for t in constants if _is_adaptable(t.name)}


def _add_noise_input(graph: Any) -> None:
    """Put `+ noise` behind the mixed harmonics, where the network had it before its export."""
    import onnx

    added = _EXCITATION + "_with_noise"
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == _EXCITATION:
                node.input[index] = added
    at = next(index for index, node in enumerate(graph.node) if _EXCITATION in node.output)
    graph.node.insert(at + 1, onnx.helper.make_node("Add", [_EXCITATION, "noise"], [added], name="/add_noise"))


def _rename_tensors(graph: Any, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for ends in (node.input, node.output):
            for index, name in enumerate(ends):
                ends[index] = names.get(name, name)


def _extract(
    whole: Any, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...], statistics: Mapping[str, int]
) -> Any:
    """The part of `whole` that computes `outputs` from `inputs`."""
    import onnx

    makers = {output: node for node in whole.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in whole.graph.initializer}
    needed_nodes: set[str] = set()
    needed_constants: set[str] = set()
    waiting = list(outputs)
    while waiting:
        tensor = waiting.pop()
        if tensor in inputs or not tensor:
            continue
        if tensor in constants:
            needed_constants.add(tensor)
            continue
        node = makers[tensor]  # a KeyError here means that the cut does not close: a fault of the tables above
        if node.output[0] not in needed_nodes:
            needed_nodes.add(node.output[0])
            waiting += node.input
    adaptable = [constants[name] for name in sorted(needed_constants) if _is_adaptable(name)]
    graph = onnx.helper.make_graph(
        [node for node in whole.graph.node if node.output[0] in needed_nodes],
        f"embedded_{name}",
        [_value_info(tensor, statistics) for tensor in inputs]
        + [onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in adaptable],
        [_value_info(tensor, statistics) for tensor in outputs],
        [tensor for tensor in whole.graph.initializer if tensor.name in needed_constants - {t.name for t in adaptable}],
    )
    return onnx.helper.make_model(graph, opset_imports=whole.opset_import, ir_version=whole.ir_version)


def _value_info(name: str, statistics: Mapping[str, int]) -> Any:
    import onnx

    kind, shape = ("FLOAT", (1, statistics[name], 1)) if name in statistics else _SHAPES[name]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DataType.Value(kind), list(shape))


def _is_adaptable(name: str) -> bool:
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


# ---------------------------------------------------------------- the cache


def _write_graphs(model: bytes, folder: Path, source_sha256: str) -> None:
    biases: dict[str, Any] = dict(published_biases(model))
    packed = BytesIO()
    np.savez(packed, **biases)
    files = {f"{name}.onnx": content for name, content in cut_model(model).items()} | {DEFAULTS: packed.getvalue()}
    for name, content in files.items():
        _write_durably(folder / name, content)
    manifest = {
        "surgery": SURGERY,
        "source": source_sha256,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    _write_durably(folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap_in(building: Path, folder: Path) -> None:
    """Move the finished folder into place; a folder that is there already is damaged, or another process was faster."""
    if folder.exists():
        condemned = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        try:
            folder.rename(condemned / "was")
        finally:
            shutil.rmtree(condemned, ignore_errors=True)
    building.rename(folder)


def _read_prepared(folder: Path) -> PreparedGraphs | None:
    """What `folder` holds when it is whole, else None."""
    try:
        digests = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, digest in digests.items():
            _verify(folder / name, digest)
        graphs = {name: _artifacts(folder, name, digests) for name in _CUTS}
        with np.load(folder / DEFAULTS, allow_pickle=False) as stored:
            defaults = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return PreparedGraphs(**graphs, adaptable={name: len(row) for name, row in defaults.items()}, defaults=defaults)


def _artifacts(folder: Path, name: str, digests: Mapping[str, str]) -> tuple[Artifact, ...]:
    """The graph as published, then as floats. A graph without integer products has one form only."""
    files = {"int8": f"{name}.onnx", "float": f"{name}_float.onnx"}
    if files["float"] not in digests:
        files = {"float": files["int8"]}
    return tuple(Artifact(folder / file, "onnx", digests[file], precision) for precision, file in files.items())


def _verify(path: Path, sha256: str) -> None:
    """Raises ValueError when the file is not what the manifest says."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError(f"{path} is damaged")
