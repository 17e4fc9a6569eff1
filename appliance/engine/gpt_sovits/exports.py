"""Files of weights -> exported networks in the cache, and from the cache the sessions that compute them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.contracts import Artifact, EngineHost, JsonDict
from appliance.engine.artifact_store import Prepared, Source, digest_of_source
from appliance.engine.exporting import NetworkExport, export, relative_error
from appliance.engine.gpt_sovits.pairing import ENGINE, EXPORTED
from appliance.engine.placement import PlacedNetwork, place
from appliance.engine.placement_records import Network

if TYPE_CHECKING:
    from appliance.engine.gpt_sovits.graphs import Graph, Pupil

log = logging.getLogger(__name__)
PARTS: Mapping[str, tuple[str, ...]] = dict(EXPORTED)  # role of a file of weights -> its networks


def sources_of(
    role: str, weights: Path, config: Path | None, digest: Callable[[Path | None], str] = digest_of_source
) -> dict[str, Source]:
    """By name of the network; `digest` tells that of a file. Raises OSError."""
    if role not in PARTS:
        return {}
    digests = digest(weights), digest(config)
    return {name: Source(ENGINE, name, *digests) for name in PARTS[role]}


def export_file(role: str, weights: Path, config: Path | None, host: EngineHost) -> list[Prepared]:
    """As `export_parts`, all at once."""
    return list(export_parts(role, weights, config, host))


def export_parts(role: str, weights: Path, config: Path | None, host: EngineHost) -> Iterator[Prepared]:
    """Export the networks of one file of weights and try the backends on each; what is there already stays. The work is
    done as they are asked for.

    Raises Corrupt("voice_files_corrupt") for a file that is not the network's.
    """
    from appliance.contracts import VoiceAssets
    from appliance.engine.gpt_sovits.networks import Networks

    files = {role: weights} | ({f"{role}_config": config} if config else {})
    networks = Networks(None)
    network = getattr(networks, role)(VoiceAssets("export", ENGINE, files))
    sources = sources_of(role, weights, config)
    if role == "s1":
        from appliance.engine.gpt_sovits.s1_exports import export_s1

        yield from export_s1(network, sources, host)
        return
    for pupil in pupils_of(role, network):
        prepared = export(_described(pupil, sources[pupil.name]), host)
        open_network(prepared, host).close()  # the trial is made here and now, not when somebody waits
        yield prepared


def exam_rows(prepared: Prepared) -> list[JsonDict]:
    """What the manifest says of each file and backend, for people and for JSON."""
    found: list[JsonDict] = []
    for artifact in prepared.manifest.artifacts:
        file = {"network": prepared.manifest.source.network, "file": artifact.file, "precision": artifact.precision}
        for exam in artifact.exams:
            distance = None if exam.distance is None else float(f"{exam.distance:.3g}")
            facts = {"passed": exam.passed, "distance": distance, "tolerance": exam.tolerance, "reason": exam.reason}
            found.append({**file, "backend": exam.backend, "milliseconds": exam.milliseconds, **facts})
    return found


def pupils_of(role: str, network: object) -> Iterable[Pupil]:
    from appliance.engine.gpt_sovits import graphs

    return getattr(graphs, f"{role}_pupils")(network)  # type: ignore[no-any-return]


def _described(pupil: Pupil, source: Source) -> NetworkExport:
    from appliance.engine.gpt_sovits.graphs import EXAMS

    exam = EXAMS[pupil.name]
    return NetworkExport(
        source=source,
        module=pupil.graph.eval(),
        inputs=pupil.graph.inputs,
        outputs=pupil.graph.outputs,
        samples=pupil.samples,
        distance=relative_error,
        tolerance=exam.tolerance,
        arithmetic=exam.arithmetic,
        int8_weights=exam.int8_weights,
        write_more=pupil.write_more,
    )


def open_network(prepared: Prepared, host: EngineHost, graph: Graph | None = None) -> PlacedNetwork:
    """The network on the backend that suits this machine; with `graph` also those that run PyTorch are candidates.

    Raises Corrupt("artifact_corrupt"), Unavailable("backend_missing").
    """
    from appliance.engine.gpt_sovits.graphs import EXAMS

    source = prepared.manifest.source
    exam = EXAMS[source.network]
    modules = () if graph is None else (Artifact(prepared.folder, "torch", module=lambda: copy.deepcopy(graph)),)
    network = Network(
        engine=ENGINE,
        name=source.network,
        artifacts=(*prepared.artifacts, *modules),
        samples=lambda: prepared.exam()[0],
        distance=relative_error,
        tolerance=exam.tolerance,
        arithmetic=exam.arithmetic,
        answers=lambda: prepared.exam()[1],
        edition=prepared.folder.name.rpartition(".")[2][:12],
    )
    return place(network, host)
