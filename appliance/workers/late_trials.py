"""Backends are compared while nobody waits: a worker starts with what it has; once it idles, a child measures the rest.

`python -m appliance.workers.late_trials` is that child, told what to do on its standard input: niced, without network,
gone with its parent. It loads the engine as the worker did, but with trials, whose outcome lies in the cache folder for
this and all later starts.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from appliance.contracts import UNTRIED, JsonDict
from appliance.isolation import die_with_parent, leave_network, step_back
from appliance.plugin_manager import load_plugins
from appliance.workers.records import WorkerSpec

log = logging.getLogger(__name__)
NICE = 15
LOOK_EVERY_S = 1.0
PATIENCE_S = 600.0  # for a machine that is never quiet: a trial beside other work is repeated later


class LateTrials:
    """Of one worker process. `is_idle` says whether it has no task; `done` is called in a thread of its own."""

    def __init__(self, spec: WorkerSpec, is_idle: Callable[[], bool], done: Callable[[], None]) -> None:
        self._spec = spec
        self._is_idle = is_idle
        self._done = done

    def watch(self, engine: str, placement: Sequence[JsonDict]) -> None:
        """Measure what is untried, when it is quiet; returns at once. Once per process: what fails is not repeated."""
        if self._spec.prepares and any(row["state"] == UNTRIED for row in placement):
            threading.Thread(target=self._measure, args=(engine,), name="late trials", daemon=True).start()

    def ask_later(self) -> None:
        """Call `done` again in a moment."""
        timer = threading.Timer(LOOK_EVERY_S, self._done)
        timer.daemon = True
        timer.start()

    def _measure(self, engine: str) -> None:
        self._wait_for_quiet()
        order = json.dumps({**self._spec.as_json(), "engine": engine})
        command = [sys.executable, "-m", __name__]
        try:
            ended = subprocess.run(command, input=order, text=True, check=False)
        except OSError as error:
            log.warning("backends are not compared: %s", error)
            return
        if ended.returncode == 0:
            self._done()
        else:
            log.warning("backends were not compared: the child ended with %d", ended.returncode)

    def _wait_for_quiet(self) -> None:
        began = last_busy = time.monotonic()
        while (now := time.monotonic()) - last_busy < self._spec.quiet_s:
            if not self._is_idle() or (_is_machine_busy() and now - began < PATIENCE_S):
                last_busy = now
            time.sleep(min(LOOK_EVERY_S, self._spec.quiet_s))


def _is_machine_busy() -> bool:
    return os.getloadavg()[0] > (os.cpu_count() or 1) / 2


def compare(spec: WorkerSpec) -> None:
    """Load the engine once, with trials."""
    from appliance.workers.process import build_host

    plugins = load_plugins(spec.plugins, spec.drop_in_dir)
    engine = plugins.engines[spec.engine]()
    engine.load(build_host(plugins, spec))
    engine.close()


def main() -> int:
    die_with_parent()
    leave_network()
    step_back(NICE)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="trials %(levelname)s %(name)s: %(message)s")
    compare(WorkerSpec.from_json(json.loads(sys.stdin.read())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
