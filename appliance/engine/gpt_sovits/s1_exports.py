"""s1 in the cache: its two graphs written and examined, and opened as decoders.

The prefill exists in floats, as plain ONNX and as OpenVINO's own, and with 8-bit weights, also for a runtime that knows
the network (`reader_arrays`); which backend reads prompts is measured like for any network (`placement`). The step
exists in floats and with 8-bit weights for runtimes with operators for it, and in half floats and 8 bits for one that
knows the network (`decoder_arrays`). 8 bits are used where they pass the exam of `s1_exam`, floats otherwise, the
network itself where neither can be.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from appliance.contracts import Artifact, EngineHost, JsonDict, Session, SessionOptions
from appliance.engine.artifact_store import Examination, Port, Prepared, Source, usable_backends
from appliance.engine.exporting import FLOAT, NetworkExport, Written, export, relative_error
from appliance.engine.gpt_sovits.decode_loop import DecodeLoop
from appliance.engine.gpt_sovits.decoder_arrays import FORMAT as ARRAYS
from appliance.engine.gpt_sovits.decoder_arrays import write_arrays
from appliance.engine.gpt_sovits.decoder_graphs import prefill_graph, step_graph
from appliance.engine.gpt_sovits.decoding import Decoder, TorchDecoder
from appliance.engine.gpt_sovits.device_decoder import DeviceDecoder
from appliance.engine.gpt_sovits.pairing import ENGINE
from appliance.engine.gpt_sovits.reader_arrays import PROMPT, write_prompt_reader
from appliance.engine.gpt_sovits.s1_exam import MOST_DIVERGENCE, Exam, judge, set_exam, step_ms
from appliance.engine.gpt_sovits.session_decoder import KINDS, TEXT_STEP, SessionDecoder, prompt_feeds
from appliance.engine.gpt_sovits.t2s import BERT_WIDTH, TextPrompt, TextToSemantic, TextToSemanticConfig
from appliance.engine.gpt_sovits.turns import Turns
from appliance.engine.placement import PlacedNetwork, place
from appliance.engine.placement_records import DIFFERS, Network
from appliance.engine.placement_trial import CLEARLY_FASTER
from appliance.errors import Unavailable

PREFILL, STEP = "s1.prefill", "s1.step"
CONTRIB, INT8, HALF = "onnx_contrib", "int8", "half"
MOST_DISTANCE = 0.05  # of the prefill: rms of the error over the rms of keys, values or logits

Arrays = Mapping[str, NDArray[Any]]


def export_s1(network: TextToSemantic, sources: Mapping[str, Source], host: EngineHost) -> list[Prepared]:
    """Write and examine both graphs; what is there already stays."""
    exam = set_exam(TorchDecoder(network), network.config)
    prefill = export(_described_prefill(network, exam, sources[PREFILL]), host)
    step = export(_described_step(network, exam, sources[STEP]), host)
    open_prefill(prefill, host).close()  # the trial is made here and now, not when somebody waits
    return [prefill, step]


def open_prefill(prepared: Prepared, host: EngineHost) -> PlacedNetwork:
    """The prefill on the backend that suits this machine. Raises Corrupt, Unavailable("backend_missing")."""
    network = Network(
        engine=ENGINE,
        name=PREFILL,
        artifacts=prepared.artifacts,
        samples=lambda: prepared.exam()[0],
        distance=relative_error,
        tolerance=MOST_DISTANCE,
        answers=lambda: prepared.exam()[1],
        edition=prepared.folder.name.rpartition(".")[2][:12],
    )
    return place(network, host)


@dataclass
class S1Decoders:
    """All ways to decode with one s1, the best first."""

    host: EngineHost
    config: TextToSemanticConfig
    network: Callable[[], TextToSemantic]
    prepared: Mapping[str, Prepared]  # empty until it has been exported
    turns: Turns

    def loop(self) -> DecodeLoop:
        """The loop over them. Nothing is opened before somebody asks for an answer."""
        ways: dict[str, Callable[[], Decoder]] = {}
        facts: dict[str, JsonDict] = {}
        for backend in module_backends(self.host):
            facts[backend] = _row(backend, FLOAT)
            ways[backend] = self._device_opener(backend, facts[backend])
        for artifact, backend in self._ranked():
            name = f"{backend} {artifact.precision}"
            ways[name] = self._opener(name, artifact, backend)
            facts[name] = self._facts(artifact, backend)
        ways[TorchDecoder.name] = lambda: TorchDecoder(self.network())
        facts[TorchDecoder.name] = _row("torch", FLOAT)
        return DecodeLoop(ways, self.config, facts, tuple(self._refused()), self.turns)

    def _ranked(self) -> list[tuple[Artifact, str]]:
        """Eight bits before the others, and the fastest first; an earlier one keeps its place unless a later one was
        clearly faster in its exam.
        """
        found: list[tuple[Artifact, str]] = []
        for step in sorted(self._steps(), key=lambda step: step[0].precision != INT8):
            slower = (
                at
                for at, other in enumerate(found)
                if (other[0].precision == INT8) == (step[0].precision == INT8)
                and self._spent_ms(*step) < CLEARLY_FASTER * self._spent_ms(*other)
            )
            found.insert(next(slower, len(found)), step)
        return found

    def _spent_ms(self, artifact: Artifact, backend: str) -> float:
        exam = self._exam(artifact, backend)
        return exam.milliseconds if exam is not None and exam.milliseconds is not None else float("inf")

    def _exam(self, artifact: Artifact, backend: str) -> Examination | None:
        exported = self.prepared[STEP].manifest.artifacts
        exams = (exam for row in exported if row.file == artifact.path.name for exam in row.exams)
        return next((exam for exam in exams if exam.backend == backend), None)

    def _steps(self) -> Iterable[tuple[Artifact, str]]:
        artifacts = self.prepared[STEP].artifacts if self.prepared else ()
        for artifact in artifacts:
            for name in usable_backends(self.host.backends) if artifacts else ():
                backend = self.host.backends[name]
                exam = self._exam(artifact, name)
                reads = artifact.format in backend.formats and artifact.precision in backend.precisions
                if reads and (exam is None or exam.passed):
                    yield artifact, name

    def _device_opener(self, backend: str, facts: JsonDict) -> Callable[[], Decoder]:
        """A decoder on a device of its own. Raises Unavailable("decoder_differs") when it is too far off."""

        def make() -> Decoder:
            network = self.network()
            decoder = DeviceDecoder(backend, self.host.backends[backend].take_module(copy.deepcopy(network)))
            exam = set_exam(TorchDecoder(network), self.config)
            found = judge(decoder, exam)
            facts["milliseconds"] = step_ms(decoder, exam)
            facts["distance"], facts["reason"] = found.divergence, str(found)
            if not found.passed:
                decoder.close()
                raise Unavailable("decoder_differs", backend=backend, reason=str(found))
            return decoder

        return make

    def _opener(self, name: str, artifact: Artifact, backend: str) -> Callable[[], Decoder]:
        def make() -> Decoder:
            options = SessionOptions(self.host.threads, cache_dir=self.host.cache_dir, spins=True)
            step = self.host.backends[backend].load(artifact, options)
            prefill = open_prefill(self.prepared[PREFILL], self.host)
            return SessionDecoder(name, self.config, prefill, step, TEXT_STEP)

        return make

    def _facts(self, artifact: Artifact, backend: str) -> JsonDict:
        row, exam = _row(backend, artifact.precision), self._exam(artifact, backend)
        if exam is not None:
            row |= {"version": exam.version, "distance": exam.distance}
            row |= {"milliseconds": exam.milliseconds, "reason": exam.reason}
        return row

    def _refused(self) -> Iterable[JsonDict]:
        for exported in self.prepared[STEP].manifest.artifacts if self.prepared else ():
            for exam in exported.exams:
                if not exam.passed:
                    row = _row(exam.backend, exported.precision) | {"version": exam.version, "state": DIFFERS}
                    yield row | {"distance": exam.distance, "reason": exam.reason}


def module_backends(host: EngineHost) -> list[str]:
    """Usable backends that run the networks themselves."""
    return [name for name in usable_backends(host.backends) if "torch" in host.backends[name].formats]


def _row(backend: str, precision: str) -> JsonDict:
    facts = {"version": "", "milliseconds": None, "distance": None, "reason": ""}
    return {"network": STEP, "backend": backend, "precision": precision, **facts}


# ---------------------------------------------------------------- writing


def _described_prefill(network: TextToSemantic, exam: Exam, source: Source) -> NetworkExport:
    said = torch.cat((exam.prompt.tokens, torch.tensor(exam.tokens)))
    feeds = prompt_feeds(TextPrompt(exam.prompt.phones, exam.prompt.bert, said))
    config = network.config
    inputs = (
        Port("phones", (1, "x"), "int64"),
        Port("bert", (1, "x", BERT_WIDTH)),
        Port("tokens", (1, "y"), "int64"),
        Port("mask", (1, 1, "n", "n")),
    )
    stored = (1, config.heads, "n", config.width // config.heads)
    tables = (Port(f"{kind}_{layer}", stored) for layer in range(config.layers) for kind in KINDS)
    return NetworkExport(
        source=source,
        module=_Prefill(network),
        inputs=inputs,
        outputs=(Port("logits", (1, 1, config.vocabulary)), *tables),
        samples=(feeds,),
        distance=relative_error,
        tolerance=MOST_DISTANCE,
        write=lambda folder, readers: _write_prefill(network, folder, readers),
    )


def _write_prefill(network: TextToSemantic, folder: Path, formats: Iterable[str]) -> Iterable[Written]:
    import onnx

    plain = folder / "prefill.onnx"
    onnx.save(prefill_graph(network), plain)
    if "openvino" in formats:
        import openvino

        own = plain.with_suffix(".xml")
        openvino.save_model(openvino.convert_model(plain), own, compress_to_fp16=False)
        yield Written(FLOAT, "openvino", (own, own.with_suffix(".bin")))
    yield Written(FLOAT, "onnx", (plain,))
    if PROMPT in formats:
        arrays = folder / "prefill_int8.safetensors"
        write_prompt_reader(network, arrays)
        yield Written(INT8, PROMPT, (arrays,))
    if CONTRIB in formats:
        small = folder / "prefill_int8.onnx"
        onnx.save(prefill_graph(network, 8), small)
        yield Written(INT8, CONTRIB, (small,))


def _described_step(network: TextToSemantic, exam: Exam, source: Source) -> NetworkExport:
    config = network.config

    def examine(session: Session) -> tuple[float, float, str]:
        decoder = SessionDecoder("exam", config, _ReferencePrefill(network), session)
        found = judge(decoder, exam)
        return found.divergence, step_ms(decoder, exam), str(found)

    table = ("b", config.heads, "c", config.width // config.heads)
    names = [f"{kind}_{layer}" for layer in range(config.layers) for kind in KINDS]
    inputs = (Port("tokens", ("b", 1), "int64"), Port("positions", ("b", 1), "int64"), Port("rows", ("b",), "int32"))
    return NetworkExport(
        source=source,
        module=_Prefill(network),
        inputs=(*inputs, Port("total", (), "int32"), *(Port(name, table) for name in names)),
        outputs=(Port("logits", ("b", 1, config.vocabulary)), *(Port(f"grown_{name}", table) for name in names)),
        samples=(),
        distance=relative_error,
        tolerance=MOST_DIVERGENCE,
        write=lambda folder, readers: _write_step(network, folder, readers),
        examine=examine,
    )


def _write_step(network: TextToSemantic, folder: Path, formats: Iterable[str]) -> Iterable[Written]:
    import onnx

    for bits, precision in ((8, INT8), (32, FLOAT)) if CONTRIB in formats else ():
        path = folder / f"step_{precision}.onnx"
        onnx.save(step_graph(network, bits), path)
        yield Written(precision, CONTRIB, (path,))
    for bits, precision in ((8, INT8), (16, HALF)) if ARRAYS in formats else ():
        path = folder / f"step_{precision}.safetensors"
        write_arrays(network, path, bits)
        yield Written(precision, ARRAYS, (path,))


class _Prefill(nn.Module):
    """The network as the graph "prefill" shows it."""

    def __init__(self, network: TextToSemantic) -> None:
        super().__init__()
        self.network = network

    def forward(self, phones: Tensor, bert: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """The mask follows from the lengths."""
        logits, cache = self.network.prefill([TextPrompt(phones[0], bert[0].T, tokens[0])], more=0)
        pairs = zip(cache.keys, cache.values, strict=True)
        return (logits[None], *(table for pair in pairs for table in pair))


class _ReferencePrefill(Session):
    """The network behind the contract of a session, so that an exam of steps starts from exact keys and values."""

    inputs = ("phones", "bert", "tokens", "mask")

    def __init__(self, network: TextToSemantic) -> None:
        self._module = _Prefill(network)
        layers = range(network.config.layers)
        self.outputs = ("logits", *(f"{kind}_{layer}" for layer in layers for kind in KINDS))

    @torch.inference_mode()
    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        found = self._module(*(torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in self.inputs))
        return {name: values.numpy() for name, values in zip(self.outputs, found, strict=True)}

    def close(self) -> None:
        """Nothing to give back."""
