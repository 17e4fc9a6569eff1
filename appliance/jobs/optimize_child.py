"""The work of an optimize job, in its child: export every network, try the backends on it, tell what was found."""

from __future__ import annotations

from pathlib import Path

from appliance.contracts import EngineHost, JsonDict
from appliance.engine.gpt_sovits.exports import PARTS, exam_rows, export_parts
from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine
from appliance.errors import Unavailable
from appliance.jobs.records import ChildSpec, OptimizeTask
from appliance.jobs.reporting import Reporter
from appliance.plugin_manager import load_plugins
from appliance.settings import PluginSettings


def run(spec: ChildSpec, reporter: Reporter) -> JsonDict:
    """The `done` message: `networks`, one row per network, file and backend, with the exam's outcome.

    Raises Unavailable("gpt_sovits_library_missing"), Corrupt("voice_files_corrupt").
    """
    task = OptimizeTask.from_json(spec.task)
    probe = GptSovitsEngine().probe()
    if not probe.usable:
        raise Unavailable("gpt_sovits_library_missing", reason=probe.reason)
    import torch

    torch.set_num_threads(spec.threads)
    plugins = load_plugins(PluginSettings.model_validate(task.plugins), Path(task.drop_in_dir))
    host = EngineHost(plugins.make_backends(task.backends), {}, Path(task.cache_dir), spec.threads)
    total = sum(len(PARTS[file["role"]]) for file in task.files)
    rows: list[JsonDict] = []
    done = 0
    for file in task.files:
        reporter.progress("export", 0.98 * done / total)
        config = Path(file["config"]) if file["config"] else None
        for prepared in export_parts(file["role"], Path(file["weights"]), config, host):
            rows += [{"model": file["name"], **row} for row in exam_rows(prepared) if row["backend"] in host.backends]
            done += 1
            reporter.progress("export", 0.98 * done / total)
    return {"networks": rows}
