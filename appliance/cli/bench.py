"""`voiced bench`: how fast this machine speaks, and where the time goes. Works alone, without a daemon."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.progress import track

from appliance.cli import add_common
from appliance.cli.bench_peer import PEERS, Peer
from appliance.cli.machine import describe_machine
from appliance.cli.scratch import scratch_folder
from appliance.contracts import Engine, JsonDict, SpeakTask, StarterVoice, VoiceAssets
from appliance.engine.gpt_sovits.pairing import ENGINE
from appliance.engine.placement_records import UNUSABLE
from appliance.errors import NotFound, Unavailable
from appliance.plugin_manager import Plugins, load_plugins
from appliance.text.clauses import split_clauses
from appliance.workers.process import build_host
from appliance.workers.records import SPEAKER, WorkerSpec

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal
    from appliance.settings import Settings

MODELS = ("v2", "v2Pro", "v2ProPlus")
WORKLOADS = {  # name -> text; the Chinese ones are 10 and 60 characters without punctuation
    "SHORT": "您好，欢迎光临我们店里。",
    "LONG": (
        "各位顾客请注意，本店将于今晚九点三十分停止营业，请您抓紧时间选购商品，"
        "并请到一楼收银台结账，感谢您的光临，祝您生活愉快，我们明天再见。"
    ),
    "EN": "The library will close in fifteen minutes. Please bring your books to the front desk.",
}


@dataclass(frozen=True)
class Run:
    """One workload spoken once. Times in ms since the text was handed over."""

    first_sound_ms: float
    total_ms: float
    audio_s: float
    stages: Mapping[str, float]  # ms per stage, summed over clauses


def configure(name: str, command: argparse.ArgumentParser) -> None:
    add_common(command)
    command.add_argument("--engine", help="engine to measure (default: the box's)")
    command.add_argument("--voice", help="starter voice (default: the engine's first)")
    command.add_argument(
        "--runs", type=int, default=5, help="runs per workload, after one that is not counted (default 5)"
    )
    command.add_argument("--threads", type=int, help="threads (default: as the box would use)")
    command.add_argument(
        "--backend", action="append", help="backend to measure; more than one: they are tried, and the fastest is taken"
    )
    command.add_argument("--model", default="v2", choices=MODELS, help="gpt_sovits: sizes of the networks (default v2)")
    command.add_argument("--users", type=int, action="append", help="gpt_sovits: speak for so many at once, too")
    command.add_argument("--voices", type=int, default=1, help="gpt_sovits: memory of so many voices of one base model")
    command.add_argument("--peer", choices=PEERS, help="gpt_sovits: time another engine in turns with ours")
    command.add_argument("--peer-python", default=sys.executable, help="the Python that the peer is installed in")
    command.add_argument("--plot", type=Path, help="gpt_sovits: write the stages as an SVG picture")
    command.set_defaults(command=bench)


def bench(terminal: Terminal) -> int:
    """Medians per workload. Raises Unavailable when the engine is absent, NotFound("starter_voice_not_found")."""
    given = terminal.arguments
    settings, facts = terminal.settings, describe_machine()
    plugins = load_plugins(settings.plugins, settings.state_dir / "plugins")
    name = given.engine or settings.engine.default
    if name not in plugins.engines:
        raise Unavailable("engine_missing", engine=name)
    if name == ENGINE:
        return _bench_fixed(terminal, plugins)
    engine = plugins.engines[name]()
    with scratch_folder("bench") as folder:
        spec = _spec(settings, name, given.threads, _cache_dir(settings, folder))
        spec = replace(spec, backends=tuple(given.backend or spec.backends))
        # As a speaker opens it, on what was measured or the first one; several names ask for a trial here and now.
        host = replace(build_host(plugins, spec), measures=len(given.backend or ()) > 1)
        started = time.perf_counter()
        with terminal.err.status(terminal.sentence("cli.loading", engine=name)):
            engine.load(host)
        load_ms = 1000 * (time.perf_counter() - started)
        try:
            voice = _starter(engine, given.voice, folder)
            rows = [_measure(terminal, engine, voice, workload, max(1, given.runs)) for workload in WORKLOADS]
            placement = list(engine.placement())
        finally:
            engine.close()
    document = {
        "machine": {**facts, "threads": spec.threads, "backends": _backends(plugins, spec)},
        "engine": {"name": name, "voice": voice.key, "load_ms": round(load_ms, 1), "peak_rss_mb": _peak_rss_mb()},
        "placement": placement,
        "runs": max(1, given.runs),
        "workloads": rows,
        "peers": [],
    }
    if terminal.as_json:
        terminal.document(document)
    else:
        _print(terminal, document)
    return 0


def _bench_fixed(terminal: Terminal, plugins: Plugins) -> int:
    """GPT-SoVITS: fixed workloads on synthetic weights, which lie in the box's cache afterwards (2.5 GB)."""
    from appliance.cli.bench_gpt_sovits import plot_svg

    given, settings = terminal.arguments, terminal.settings
    with scratch_folder("bench") as folder:
        spec = _spec(settings, ENGINE, given.threads, _cache_dir(settings, folder))
        spec = replace(spec, backends=tuple(given.backend or spec.backends))
        document = _measure_fixed(terminal, plugins, spec, folder / "peer")
    rows, peers, voices = document["workloads"], document["peers"], document["voices"]
    if given.plot:
        given.plot.write_text(plot_svg(rows, peers), encoding="utf-8")
    if terminal.as_json:
        terminal.document(document)
        return 0
    _print(terminal, document)
    columns = ("name", "workload", "total_ms", "rtf", "ratio", "ratio_with_bert")
    told = [[*(peer.get(column) for column in columns), peer.get("reason") or peer.get("note")] for peer in peers]
    terminal.table((*columns, "note"), told)
    if voices:
        kinds = ("pss_mb", "rss_mb")
        ends = [[1, *(voices[kind][0] for kind in kinds), 1.0]]
        ends += [[voices["count"], *(voices[kind][-1] for kind in kinds), voices["ratio"]]]
        terminal.table(("voices", *kinds, "ratio"), ends)
    return 0


def _measure_fixed(terminal: Terminal, plugins: Plugins, spec: WorkerSpec, folder: Path) -> JsonDict:
    from appliance.cli.bench_gpt_sovits import LISTENER, ROLES, Bench, make_voice
    from appliance.cli.bench_voices import measure_voices

    given, drawn, host = terminal.arguments, spec.cache_dir / "synthetic", build_host(plugins, spec)
    voices = None
    with terminal.err.status(terminal.sentence("cli.loading", engine=ENGINE)):
        voice = make_voice(drawn, host, given.model, (*ROLES, LISTENER) if given.voices > 1 else ROLES)
        if given.voices > 1:  # before this process holds any: pages that both map would count by halves
            held = replace(spec, prepares=False)
            voices = measure_voices(held, given.model, drawn, WORKLOADS["SHORT"], given.voices)
        measured = Bench(voice, replace(host, measures=False, prepares=False), given.model)  # as a worker opens it
        peer = Peer(given.peer_python, voice, given.model, folder) if given.peer else None
    rows, peers = measured.measure(max(1, given.runs), given.users or (), peer)
    if peer:
        peer.close()
    engine = {"name": ENGINE, "voice": voice.key, "load_ms": round(measured.load_ms, 1)}
    return {
        "machine": {**describe_machine(), "threads": spec.threads, "backends": _backends(plugins, spec)},
        "engine": engine | {"peak_rss_mb": round(measured.memory_mb, 1)},
        "placement": measured.placement(),
        "runs": max(1, given.runs),
        "workloads": rows,
        "peers": peers,
        "voices": voices,
    }


def _spec(settings: Settings, engine: str, threads: int | None, cache_dir: Path) -> WorkerSpec:
    """A speaker as the box would start it."""
    from appliance.daemon import worker_spec
    from appliance.state_dir import StateDir

    spec = worker_spec(settings, StateDir(settings.state_dir))
    return replace(spec, role=SPEAKER, engine=engine, threads=threads or spec.threads, cache_dir=cache_dir)


def _cache_dir(settings: Settings, folder: Path) -> Path:
    """The box's own cache of prepared graphs where it may be used, else a throw-away one."""
    cache = settings.state_dir / "cache"
    if cache.is_dir() and os.access(cache, os.W_OK):
        return cache
    (folder / "cache").mkdir()
    return folder / "cache"


def _starter(engine: Engine, wanted: str | None, folder: Path) -> VoiceAssets:
    starters = engine.starter_voices()
    chosen: StarterVoice | None = next((voice for voice in starters if wanted in {None, voice.name}), None)
    if chosen is None:
        raise NotFound(
            "starter_voice_not_found", voice=wanted or "–", known=", ".join(voice.name for voice in starters)
        )
    files = {}
    for role, content in chosen.files.items():
        files[role] = folder / role
        files[role].write_bytes(content)
    return VoiceAssets(f"starter:{chosen.name}", engine.name, files, chosen.settings)


def _measure(terminal: Terminal, engine: Engine, voice: VoiceAssets, workload: str, runs: int) -> JsonDict:
    speak_once(engine, voice, WORKLOADS[workload])  # the first one still warms caches and memory pools
    if terminal.as_json:
        done = [speak_once(engine, voice, WORKLOADS[workload]) for _ in range(runs)]
    else:
        bar = track(range(runs), description=f"{workload:<6}", console=terminal.err, transient=True)
        done = [speak_once(engine, voice, WORKLOADS[workload]) for _ in bar]
    return {"name": workload, "text": WORKLOADS[workload], **summary(done)}


def speak_once(engine: Engine, voice: VoiceAssets, text: str) -> Run:
    """Speak `text` clause by clause, as the box does."""
    began = time.perf_counter()
    first_ms, audio_s = 0.0, 0.0
    stages: defaultdict[str, float] = defaultdict(float)
    for clause in split_clauses(text):
        for chunk in engine.speak(SpeakTask(clause, voice), threading.Event()):
            first_ms = first_ms or 1000 * (time.perf_counter() - began)
            audio_s += chunk.audio.duration_s
            for stage, milliseconds in chunk.timings.items():
                stages[stage] += milliseconds
    return Run(first_ms, 1000 * (time.perf_counter() - began), audio_s, dict(stages))


def summary(runs: Sequence[Run]) -> JsonDict:
    """Medians over runs; rtf is time of computing over time of sound."""
    names = list(dict.fromkeys(stage for run in runs for stage in run.stages))
    return {
        "first_sound_ms": round(median(run.first_sound_ms for run in runs), 1),
        "total_ms": round(median(run.total_ms for run in runs), 1),
        "audio_s": round(median(run.audio_s for run in runs), 3),
        "rtf": round(median(run.total_ms / 1000 / run.audio_s for run in runs if run.audio_s), 4),
        "stages": {name: round(median(run.stages.get(name, 0.0) for run in runs), 1) for name in names},
    }


def _backends(plugins: Plugins, spec: WorkerSpec) -> JsonDict:
    """Versions of the runtimes that an engine may choose from."""
    probes = {name: backend.probe() for name, backend in plugins.make_backends(spec.backends).items()}
    return {name: probe.version for name, probe in probes.items() if probe.usable}


def _peak_rss_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _print(terminal: Terminal, document: JsonDict) -> None:
    facts = document["machine"]
    terminal.tell(
        "cli.bench_machine",
        cpu=facts["cpu"],
        cores=facts["cores"],
        threads=facts["threads"],
        load=facts["load_average"],
    )
    engine = document["engine"]
    terminal.tell(
        "cli.bench_engine",
        engine=engine["name"],
        voice=engine["voice"],
        load_ms=engine["load_ms"],
        rss=engine["peak_rss_mb"],
    )
    if placed := [row for row in document["placement"] if row["state"] != UNUSABLE]:
        kinds = ("network", "backend", "precision", "state", "milliseconds")
        terminal.table(kinds, [[row[kind] for kind in kinds] for row in placed])
    rows = []
    for row in document["workloads"]:
        total = sum(row["stages"].values()) or 1.0
        stages = ", ".join(f"{name} {value:.0f} ms ({value / total:.0%})" for name, value in row["stages"].items())
        rows.append([row["name"], row["first_sound_ms"], row["total_ms"], row["audio_s"], row["rtf"], stages])
    terminal.table(("workload", "first_sound_ms", "total_ms", "audio_s", "rtf", "stages"), rows)
