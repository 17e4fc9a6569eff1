"""Graph surgery: the one Kokoro graph of the wheels becomes a front graph and a decoder graph.

    front    tokens (1, n) i64, prosody (1, 128) f32, speed (1,) f32
             -> durations (n,) frames of 25 ms, features (1, 512, T), f0 (1, 2T) Hz, energy (1, 2T)
    decoder  features, f0, energy, timbre (1, 128) f32, noise (1, 600T, 1) f32 -> audio (600T,) 24 kHz

`f0` and `energy` have frames of 12.5 ms (300 samples), `features` of 25 ms (600 samples). The published export left out
the noise that the network adds to its excitation; `noise` puts it back as an input, so whoever feeds zeros gets the
published graph bit for bit, and whoever feeds seeded noise gets the same sound for the same seed.

The AdaIN biases of the decoder stay initialisers with their published names and values, and are graph inputs as well:
a session accepts other values for one run and keeps its own for the next. Their names are the parameter names of an
adaptation, exactly as they stand in the ONNX file (`PreparedGraphs.adaptable` lists them with their sizes), e.g.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.contracts import Artifact
from appliance.engine.embedded.convolutions import flatten_convolutions

SURGERY = 2  # raise it whenever this file makes other graphs from the same source
MANIFEST = "manifest.json"

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
    "audio": ("FLOAT", ("samples",)),
}
_CUTS = {  # graph -> inputs, outputs
    "front": (("tokens", "prosody", "speed"), ("durations", "features", "f0", "energy")),
    "decoder": (("features", "f0", "energy", "timbre", "noise"), ("audio",)),
}


@dataclass(frozen=True)
class PreparedGraphs:
    """The two graph files and what may be adapted."""

    front: Artifact
    decoder: Artifact
    adaptable: Mapping[str, int]  # name of an AdaIN bias -> its length


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
        _write_graphs(cut_model(read_model()), building, source_sha256)
        _swap_in(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    prepared = _read_prepared(folder)
    if prepared is None:
        raise OSError(f"{folder} changed while it was being prepared")
    return prepared


def cut_model(model: bytes) -> dict[str, bytes]:
    """Graph name ("front", "decoder") -> serialised ONNX model."""
    import onnx

    whole = onnx.load_model_from_string(model)
    _add_noise_input(whole.graph)
    _rename_tensors(whole.graph, _NAMES)
    parts = {name: _extract(whole, name, *ends) for name, ends in _CUTS.items()}
    for part in parts.values():
        flatten_convolutions(part.graph)
    return {name: part.SerializeToString() for name, part in parts.items()}


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


def _extract(whole: Any, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Any:
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
        [_value_info(tensor) for tensor in inputs]
        + [onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in adaptable],
        [_value_info(tensor) for tensor in outputs],
        [tensor for tensor in whole.graph.initializer if tensor.name in needed_constants],
    )
    return onnx.helper.make_model(graph, opset_imports=whole.opset_import, ir_version=whole.ir_version)


def _value_info(name: str) -> Any:
    import onnx

    kind, shape = _SHAPES[name]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DataType.Value(kind), list(shape))


def _is_adaptable(name: str) -> bool:
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


def _adaptable_sizes(decoder: bytes) -> dict[str, int]:
    import onnx

    graph = onnx.load_model_from_string(decoder).graph
    return {
        entry.name: entry.type.tensor_type.shape.dim[0].dim_value for entry in graph.input if _is_adaptable(entry.name)
    }


# ---------------------------------------------------------------- the cache


def _write_graphs(graphs: Mapping[str, bytes], folder: Path, source_sha256: str) -> None:
    digests = {}
    for name, content in graphs.items():
        digests[name] = hashlib.sha256(content).hexdigest()
        _write_durably(folder / f"{name}.onnx", content)
    manifest = {
        "surgery": SURGERY,
        "source": source_sha256,
        "graphs": digests,
        "adaptable": _adaptable_sizes(graphs["decoder"]),
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
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        artifacts = [_verified(folder / f"{name}.onnx", manifest["graphs"][name]) for name in _CUTS]
        sizes = {str(name): int(size) for name, size in manifest["adaptable"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    front, decoder = artifacts
    return PreparedGraphs(front, decoder, sizes)


def _verified(path: Path, sha256: str) -> Artifact:
    """Raises ValueError when the file is not what the manifest says."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError(f"{path} is damaged")
    return Artifact(path, "onnx", sha256)
