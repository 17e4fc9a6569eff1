"""`voiced bench --voices`: the memory of voices of one base model, held by one process as a worker holds them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from appliance.cli.machine import resident_mb
from appliance.contracts import Engine, JsonDict, SpeakTask, VoiceAssets
from appliance.engine.gpt_sovits.pairing import ENGINE
from appliance.plugin_manager import load_plugins
from appliance.workers.process import build_host
from appliance.workers.records import WorkerSpec

BESIDE = ("lengths", "open ")  # what the names of the engine's threads that prepare something begin with
LONGEST_S = 60.0  # that is waited for each of them


def measure_voices(spec: WorkerSpec, version: str, folder: Path, text: str, count: int) -> JsonDict:
    """As `hold`, in a process of its own, of `count` voices that share the drawn networks under `folder`."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        return apart.submit(_hold_apart, spec, version, folder, text, count).result()


def _hold_apart(spec: WorkerSpec, version: str, folder: Path, text: str, count: int) -> JsonDict:
    from appliance.engine.gpt_sovits.synthetic import synthetic_voice

    plugins = load_plugins(spec.plugins, spec.drop_in_dir)
    engine = plugins.engines[ENGINE]()
    engine.load(build_host(plugins, spec))
    try:
        return hold(engine, [synthetic_voice(folder, version, speaker) for speaker in range(count)], text)
    finally:
        engine.close()


def hold(engine: Engine, voices: Sequence[VoiceAssets], text: str) -> JsonDict:
    """Memory of this process in MiB after each further one of `voices` has spoken `text` once, and the last figure
    over the first ("ratio", of "pss").

    `engine` is loaded. Raises what `Engine.speak` raises.
    """
    figures = []
    for number, voice in enumerate(voices):
        for _ in engine.speak(SpeakTask(text, voice, "zh", seed=number), threading.Event()):
            pass
        _settle()
        figures.append(resident_mb())
    pss, rss = ([one[kind] for one in figures] for kind in ("pss", "rss"))
    return {"count": len(voices), "pss_mb": pss, "rss_mb": rss, "ratio": round(pss[-1] / pss[0], 3) if pss[0] else None}


def _settle() -> None:
    """Wait for what the engine does beside the speech: its memory is not the next voice's."""
    for thread in threading.enumerate():
        if thread.name.startswith(BESIDE):
            thread.join(LONGEST_S)
