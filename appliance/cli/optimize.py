"""`voiced models optimize`: export imported weights for the backends of this box now, instead of when they first speak.

Works beside a running daemon: what it writes is the cache, whose folders appear whole.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from appliance.contracts import JsonDict
from appliance.errors import NotFound, Unavailable, VoicedError

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal
    from appliance.engine.artifact_store import Prepared

COLUMNS = ("network", "file", "precision", "backend", "passed", "distance", "tolerance", "milliseconds", "reason")


def optimize(terminal: Terminal) -> int:
    """Exit 0 when every network of the named models can be computed by a backend.

    Raises NotFound("model_not_imported"), Unavailable("optimise_not_here", "gpt_sovits_library_missing").
    """
    from appliance.engine.gpt_sovits.exports import PARTS

    models = _named(terminal, terminal.arguments.model)
    rows: list[JsonDict] = []
    for model in models:
        if model["kind"] in PARTS:
            with terminal.err.status(terminal.sentence("cli.exporting", model=model["name"])):
                for prepared in _export(terminal, model):
                    rows += _rows(prepared)
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
    else:
        terminal.table(COLUMNS, [["–" if row[column] is None else row[column] for column in COLUMNS] for row in rows])
    networks = {row["network"] for row in rows}
    return 0 if networks and networks == {row["network"] for row in rows if row["passed"]} else 1


def _export(terminal: Terminal, model: JsonDict) -> list[Prepared]:
    from appliance.daemon import worker_spec
    from appliance.engine.gpt_sovits.exports import export_file
    from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine
    from appliance.plugin_manager import load_plugins
    from appliance.state_dir import StateDir
    from appliance.voices.blobs import BlobStore
    from appliance.workers.process import build_host

    probe = GptSovitsEngine().probe()
    if not probe.usable:
        raise Unavailable("gpt_sovits_library_missing", reason=probe.reason)
    settings, state = terminal.settings, StateDir(terminal.settings.state_dir)
    spec = worker_spec(settings, state)
    spec = replace(spec, backends=tuple(terminal.arguments.backend or spec.backends))
    host = build_host(load_plugins(settings.plugins, state.plugins), spec)
    try:
        blobs = BlobStore(state.blobs)
        weights, config = (blobs.path(model["files"][role]) for role in ("weights", "config"))
    except (NotFound, OSError) as error:
        raise Unavailable("optimise_not_here", path=str(state.root)) from error
    return export_file(model["kind"], weights, config, host)


def _rows(prepared: Prepared) -> list[JsonDict]:
    found: list[JsonDict] = []
    for artifact in prepared.manifest.artifacts:
        file = {"network": prepared.manifest.source.network, "file": artifact.file, "precision": artifact.precision}
        for exam in artifact.exams:
            distance = None if exam.distance is None else float(f"{exam.distance:.3g}")
            facts = {"passed": exam.passed, "distance": distance, "tolerance": exam.tolerance, "reason": exam.reason}
            found.append({**file, "backend": exam.backend, "milliseconds": exam.milliseconds, **facts})
    return found


def _named(terminal: Terminal, which: str) -> list[JsonDict]:
    """The model of this id or name, or those that a voice speaks with."""
    from appliance.cli.alone import Alone

    if terminal.works_alone:
        return Alone(terminal.settings, terminal.language).models_behind(which)
    try:
        return [terminal.client.get(f"/v1/weights/{quote(which, safe='')}")]
    except VoicedError as error:
        with contextlib.suppress(VoicedError):
            versions = terminal.client.get(f"/v1/voices/{quote(which, safe='')}/versions")["items"]
            ids = versions[0]["lineage"].get("weights", {}).values() if versions else ()
            if ids:
                return [terminal.client.get(f"/v1/weights/{quote(one, safe='')}") for one in ids]
        raise error
