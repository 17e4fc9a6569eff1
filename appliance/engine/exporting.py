"""Export: the one network definition -> graph files for backends, each examined against the reference network.

An engine describes each of its networks as a `NetworkExport`; `export` writes the formats that the usable backends of
this machine read: "onnx" (opset 17, one self-contained file; always) and "openvino" (IR, an .xml with its .bin).
Runtimes that are PyTorch themselves take the module. Every file is run by every backend that reads it, and the
distance from the reference network decides whether it may be used.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from appliance.contracts import Artifact, Backend, EngineHost, Session, SessionOptions
from appliance.engine.artifact_store import (
    EXAM,
    Arrays,
    ArtifactStore,
    Circumstances,
    Examination,
    Exported,
    Manifest,
    Port,
    Prepared,
    Source,
    sha256_of,
    usable_backends,
    write_samples,
)
from appliance.engine.placement_cache import processor_key
from appliance.engine.placement_records import describe

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)
OPSET = 17
FLOAT, INT8_WEIGHTS = "float", "int8_weights"  # `Artifact.precision`; the second: weights in 8 bits, sums in floats


@dataclass(frozen=True)
class Written:
    """One graph that has been written: an ONNX file, or an OpenVINO .xml and its .bin."""

    precision: str
    format: str
    files: tuple[Path, ...]


Writer = Callable[[Path, frozenset[str]], Iterable[Written]]  # folder, formats that are read -> files


@dataclass(frozen=True)
class NetworkExport:
    """One network of an engine, ready to be exported."""

    source: Source
    module: nn.Module  # in evaluation mode, on the CPU, float32; takes `inputs` in order, returns one tensor or a tuple
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    samples: tuple[Arrays, ...]  # feeds of different lengths; the first one is traced
    distance: Callable[[Arrays, Arrays], float]  # of outputs from those of the reference network; 0 is equal
    tolerance: float
    arithmetic: str = ""  # "f32" where a backend's own choice of less would be wrong
    int8_weights: bool = False  # whether to offer its matrices in 8 bits to runtimes that are good at it
    write: Writer | None = None  # own graphs instead of the traced one
    write_more: Writer | None = None  # and own ones beside it
    examine: Callable[[Session], tuple[float, float, str]] | None = None  # own exam: distance, ms, what was found


def circumstances(host: EngineHost) -> Circumstances:
    """Of an export on this machine, now."""
    return Circumstances(_release("voiced"), processor_key(), usable_backends(host.backends), _release("torch"))


def export(network: NetworkExport, host: EngineHost) -> Prepared:
    """Write and examine all artifacts of `network`, or return those that are there already."""
    store, now = ArtifactStore(host.cache_dir), circumstances(host)
    with store.alone(network.source):
        try:
            found = store.find(network.source, now)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is made anew
            log.warning("%s is exported again: %s", network.source.network, describe(error))
            found = None
        if found is not None:
            return found
        with store.draft() as draft:
            started = time.perf_counter()
            answers = reference_answers(network)
            digest = write_samples(draft / EXAM, network.samples, answers)
            rows: list[Exported] = []
            for row in _write_all(network, draft, host):
                rows.append(_examined(network, row, draft, host, answers, rows))
            manifest = Manifest(network.source, now, network.inputs, network.outputs, tuple(rows), digest)
            log.info("%s exported in %.1f s", network.source.network, time.perf_counter() - started)
            return store.put(draft, manifest)


def reference_answers(network: NetworkExport) -> tuple[Arrays, ...]:
    """What the reference network makes of the samples."""
    import torch

    answers = []
    with torch.inference_mode():
        for feeds in network.samples:
            out = network.module(*(torch.from_numpy(np.ascontiguousarray(feeds[port.name])) for port in network.inputs))
            found = out if isinstance(out, tuple) else (out,)
            answers.append({port.name: x.numpy() for port, x in zip(network.outputs, found, strict=True)})
    return tuple(answers)


# ---------------------------------------------------------------- formats


def _write_all(network: NetworkExport, folder: Path, host: EngineHost) -> Iterable[Exported]:
    usable = [host.backends[name] for name in usable_backends(host.backends)]
    formats = frozenset(form for backend in usable for form in backend.formats)
    if network.write is not None:
        yield from (_row(one.precision, one.format, *one.files) for one in network.write(folder, formats))
        return
    graph = folder / "graph.onnx"
    write_onnx(network, graph)
    readers = [backend for backend in usable if "openvino" in backend.formats]
    if readers:  # before the other format: backends that read both take the first
        yield from _write_openvino(network, graph, any(INT8_WEIGHTS in backend.precisions for backend in readers))
    yield _row(FLOAT, "onnx", graph)
    if network.write_more is not None:
        yield from (_row(one.precision, one.format, *one.files) for one in network.write_more(folder, formats))


def write_onnx(network: NetworkExport, path: Path) -> None:
    """One file with everything in it, opset 17, dynamic where a port names a size."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's advice: the definition's branches depend on sizes of layers only
        torch.onnx.export(
            network.module,
            _example(network),
            path,
            input_names=[port.name for port in network.inputs],
            output_names=[port.name for port in network.outputs],
            dynamic_axes={port.name: _named(port) for port in (*network.inputs, *network.outputs)},
            opset_version=OPSET,
            dynamo=False,  # the other exporter takes a library more and several times as long
        )


def _write_openvino(network: NetworkExport, graph: Path, has_int8: bool) -> Iterable[Exported]:
    import openvino

    from appliance.engine.openvino_weights import compress

    model = openvino.convert_model(graph)
    path = graph.with_suffix(".xml")
    openvino.save_model(model, path, compress_to_fp16=False)
    yield _row(FLOAT, "openvino", path, path.with_suffix(".bin"))
    if network.int8_weights and has_int8 and compress(model):
        path = graph.with_name("graph_int8.xml")
        openvino.save_model(model, path, compress_to_fp16=False)
        yield _row(INT8_WEIGHTS, "openvino", path, path.with_suffix(".bin"))


def _example(network: NetworkExport) -> tuple[object, ...]:
    import torch

    return tuple(torch.from_numpy(np.ascontiguousarray(network.samples[0][port.name])) for port in network.inputs)


def _named(port: Port) -> dict[int, str]:
    return {axis: size for axis, size in enumerate(port.shape) if isinstance(size, str)}


def _row(precision: str, form: str, *files: Path) -> Exported:
    size = sum(path.stat().st_size for path in files)
    return Exported(files[0].name, form, precision, sha256_of(*files), size)


# ---------------------------------------------------------------- the exam


def _examined(
    network: NetworkExport,
    row: Exported,
    folder: Path,
    host: EngineHost,
    answers: Sequence[Arrays],
    before: Sequence[Exported],
) -> Exported:
    """The exams of one file. A backend that has a file of this precision `before` will not use another one."""
    has_one = {exam.backend for other in before if other.precision == row.precision for exam in other.exams}
    artifact = Artifact(folder / row.file, row.format, row.sha256, row.precision)
    readers = {
        name: host.backends[name]
        for name in usable_backends(host.backends)
        if name not in has_one
        and row.format in host.backends[name].formats
        and row.precision in host.backends[name].precisions
    }
    options = SessionOptions(threads=host.threads, precision=network.arithmetic, spins=network.examine is not None)
    exams = (_examine(network, backend, artifact, options, answers) for backend in readers.values())
    return replace(row, exams=tuple(exams))


def _examine(
    network: NetworkExport, backend: Backend, artifact: Artifact, options: SessionOptions, answers: Sequence[Arrays]
) -> Examination:
    facts = (backend.name, backend.probe().version)
    try:
        session = backend.load(artifact, options)
        try:
            examine = network.examine or (lambda session: _compare(network, session, answers))
            distance, spent_ms, note = examine(session)
        finally:
            session.close()
    except Exception as error:  # noqa: BLE001 - a runtime raises what it likes; it failed
        return Examination(*facts, None, network.tolerance, False, reason=describe(error))
    passed = bool(distance <= network.tolerance)
    reason = note if passed else f"it is {distance:.3g} away; {network.tolerance:g} is allowed. {note}".strip()
    return Examination(*facts, float(distance), network.tolerance, passed, round(spent_ms, 2), reason)


def _compare(network: NetworkExport, session: Session, answers: Sequence[Arrays]) -> tuple[float, float, str]:
    """The worst distance over all samples, and the milliseconds that they take together."""
    outputs = [session.run(feeds) for feeds in network.samples]  # the first run may still compile
    started = time.perf_counter()
    for feeds in network.samples:
        session.run(feeds)
    spent_ms = 1000 * (time.perf_counter() - started)
    distance = max(network.distance(ours, theirs) for ours, theirs in zip(outputs, answers, strict=True))
    return distance, spent_ms, ""


# ---------------------------------------------------------------- distances


def relative_error(ours: Arrays, theirs: Arrays) -> float:
    """Root mean square of the difference over that of the reference, the worst output counts; inf if not finite."""
    worst = 0.0
    for name, wanted in theirs.items():
        found = ours[name]
        if found.shape != wanted.shape or not np.isfinite(found).all():
            return float("inf")
        power = float(np.mean(np.square(wanted, dtype=np.float64)))
        error = float(np.mean(np.square(found - wanted, dtype=np.float64)))
        worst = max(worst, (error / max(power, 1e-20)) ** 0.5)
    return worst


def _release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
