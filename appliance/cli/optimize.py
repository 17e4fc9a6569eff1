"""`voiced models optimize`: export weights for the backends of this box now, instead of when they first speak.

A job does it, like after an import: of the daemon, or of this command where it works alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from appliance.cli.jobs import follow
from appliance.contracts import JsonDict
from appliance.errors import VoicedError

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

COLUMNS = ("network", "file", "precision", "backend", "passed", "distance", "tolerance", "milliseconds", "reason")


def optimize(terminal: Terminal) -> int:
    """Exit 0 when every network of the named model or voice can be computed by a backend.

    Raises NotFound("model_not_imported"), InvalidInput("optimise_nothing"), Unavailable("daemon_unreachable").
    """
    which, backends = terminal.arguments.model, terminal.arguments.backend or []
    if terminal.works_alone:
        from appliance.cli.alone import Alone

        with terminal.err.status(terminal.sentence("cli.exporting", model=which)):
            job = Alone(terminal.settings, terminal.language).optimize(which, backends)
    else:
        job = _ask(terminal, which, {"backends": backends})
        terminal.tell("cli.job_queued", id=job["id"])
        job = follow(terminal, job["id"])
    rows: list[JsonDict] = (job["result"] or {}).get("networks", [])
    if terminal.as_json:
        terminal.document({"job": job["id"], "state": job["state"], "error": job["error"], "items": rows, "next": None})
    else:
        terminal.table(COLUMNS, [["–" if row[column] is None else row[column] for column in COLUMNS] for row in rows])
        if error := job["error"]:
            terminal.err.print(f"{error['message']}\n  → {error['remedy']}", markup=False)
    networks = {(row["model"], row["network"]) for row in rows}
    return 0 if networks and networks == {(row["model"], row["network"]) for row in rows if row["passed"]} else 1


def _ask(terminal: Terminal, which: str, order: JsonDict) -> JsonDict:
    """The daemon's job for the model of this id or name, or else for the voice."""
    client, name = terminal.client, quote(which, safe="")
    try:
        job: JsonDict = client.post(f"/v1/weights/{name}/optimize", order)
    except VoicedError as error:
        if error.code != "model_not_imported":
            raise
        try:
            job = client.post(f"/v1/voices/{name}/optimize", order)
        except VoicedError as other:
            raise (error if other.code == "voice_not_found" else other) from other
    return job
