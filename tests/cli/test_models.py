"""`voiced models` and `voiced voices add`: alone on a state directory, and against a real daemon."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import soundfile

spec = importlib.util.spec_from_file_location("forge", Path(__file__).parents[1] / "engine" / "gpt_sovits" / "forge.py")
forge = importlib.util.module_from_spec(spec)
sys.modules["forge"] = forge
spec.loader.exec_module(forge)

READER = Path(__file__).parents[2] / "appliance/data/demo/two_cities.flac"


def test_weights_are_kept_without_a_daemon(voiced, tmp_path):
    where = ("--state-dir", str(tmp_path / "box"))
    folder = forge.pretrained(tmp_path / "stick" / "pretrained_models")
    outcome = voiced("models", "import", str(folder), "--licence", "MIT", *where)
    assert outcome.code == 0, outcome.err
    assert "s2G2333k" in outcome.out and "chinese-hubert-base" in outcome.out
    assert "s2Gv3.pth" in outcome.err  # passed over, and says so
    rows = voiced("models", "list", "--json", *where).document["items"]
    assert {row["kind"] for row in rows} == {"s1", "s2", "hubert", "bert"}
    assert {row["licence"] for row in rows} == {"MIT"}
    shown = voiced("models", "show", "s1v3", "--json", *where).document
    assert shown["source_name"] == "s1v3.ckpt" and shown["report"]["missing"] == []
    assert "s1v3.ckpt" in voiced("models", "show", "s1v3", *where).out
    assert all(row["intact"] for row in voiced("models", "verify", "--json", *where).document["items"])
    assert voiced("models", "remove", "s1v3", *where).code == 0
    gone = voiced("models", "show", "s1v3", "--json", *where)
    assert (gone.code, gone.document["error"]["code"]) == (1, "model_not_imported")


def test_a_changed_byte_is_found(voiced, tmp_path):
    where = ("--state-dir", str(tmp_path / "box"))
    job = voiced(
        "models", "import", str(forge.write(tmp_path / "a.ckpt", forge.s1_content())), "--json", *where
    ).document
    model = voiced("models", "show", job["result"]["models"][0]["id"], "--json", *where).document
    blob = next((tmp_path / "box" / "blobs").glob(f"sha256/*/{model['files']['weights'][2:]}"))
    blob.chmod(0o600)
    content = bytearray(blob.read_bytes())
    content[100] ^= 4
    blob.write_bytes(content)
    outcome = voiced("models", "verify", *where)
    assert outcome.code == 1 and "[model_corrupt]" in outcome.err


@pytest.mark.parametrize(("language", "words"), [("en", "Nothing of it was run"), ("zh", "没有被运行")])
def test_code_is_refused_in_the_readers_language(voiced, tmp_path, language, words):
    flag = tmp_path / "it-ran"
    evil = forge.write_raw(tmp_path / "evil.pth", forge.malicious(flag)["os.system"])
    outcome = voiced("models", "import", str(evil), "--state-dir", str(tmp_path / "box"), "--lang", language)
    assert outcome.code == 1 and words in outcome.err and "evil.pth" in outcome.err
    assert not flag.exists()
    assert voiced("models", "list", "--json", "--state-dir", str(tmp_path / "box")).document["items"] == []


def test_a_path_that_is_not_there_is_an_error(voiced, tmp_path):
    outcome = voiced("models", "import", str(tmp_path / "absent"), "--state-dir", str(tmp_path / "box"))
    assert outcome.code == 1 and "[model_file_not_found]" in outcome.err


def test_a_daemon_is_sent_the_files_and_makes_a_voice_of_them(box, tmp_path):
    folder = forge.pretrained(tmp_path / "pretrained_models")
    job = box("models", "import", str(folder), "--json").document
    assert job["state"] == "done", job["error"]
    assert {model["kind"] for model in job["result"]["models"]} == {"s1", "s2", "hubert", "bert"}
    assert all(row["intact"] for row in box("models", "verify", "--json").document["items"])

    samples, rate = soundfile.read(READER, frames=5 * soundfile.info(READER).samplerate)
    soundfile.write(tmp_path / "clip.wav", samples, rate)
    s1, s2 = str(folder / "s1v3.ckpt"), str(folder / "gsv-v2final-pretrained" / "s2G2333k.pth")
    order = ("voices", "add", "anna", "--engine", "gpt_sovits", "--reference", str(tmp_path / "clip.wav"))
    words = ("--transcript", "It was the best of times.", "--language", "en")
    refused = box(*order, "--weights", s1, s2, *words)
    assert refused.code == 1 and "[consent_missing]" in refused.err
    added = box(*order, "--weights", s1, s2, *words, "--consent", "I agree.", "--json")
    assert added.code == 0, added.err
    assert added.document["id"] == "anna@1"
    assert box("voices", "show", "anna", "--json").document["current"] == 1
    again = box(*order, "--weights", "s1v3", "s2G2333k", *words)
    assert again.code == 0 and "anna@2" in again.err
    kept = box("models", "remove", "s2G2333k")
    assert kept.code == 1 and "anna@1" in kept.err


def test_a_folder_of_a_helper_may_be_named_by_its_weights(box, tmp_path):
    folder = forge.bert_folder(tmp_path / "another-bert")
    job = box("models", "import", str(folder / "pytorch_model.bin"), "--json").document
    assert job["state"] == "done", job["error"]
    assert [model["kind"] for model in job["result"]["models"]] == ["bert"]  # the vocabulary beside it came along
