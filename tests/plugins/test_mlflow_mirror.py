"""Finished trainings are copied into an MLflow store, once, and nothing else leaves the box."""

from __future__ import annotations

import json
import threading
from argparse import Namespace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from appliance_plugins.mlflow_mirror.mirror import mirror

from appliance.errors import Unavailable

EXAM = {"summary": {"clone": {"llr": 3.5, "error": {"en": 0.1, "zh": None}}, "base": {"llr": -1.0}}}
JOB = {
    "id": "job_1",
    "kind": "clone",
    "state": "done",
    "spec": {"voice": "anna", "steps": 3, "seed": 7, "recordings": ["rec_1"]},
    "result": {"spec": "anna@2", "verdict": "passed", "exam": EXAM},
}
CURVE = {"stage": "fit", "name": "loss", "points": [[1, 2.0], [2, 1.0]]}
PAGES = {"/v1/jobs": [JOB, {**JOB, "id": "job_2", "state": "failed"}], "/v1/jobs/job_1/curves": [CURVE]}


@pytest.fixture
def box_url():
    class Door(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"items": PAGES[self.path.partition("?")[0]], "next": None}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_training_becomes_one_run_with_parameters_curves_and_figures(box_url: str, tmp_path: Path, capsys) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="the extra mlflow is not installed")
    pytest.importorskip("alembic", reason="the extra mlflow is not installed")
    store = f"sqlite:///{tmp_path}/runs.db"
    asked = Namespace(store=store, url=box_url, token=None, lang="en", json=True)
    told = []
    for _ in range(2):
        assert mirror(asked) == 0
        told.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert [(one["mirrored"], one["known"]) for one in told] == [(1, 0), (0, 1)]
    client = tracking.MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("voiced/anna")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["steps"] == "3" and run.data.params["recordings"] == '["rec_1"]'
    assert run.data.tags["voiced.version"] == "anna@2" and run.data.metrics["exam.clone.llr"] == 3.5
    assert (
        run.data.metrics["exam.clone.error.en"] == pytest.approx(0.1) and "exam.clone.error.zh" not in run.data.metrics
    )
    assert [point.value for point in client.get_metric_history(run.info.run_id, "fit.loss")] == [2.0, 1.0]


def test_a_box_that_is_not_there_is_an_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance_plugins.mlflow_mirror.mirror._open_store", lambda address: None)
    asked = Namespace(store="", url="http://127.0.0.1:9", token=None, lang="en", json=False)
    with pytest.raises(Unavailable) as refused:
        mirror(asked)
    assert refused.value.code == "mlflow_box_unreachable" and refused.value.remedy("zh") != refused.value.remedy("en")
