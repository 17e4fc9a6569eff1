"""Exports as a site meets them: after an import by themselves, by command, and when files of the cache are damaged."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from box import tone_box

pytest.importorskip("torch", reason="GPT-SoVITS needs PyTorch (voiced[clone])")
pytest.importorskip("onnx", reason="exporting needs onnx (voiced[clone])")
pytest.importorskip("jieba", reason="the Chinese front end is not installed")
pytestmark = pytest.mark.timeout(400)

spec = importlib.util.spec_from_file_location("gpt_sovits_site", Path(__file__).with_name("gpt_sovits_site.py"))
sys.modules["gpt_sovits_site"] = site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site)
recipe = site.load_module("golden_recipe", site.TESTS / "parity/recipe.py")

NAMES = {"anna-e15.ckpt": "s1_tiny.ckpt", "anna_e8_s200.pth": "s2_v2_tiny.pth"}
NETWORKS = {"s1.prefill", "s1.step", "s2.text", "s2.frames", "s2.voice", "bert", "hubert"}


@pytest.fixture(scope="module")
def stick(tmp_path_factory) -> Path:
    golden = {name: recipe.golden(f"gptsovits_tiny/{file}") for name, file in NAMES.items()}
    return site.make_stick(tmp_path_factory.mktemp("stick") / "stick", golden)


def ask(box, path: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{box.url}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=100) as answer:
        return answer.read()


def speak(box) -> bytes:
    return ask(box, "/tts", {"speaker": "anna", "text": "雨。", "lang": "zh", "format": "pcm"})


def placed(box) -> dict[str, dict]:
    """Network -> who computes it."""
    rows = [row for worker in json.loads(ask(box, "/v1/system"))["workers"] for row in worker["placement"]]
    return {row["network"]: row for row in rows if row["state"] == "chosen"}


def is_near(exam: dict) -> bool:
    """Whether a backend computed what the network does; where it failed there is no distance, but a reason."""
    assert exam["distance"] is not None or exam["reason"]
    return exam["distance"] is not None and exam["distance"] <= exam["tolerance"]


def until(look, timeout_s: float = 120.0):
    ends_at = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < ends_at, "waited too long"
        time.sleep(0.2)
    return found


def is_exported(box) -> bool:
    """Whether the request had all of the voice on backends; each asks anew, and each is answered."""
    assert len(speak(box)) > 8_000
    found = placed(box)
    spoken = [found.get(name, {}).get("backend") for name in NETWORKS - {"hubert"}]  # that one heard the reference
    return "torch" not in spoken and None not in spoken


def test_what_was_imported_is_exported_by_itself_and_rebuilt_when_damaged(stick, tmp_path):
    settings = {"VOICED_WORKER__THREADS": "1", "VOICED_SPEECH__CACHE_MB": "0", "VOICED_INTAKE__MAX_MUSIC_SHARE": "0.5"}
    settings["VOICED_ENGINE__BACKENDS"] = (
        '["onnxruntime"]'  # others are tried in tests/engine; here it is about the way
    )
    box = tone_box(tmp_path, **settings).start()
    try:
        here = box.state_dir
        assert site.voiced("models", "import", stick, "--licence", "CC0-1.0", state_dir=here).code == 0
        clip = site.write_clip(tmp_path / "clip.wav", 5)
        order = ("voices", "add", "anna", "--engine", "gpt_sovits", "--weights", "anna-e15", "anna_e8_s200")
        words = ("--transcript", site.WORDS, "--language", "en", "--reference", clip, "--consent", "I agree.")
        added = site.voiced(*order, *words, state_dir=here)
        assert added.code == 0, added.err
        assert len(speak(box)) > 8_000  # whether or not the job has got that far
        until(lambda: len(json.loads(ask(box, "/v1/jobs"))["items"]) == 2)
        jobs = json.loads(ask(box, "/v1/jobs"))["items"]
        assert [job["kind"] for job in jobs] == ["optimize", "import"]
        until(lambda: json.loads(ask(box, f"/v1/jobs/{jobs[0]['id']}"))["state"] not in {"queued", "running"})
        job = json.loads(ask(box, f"/v1/jobs/{jobs[0]['id']}"))
        assert job["state"] == "done", job["error"]
        assert {row["network"] for row in job["result"]["networks"]} == NETWORKS
        assert {row["network"] for row in job["result"]["networks"] if row["passed"]} == NETWORKS
        assert all(row["passed"] == is_near(row) for row in job["result"]["networks"])
        until(lambda: is_exported(box))

        again = site.voiced("models", "optimize", "anna", "--backend", "onnxruntime", "--json", state_dir=here)
        assert again.code == 0, again.err
        assert {row["backend"] for row in again.document["items"]} == {"onnxruntime"}
        assert {row["network"] for row in again.document["items"]} >= {"s1.step", "s2.voice", "bert"}
        nobody = site.voiced("models", "optimize", "nobody", state_dir=here)
        assert nobody.code == 1 and "[model_not_imported]" in nobody.err
        nothing = site.voiced("models", "optimize", "pretrained_eres2netv2w24s4ep4", state_dir=here)
        assert nothing.code == 1 and "[optimise_nothing]" in nothing.err
    finally:
        assert box.stop() == 0
    (folder,) = (box.state_dir / "cache/artifacts").glob("gpt_sovits.s2.voice.*")
    for path in folder.glob("graph.*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    box.start()
    try:
        assert len(speak(box)) > 8_000
        row = placed(box)["s2.voice"]
        assert row["backend"] == "torch" and "artifact_corrupt" in row["reason"]
        until(lambda: is_exported(box))  # made anew by a child of the worker
    finally:
        assert box.stop() == 0


def test_without_a_daemon_the_command_does_it(stick, tmp_path):
    here = tmp_path / "box"
    assert site.voiced("models", "import", stick, state_dir=here).code == 0
    done = site.voiced("models", "optimize", "anna_e8_s200", "--backend", "onnxruntime", "--json", state_dir=here)
    assert done.code == 0, done.err
    assert {row["network"] for row in done.document["items"]} == {"s2.text", "s2.frames", "s2.voice"}
    for path in (here / "cache/artifacts").glob("gpt_sovits.s2.*/manifest.json"):
        manifest = json.loads(path.read_text())
        assert manifest["inputs"] and manifest["outputs"] and len(manifest["source"]["weights"]) == 64
        for artifact in manifest["artifacts"]:
            assert len(artifact["sha256"]) == 64 and artifact["precision"] in {"float", "int8_weights"}
            assert all(exam["passed"] == is_near(exam) for exam in artifact["exams"])
    assert (site.voiced("models", "optimize", "nobody", state_dir=here)).code == 1
