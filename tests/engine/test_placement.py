"""Placement with real sessions: who is chosen, who is refused, who takes over, and what is remembered."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend

from appliance.contracts import Backend, EngineHost, Probe
from appliance.engine import placement_cache
from appliance.engine.placement import place
from appliance.engine.placement_cache import known_placements
from appliance.errors import Corrupt, Unavailable

pytest.importorskip("onnx")
DROP_INS = str(Path(__file__).parents[1] / "drop_ins")
sys.path.insert(0, DROP_INS)
from matrix_engine import doubler  # noqa: E402
from weary_backends import LONGEST, BrittleBackend, SluggishBackend, _Session  # noqa: E402


class AbsentBackend(OnnxRuntimeBackend):
    def probe(self):
        return Probe(usable=False, reason="no such hardware")


class WrongBackend(OnnxRuntimeBackend):
    """Adds a little to everything."""

    def load(self, artifact, options):
        inner = super().load(artifact, options)
        session = _Session(inner, is_brittle=True)
        session.run = lambda feeds: {name: values + 0.1 for name, values in inner.run(feeds).items()}
        return session


class BrokenBackend(OnnxRuntimeBackend):
    def load(self, artifact, options):
        raise RuntimeError("driver and library versions differ\nsee the log")


class CountingBackend(OnnxRuntimeBackend):
    loads = 0

    def load(self, artifact, options):
        self.loads += 1
        return super().load(artifact, options)


def host(folder: Path, **backends: Backend) -> EngineHost:
    return EngineHost(backends, {}, folder)


def states(placed) -> dict[str, str]:
    return {record.backend: record.state for record in placed.records}


def test_the_fastest_that_computes_the_same_is_chosen_and_each_other_one_has_a_reason(tmp_path):
    candidates = {"slow": SluggishBackend(), "good": OnnxRuntimeBackend(), "wrong": WrongBackend()}
    placed = place(doubler(tmp_path), host(tmp_path, **candidates, broken=BrokenBackend(), absent=AbsentBackend()))
    assert states(placed) == {
        "slow": "slower", "good": "chosen", "wrong": "differs", "broken": "failed", "absent": "unusable"
    }  # fmt: skip
    rows = {record.backend: record for record in placed.records}
    assert rows["slow"].milliseconds > 100 > rows["good"].milliseconds > 0
    assert "0.1 away from slow" in rows["wrong"].reason
    assert rows["broken"].reason == "driver and library versions differ"
    assert rows["absent"].reason == "no such hardware"
    assert np.array_equal(placed.run({"x": np.ones(3, np.float32)})["y"], np.full(3, 2, np.float32))


def test_a_backend_of_another_network_is_not_mentioned_and_one_that_an_export_would_serve_is(tmp_path):
    backends = {"good": OnnxRuntimeBackend(), "theirs": OnnxRuntimeBackend(), "graphs": OnnxRuntimeBackend()}
    backends["theirs"].formats, backends["graphs"].formats = ("s1_arrays",), ("torch",)
    for measures in (True, False):
        placed = place(doubler(tmp_path), replace(host(tmp_path, **backends), measures=measures))
        assert states(placed)["good"] == "chosen" and "theirs" not in states(placed)
        assert "graphs" in states(placed)
    with pytest.raises(Unavailable, match="backend_missing") as caught:
        place(doubler(tmp_path), host(tmp_path, theirs=backends["theirs"]))
    assert "does not read onnx" in caught.value.message()


def test_a_single_name_is_taken_without_a_trial(tmp_path):
    backend = CountingBackend()
    placed = place(doubler(tmp_path), host(tmp_path, only=backend))
    assert states(placed) == {"only": "chosen"} and backend.loads == 1
    assert placed.records[0].milliseconds is None and not (tmp_path / placement_cache.FOLDER).exists()


def test_the_outcome_is_kept_until_graph_or_version_changes(tmp_path):
    backend = CountingBackend()
    both = host(tmp_path, slow=SluggishBackend(), counted=backend)
    network = doubler(tmp_path)
    first = place(network, both)
    assert backend.loads == 2  # trial, use
    assert place(network, both).records == first.records and backend.loads == 3
    other = replace(network.artifacts[0], sha256="")
    place(replace(network, artifacts=(other,)), both)
    assert backend.loads == 5
    assert {row["backend"] for row in known_placements(tmp_path, "matrix")} == {"slow", "counted"}
    (file,) = (tmp_path / placement_cache.FOLDER).glob("*.json")
    file.write_text('{"key": 7', encoding="utf-8")  # a torn file is measured anew
    assert states(place(network, both))["counted"] == "chosen" and backend.loads == 7
    assert known_placements(tmp_path, "another") == ()


def test_what_was_measured_on_a_busy_machine_is_measured_again_on_a_quiet_one(tmp_path, monkeypatch):
    backend = CountingBackend()
    both, network = host(tmp_path, slow=SluggishBackend(), counted=backend), doubler(tmp_path)
    loads = []
    for load in (9.0, 8.0, 4.0, 0.2, 9.0):  # per core
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load * os.cpu_count(), 0.0, 0.0))
        place(network, both)
        loads.append(backend.loads)
    assert loads == [2, 3, 5, 7, 8]  # a trial and a use each, or a use alone


def test_another_backend_takes_over_and_stays(tmp_path):
    placed = place(doubler(tmp_path), host(tmp_path, brittle=BrittleBackend(), sluggish=SluggishBackend()))
    assert states(placed) == {"brittle": "chosen", "sluggish": "slower"}
    long = {"x": np.ones(LONGEST + 1, np.float32)}
    assert placed.run(long)["y"].sum() == 2 * (LONGEST + 1)
    assert states(placed) == {"brittle": "demoted", "sluggish": "chosen"}
    assert placed.records[0].reason == "out of device memory"
    assert placed.run({"x": np.ones(2, np.float32)})["y"].tolist() == [2, 2]
    assert known_placements(tmp_path, "matrix") == ()  # the next start measures again


def test_a_request_that_nobody_can_compute_demotes_nobody(tmp_path):
    placed = place(doubler(tmp_path), host(tmp_path, brittle=BrittleBackend(), sluggish=SluggishBackend()))
    with pytest.raises(Exception, match=r"(?i)rank"):
        placed.run({"x": np.ones((2, 2), np.float32)})
    assert states(placed) == {"brittle": "chosen", "sluggish": "slower"}
    placed.close()
    with pytest.raises(Unavailable, match="session_closed"):
        placed.run({"x": np.ones(2, np.float32)})


def test_nobody_is_left(tmp_path):
    with pytest.raises(Unavailable, match="backend_missing") as caught:
        place(doubler(tmp_path), host(tmp_path, absent=AbsentBackend()))
    assert "no such hardware" in caught.value.message()
    network = doubler(tmp_path)
    network.artifacts[0].path.write_bytes(b"damaged")
    with pytest.raises(Corrupt):
        place(network, host(tmp_path, only=OnnxRuntimeBackend()))
    with pytest.raises(Unavailable, match="backend_missing"):
        place(network, host(tmp_path, one=OnnxRuntimeBackend(), two=SluggishBackend()))


def hasty(folder: Path, **backends: Backend) -> EngineHost:
    """Of a process that speaks: it tries nothing."""
    return EngineHost(backends, {}, folder, measures=False)


def test_who_speaks_takes_the_first_backend_and_moves_when_others_have_been_measured(tmp_path):
    backends = {"slow": SluggishBackend(), "good": OnnxRuntimeBackend(), "absent": AbsentBackend()}
    network = doubler(tmp_path)
    placed = place(network, hasty(tmp_path, **backends))
    assert states(placed) == {"slow": "chosen", "good": "untried", "absent": "untried"}
    assert not placed.reconsider() and known_placements(tmp_path, "matrix") == ()
    place(network, host(tmp_path, **backends)).close()
    assert placed.reconsider() and not placed.reconsider()
    assert states(placed) == {"slow": "slower", "good": "chosen", "absent": "unusable"}
    assert placed.run({"x": np.ones(2, np.float32)})["y"].tolist() == [2, 2]
    assert states(place(network, hasty(tmp_path, **backends))) == states(placed)


def test_who_speaks_passes_over_what_does_not_load_and_says_why(tmp_path):
    network = doubler(tmp_path)
    placed = place(network, hasty(tmp_path, broken=BrokenBackend(), good=OnnxRuntimeBackend()))
    assert states(placed) == {"broken": "failed", "good": "chosen"}
    assert placed.records[0].reason == "driver and library versions differ"
    with pytest.raises(RuntimeError, match="driver"):
        place(network, hasty(tmp_path, broken=BrokenBackend()))
    with pytest.raises(Unavailable, match="backend_missing"):
        place(network, hasty(tmp_path, absent=AbsentBackend()))
    network.artifacts[0].path.write_bytes(b"damaged")
    with pytest.raises(Corrupt, match="artifact_corrupt"):  # made anew by whoever made it
        place(network, hasty(tmp_path, good=OnnxRuntimeBackend(), slow=SluggishBackend()))


CRASH = """
import os, sys
sys.path[:0] = [{drop_ins!r}]
from pathlib import Path
from appliance.contracts import EngineHost
from appliance.engine.placement import place
from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend
from matrix_engine import doubler
class Crashing(OnnxRuntimeBackend):
    def load(self, artifact, options):
        os.abort()
folder = Path({folder!r})
both = {{"crashing": Crashing(), "good": OnnxRuntimeBackend()}}
placed = place(doubler(folder), EngineHost(both, {{}}, folder, measures={measures}))
print([record.state for record in placed.records])
"""


@pytest.mark.parametrize(("measures", "state"), [(True, "crashed"), (False, "failed")])
def test_a_backend_that_kills_the_process_is_left_out_at_the_third_start(tmp_path, measures, state):
    code = CRASH.format(drop_ins=DROP_INS, folder=str(tmp_path), measures=measures)
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60) for _ in range(3)]
    assert [done.returncode == 0 for done in runs] == [False, False, True], runs[-1].stderr
    assert runs[2].stdout.strip() == f"['{state}', 'chosen']"
