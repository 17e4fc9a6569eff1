"""The child of a job: `python -m appliance.jobs.child --fd N`.

It reads one line of JSON (a `ChildSpec`) from the daemon and answers with JSON lines: `progress`, then `done` or
`failed`. Before it touches anything it leaves the network, becomes nice and ties its life to the daemon's. It writes
only under its job folder and the cache, so it can be killed at any moment: the next child goes on from there.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO, cast

from appliance.contracts import JsonDict
from appliance.errors import Unavailable, error_record
from appliance.isolation import die_with_parent, leave_network, step_back
from appliance.jobs.records import IMPORT, OPTIMIZE, SLICE, ChildSpec
from appliance.jobs.reporting import Reporter

log = logging.getLogger(__name__)


def serve(stream: BinaryIO) -> int:
    """Read the spec, work, answer. A failure that is told ends with status 0: it is an answer, not a crash."""
    reporter = Reporter(stream)
    reporter.tell("started", pid=os.getpid())
    spec = ChildSpec.from_json(json.loads(stream.readline()))
    step_back(spec.nice, spec.memory_mb)
    try:
        reporter.tell("done", result=_work_of(spec.kind)(spec, reporter))
    except Exception as error:
        log.exception("the job failed")
        reporter.tell("failed", error=error_record(_as_told(error)))
    return 0


def _work_of(kind: str) -> Callable[[ChildSpec, Reporter], JsonDict]:
    """The work of one kind of job; a job imports no more than it needs."""
    if kind == IMPORT:
        from appliance.jobs import import_child

        return import_child.run
    if kind == SLICE:
        from appliance.jobs import slice_child

        return slice_child.run
    if kind == OPTIMIZE:
        from appliance.jobs import optimize_child

        return optimize_child.run
    from appliance.jobs import clone_child

    return clone_child.run


def _as_told(error: Exception) -> Exception:
    """Trouble of the machine in the words of the catalogue."""
    if isinstance(error, OSError) and error.errno in (28, 122, 5, 30):  # ENOSPC, EDQUOT, EIO, EROFS
        from appliance.errors import StorageFull

        return StorageFull("storage_full", path=error.filename or "", free_mb=0)
    is_short = isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _speaks_of_memory(str(error)))
    return Unavailable("job_out_of_memory") if is_short else error


def _speaks_of_memory(words: str) -> bool:
    """As torch says it, of the processor's memory and of a GPU's."""
    return "can't allocate memory" in words or "out of memory" in words


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="voiced-job")
    parser.add_argument("--fd", type=int, required=True)
    descriptor = parser.parse_args(argv).fd
    die_with_parent()
    has_left = leave_network()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if not has_left:
        log.info("the kernel does not let this process leave the network; the service unit has to forbid it")
    with socket.socket(fileno=descriptor) as sock, sock.makefile("rwb") as stream:
        return serve(cast("BinaryIO", stream))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
