"""The worker process: `python -m appliance.workers.process --fd N`.

It takes tasks from the daemon over a socketpair, holds the models, has no network, and shares nothing between tasks.
The daemon hands over one at a time, or several of an engine that makes them together (`Engine.parallel`); each has a
thread. One thread reads orders (so that a cancel is heard while a clause is spoken), one says every second that the
process still runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from appliance.contracts import Engine, EngineHost, JsonDict, Samples, TextFrontend, Transcriber, Transcript
from appliance.errors import InvalidInput, Unavailable, error_record
from appliance.framing import FramingError, read_frame, write_frame
from appliance.isolation import die_with_parent, leave_network
from appliance.plugin_manager import Plugins, load_plugins
from appliance.text.segments import language_of_code
from appliance.workers.late_trials import LateTrials
from appliance.workers.records import SPEAKER, WorkerSpec, report_as_json, speak_task_from_json, voice_from_json

log = logging.getLogger(__name__)
HEARTBEAT_S = 1.0
LISTEN_RATE = 16_000  # Hz; what recognisers work at
RECONSIDER: JsonDict = {"op": "reconsider"}  # an order of our own, never of the daemon
VERIFIERS = "gpt_sovits"  # the engine whose imported weights have a speaker network
MOST_TASKS = 16  # at once; more wait for a thread


class WorkerProcess:
    """Serves one daemon until it closes the socket."""

    def __init__(self, sock: socket.socket, spec: WorkerSpec) -> None:
        self._sock = sock
        self._spec = spec
        self._sending = threading.Lock()
        self._orders: queue.SimpleQueue[JsonDict | None] = queue.SimpleQueue()
        self._cancelled: dict[int, threading.Event] = {}
        self._engines: dict[str, Engine] = {}
        self._verifiers: dict[Path, Callable[[Samples], Samples]] = {}
        self._loading = threading.Lock()
        self._told: JsonDict = {}  # about placement, as last told to the daemon
        self._trials = LateTrials(spec, lambda: not self._cancelled, lambda: self._orders.put(RECONSIDER))

    def serve(self) -> None:
        """Load what the role needs, say `ready`, then work until the daemon is gone."""
        threading.Thread(target=self._read_orders, name="orders", daemon=True).start()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        if self._spec.role == SPEAKER:
            try:
                self._engine(self._spec.engine)
            except Exception as error:
                log.exception("the engine %s did not load", self._spec.engine)
                self._send({"event": "failed", "error": error_record(error)})
                return
        self._told = self._placements()
        self._send({"event": "ready", **self._told})
        self._trials.watch(self._spec.engine, self._told["placement"])
        with ThreadPoolExecutor(MOST_TASKS, "task") as tasks:
            while (order := self._orders.get()) is not None:
                if order is RECONSIDER:
                    self._reconsider()
                else:
                    tasks.submit(self._obey, order)

    def _reconsider(self) -> None:
        """Between tasks, move to the backends that were found to be better."""
        if self._cancelled:
            self._trials.ask_later()
            return
        for engine in self._engines.values():
            engine.reconsider()
        self._tell_placements()

    def _obey(self, order: JsonDict) -> None:
        task = int(order["task"])
        cancelled = self._cancelled[task]
        try:
            getattr(self, f"_do_{order['op']}")(order, cancelled)
        except Exception as error:
            record = error_record(error)
            if record["code"] == "internal_error":
                log.exception("task %s failed", order["op"])
            self._send({"event": "error", "task": task, "error": record})
        finally:
            del self._cancelled[task]

    def _do_speak(self, order: JsonDict, cancelled: threading.Event) -> None:
        speak = speak_task_from_json(order["speak"])
        timings: dict[str, float] = {}
        engine = self._engine(speak.voice.engine)
        self._tell_placements()
        require_language(engine, speak.language)
        for chunk in engine.speak(speak, cancelled):
            samples = np.ascontiguousarray(chunk.audio.samples, dtype=np.float32)
            timings.update(chunk.timings)
            header = {"event": "chunk", "task": order["task"], "rate": chunk.audio.sample_rate, "lufs": chunk.lufs}
            self._send({**header, "timings": dict(chunk.timings)}, samples.tobytes())
        self._send({"event": "done", "task": order["task"], "timings": timings})
        self._tell_placements()

    def _do_prepare(self, order: JsonDict, cancelled: threading.Event) -> None:
        voice = voice_from_json(order["voice"])
        self._engine(voice.engine).prepare(voice)
        self._send({"event": "done", "task": order["task"]})
        self._tell_placements()

    def _do_check(self, order: JsonDict, cancelled: threading.Event) -> None:
        from appliance.audio.quality import check_file

        report = check_file(Path(order["path"]), self._spec.intake)
        self._send({"event": "done", "task": order["task"], "report": report_as_json(report)})

    def _do_voiceprint(self, order: JsonDict, cancelled: threading.Event) -> None:
        from appliance.audio.files import read_audio, to_mono
        from appliance.audio.voiceprint import voiceprint
        from appliance.contracts import Audio

        decoded = read_audio(Path(order["path"]), max_duration_s=self._spec.intake.max_duration_s)
        embed = self._verifier(Path(order["weights"])) if order.get("weights") else None
        print_ = voiceprint(Audio(to_mono(decoded.samples), decoded.sample_rate), embed)
        self._send({"event": "done", "task": order["task"], "shape": print_.shape}, print_.astype("<f4").tobytes())

    def _verifier(self, weights: Path) -> Callable[[Samples], Samples]:
        """The imported speaker network; one at a time is kept."""
        if weights not in self._verifiers:
            self._verifiers = {weights: self._engine(VERIFIERS).verifier(weights)}
        return self._verifiers[weights]

    def _do_detect(self, order: JsonDict, cancelled: threading.Event) -> None:
        from appliance.audio.detection import detect_file

        found = detect_file(Path(order["path"]), bytes.fromhex(order["key"]), order["anchors"])
        self._send({"event": "done", "task": order["task"], "found": found})

    def _do_judge(self, order: JsonDict, cancelled: threading.Event) -> None:
        """A clip that was read from a prompt; what is refused for its sound is not listened to as well."""
        from appliance.audio.clip_checks import check_speaker, check_words
        from appliance.audio.quality import check_file

        path, limits = Path(order["path"]), self._spec.intake
        report, heard = check_file(path, limits), None
        if report.accepted:
            heard = self._hear(path, order["language"])
            report = check_words(report, order["prompt"], order["language"], heard, limits)
            report = check_speaker(report, path, [Path(one) for one in order["references"]], limits)
        told = {"report": report_as_json(report), "transcript": asdict(heard) if heard else None}
        self._send({"event": "done", "task": order["task"], **told})

    def _hear(self, path: Path, language: str) -> Transcript | None:
        from appliance.audio.files import mono_at, read_audio

        try:
            transcriber = self._transcriber
        except Unavailable:
            return None
        audio = mono_at(read_audio(path, max_duration_s=self._spec.intake.max_duration_s), LISTEN_RATE)
        return transcriber.transcribe(audio, language if language in transcriber.languages else None)

    def _do_cover(self, order: JsonDict, cancelled: threading.Event) -> None:
        from appliance.text.coverage import cover_all

        found = cover_all(order["texts"], self._host.frontends)
        self._send({"event": "done", "task": order["task"], "coverage": found})

    def _do_transcribe(self, order: JsonDict, cancelled: threading.Event) -> None:
        from appliance.audio.files import read_audio, to_mono
        from appliance.contracts import Audio

        decoded = read_audio(Path(order["path"]), max_duration_s=self._spec.intake.max_duration_s)
        audio = Audio(to_mono(decoded.samples), decoded.sample_rate)
        transcript = self._transcriber.transcribe(audio, order.get("language"))
        self._send({"event": "done", "task": order["task"], "transcript": asdict(transcript)})

    @cached_property
    def _plugins(self) -> Plugins:
        return load_plugins(self._spec.plugins, self._spec.drop_in_dir)

    @cached_property
    def _host(self) -> EngineHost:
        return replace(build_host(self._plugins, self._spec), measures=False)  # nobody waits for a trial

    @cached_property
    def _transcriber(self) -> Transcriber:
        factory = self._plugins.transcribers.get(self._spec.transcriber)
        if factory is None:
            raise Unavailable("transcriber_missing", transcriber=self._spec.transcriber)
        transcriber = factory()
        transcriber.load(self._spec.threads, self._spec.cache_dir)
        return transcriber

    def _engine(self, name: str) -> Engine:
        with self._loading:
            if name not in self._engines:
                factory = self._plugins.engines.get(name)
                if factory is None:
                    raise Unavailable("engine_missing", engine=name)
                engine = factory()
                engine.load(self._host)
                self._engines[name] = engine
            return self._engines[name]

    def _placements(self) -> JsonDict:
        """Which backend runs which network of the loaded engines, and why; how many tasks an engine makes together."""
        engines = dict(self._engines)
        rows = [{"engine": name, **row} for name, engine in engines.items() for row in engine.placement()]
        return {"placement": rows, "parallel": {name: engine.parallel for name, engine in engines.items()}}

    def _tell_placements(self) -> None:
        """After an engine was loaded, or a backend failed and another one took over."""
        if (placed := self._placements()) != self._told:
            self._told = placed
            self._send({"event": "placed", **placed})

    def _read_orders(self) -> None:
        try:
            while True:
                order, _ = read_frame(self._sock)
                if order["op"] == "cancel":
                    if event := self._cancelled.get(int(order["task"])):
                        event.set()
                else:
                    self._cancelled[int(order["task"])] = threading.Event()
                    self._orders.put(order)
        except (EOFError, FramingError, OSError):
            os._exit(0)  # the daemon is gone: nobody waits for what is being computed

    def _beat(self) -> None:
        while True:
            threading.Event().wait(HEARTBEAT_S)
            self._send({"event": "alive"})

    def _send(self, header: JsonDict, payload: bytes = b"") -> None:
        with self._sending:
            try:
                write_frame(self._sock, header, payload)
            except OSError:
                os._exit(0)


def require_language(engine: Engine, code: str) -> None:
    """Raises InvalidInput("language_not_spoken"): the rules of another one would speak nonsense."""
    if language_of_code(code) not in ("auto", *engine.languages):
        known = ", ".join(("auto", *engine.languages))
        raise InvalidInput("language_not_spoken", language=code, engine=engine.name, known=known)


def build_host(plugins: Plugins, spec: WorkerSpec) -> EngineHost:
    """Backends that the site allows, the preferred one first, and all front ends, as an engine may use them."""
    frontends: Mapping[str, TextFrontend] = {name: factory() for name, factory in plugins.frontends.items()}
    backends, drop_ins = plugins.make_backends(spec.backends), spec.plugins.drop_in_dir or spec.drop_in_dir
    return EngineHost(backends, frontends, spec.cache_dir, spec.threads, spec.prepares, drop_ins)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="voiced-worker")
    parser.add_argument("--fd", type=int, required=True)
    die_with_parent()
    has_left = leave_network()
    sock = socket.socket(fileno=parser.parse_args(argv).fd)
    record, _ = read_frame(sock)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="worker %(levelname)s %(name)s: %(message)s")
    if not has_left:
        log.info("the kernel does not let this process leave the network; the service unit has to forbid it")
    WorkerProcess(sock, WorkerSpec.from_json(record)).serve()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
