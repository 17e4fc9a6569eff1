"""Finished clone jobs of a running box -> MLflow runs: parameters, curves, what the examination measured.

Reads the box over its own HTTP door and writes one run per job, found again by its tag, so that mirroring twice changes
nothing. MLflow's own telemetry is switched off before it is imported: nothing leaves the premises.
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from appliance.contracts import JsonDict
from appliance.errors import Unavailable
from appliance.messages import LANGUAGES, text

DEFAULT_URL = "http://127.0.0.1:8790"
TIMEOUT_S = 30.0
JOB_TAG, VERSION_TAG, VERDICT_TAG = "voiced.job", "voiced.version", "voiced.verdict"
SIDES = ("clone", "base", "speaker")


def mirror(arguments: argparse.Namespace) -> int:
    """Copy what is not there yet; prints how many runs. Exit 0, also when there was nothing to do."""
    client = _open_store(arguments.store)
    box = Box(arguments.url or DEFAULT_URL, arguments.token or "")
    new = [
        _copy(client, box, job) for job in box.items("/v1/jobs") if job["kind"] == "clone" and job["state"] == "done"
    ]
    language = arguments.lang or LANGUAGES[0]
    if arguments.json:
        print(json.dumps({"mirrored": sum(new), "known": len(new) - sum(new), "store": arguments.store}))
    else:
        print(text("mlflow.mirrored", language, new=sum(new), known=len(new) - sum(new), store=arguments.store))
    return 0


class Box:
    """The HTTP door of a running box."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str) -> JsonDict:
        """Raises Unavailable("mlflow_box_unreachable")."""
        request = urllib.request.Request(self._url + path, headers=self._headers)  # noqa: S310 - the operator's own box
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                return dict(json.load(answer))
        except (OSError, ValueError) as error:
            raise Unavailable("mlflow_box_unreachable", url=self._url, problem=str(error)[:120]) from error

    def items(self, path: str) -> Iterator[JsonDict]:
        """Of a collection, page by page."""
        cursor = ""
        while True:
            page = self.get(f"{path}?limit=100{cursor}")
            yield from page["items"]
            if not page["next"]:
                return
            cursor = f"&cursor={page['next']}"


def _open_store(address: str) -> Any:
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise Unavailable("mlflow_missing") from error
    return MlflowClient(tracking_uri=address)


def _copy(client: Any, box: Box, job: JsonDict) -> bool:
    """Whether the job was new to the store."""
    name = f"voiced/{job['spec']['voice']}"
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    if client.search_runs([experiment_id], filter_string=f"tags.`{JOB_TAG}` = '{job['id']}'"):
        return False
    result = job["result"]
    tags = {JOB_TAG: job["id"], VERSION_TAG: result["spec"], VERDICT_TAG: result["verdict"]}
    run_id = client.create_run(experiment_id, run_name=result["spec"], tags=tags).info.run_id
    for key, value in job["spec"].items():
        client.log_param(run_id, key, json.dumps(value) if isinstance(value, list | dict) else value)
    for curve in box.items(f"/v1/jobs/{job['id']}/curves"):
        for step, value in curve["points"]:
            client.log_metric(run_id, f"{curve['stage']}.{curve['name']}", value, step=int(step))
    for key, value in _figures(result["exam"]["summary"]):
        client.log_metric(run_id, f"exam.{key}", value)
    client.set_terminated(run_id)
    return True


def _figures(summary: JsonDict) -> Iterator[tuple[str, float]]:
    """The numbers of an examination by side; what was not measured is left out."""
    for side in SIDES:
        for name, value in (summary.get(side) or {}).items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            for part, number in parts:
                if isinstance(number, int | float):
                    yield f"{side}.{name}" + (f".{part}" if part else ""), float(number)
