"""Import jobs, with the real child: what comes in is filed whole or not at all, and nothing of it runs."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from appliance.errors import Conflict, Corrupt, InvalidInput, NotFound
from appliance.jobs.records import ImportRequest, Job
from appliance.voices.records import NewVersion, NewVoice

spec = importlib.util.spec_from_file_location("forge", Path(__file__).parents[1] / "engine" / "gpt_sovits" / "forge.py")
assert spec is not None and spec.loader is not None
forge: Any = importlib.util.module_from_spec(spec)
sys.modules["forge"] = forge
spec.loader.exec_module(forge)


async def bring(box: Any, *paths: Path, **order: Any) -> Job:
    return await box.finished(await box.runner.submit_import("main", ImportRequest(paths, **order)))


async def names(box: Any, tenant: str = "main") -> list[str]:
    return sorted(model.name for model in (await box.runner.models.list(tenant)).items)


async def test_a_folder_of_official_files_becomes_models(box, tmp_path):
    job = await bring(box, forge.pretrained(tmp_path / "pretrained_models"), licence="MIT")
    assert job.state == "done", (job.error, box.log_of(job))
    kinds = {model["name"]: (model["kind"], model["version"]) for model in job.result["models"]}
    assert kinds == {
        "s1v3": ("s1", "v2"),
        "s2G2333k": ("s2", "v2"),
        "chinese-hubert-base": ("hubert", ""),
        "chinese-roberta-wwm-ext-large": ("bert", ""),
    }
    assert [one["code"] for one in job.result["skipped"]] == ["model_version_not_yet"]
    told = job.as_json("zh")["result"]["skipped"][0]
    assert "s2Gv3.pth" in told["message"] and "v2Pro" in told["remedy"]
    model = await box.runner.models.get("main", "s2G2333k")
    assert model.licence == "MIT" and model.source_name == "s2G2333k.pth" and len(model.source_sha256) == 64
    tensors = load_file(box.blobs.path(model.files["weights"]))
    assert "enc_q.pre.weight" in tensors
    config = json.loads(box.blobs.path(model.files["config"]).read_text())
    assert config["model"]["gin_channels"] == 8 and config["version"] == "v2"
    leftovers = box.settings.state_dir / "jobs" / job.id / "models"
    for _ in range(100):  # swept after the row says that the job is done
        if not leftovers.exists():
            break
        await asyncio.sleep(0.05)
    assert not leftovers.exists()


async def test_importing_again_changes_nothing(box, tmp_path):
    path = forge.write(tmp_path / "anna-e15.ckpt", forge.s1_content())
    first, second = await bring(box, path), await bring(box, path)
    assert first.result["models"][0]["id"] == second.result["models"][0]["id"]
    assert await names(box) == ["anna-e15"]


@pytest.mark.parametrize("which", ["os.system", "eval", "nested"])
async def test_malicious_files_among_good_ones_import_nothing(which, box, tmp_path):
    folder, flag = forge.pretrained(tmp_path / "models"), tmp_path / "it-ran"
    forge.write_raw(folder / "zz-evil.pth", forge.malicious(flag)[which])
    job = await bring(box, folder)
    assert (job.state, job.error["code"]) == ("failed", "checkpoint_carries_code")
    assert "zz-evil.pth" in job.as_json("en")["error"]["message"]
    assert not flag.exists() and await names(box) == []
    assert not list(box.blobs.root.glob("sha256/*/*"))


async def test_damaged_files_each_have_their_words(box, tmp_path):
    whole = forge.write(tmp_path / "x.pth", forge.s2_content()).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    files = {
        "checkpoint_truncated": whole[: len(whole) // 2],
        "checkpoint_damaged": bytes(flipped),
        "checkpoint_header_unknown": b"09" + whole[2:],
        "checkpoint_too_short": b"05",
    }
    for code, content in files.items():
        path = tmp_path / f"{code}.pth"
        path.write_bytes(content)
        job = await bring(box, path)
        assert (job.state, job.error["code"]) == ("failed", code)
        assert job.error["measured"]["file"] == path.name
    assert await names(box) == []


async def test_two_that_do_not_speak_together_are_refused_as_a_pair(box, tmp_path):
    s1 = forge.write(tmp_path / "old.ckpt", forge.s1_content(512))
    s2 = forge.write(tmp_path / "new.pth", forge.s2_content("v2"))
    job = await bring(box, s1, s2)
    assert (job.state, job.error["code"]) == ("failed", "model_pair_wrong")
    assert await names(box) == []
    assert (await bring(box, s1)).state == (await bring(box, s2)).state == "done"  # each alone is fine


async def test_a_folder_without_models_says_so(box, tmp_path):
    (tmp_path / "empty").mkdir()
    assert (await bring(box, tmp_path / "empty")).error["code"] == "model_nothing_found"
    with pytest.raises(InvalidInput) as caught:
        await box.runner.submit_import("main", ImportRequest((tmp_path / "absent",)))
    assert caught.value.code == "model_file_not_found"


async def test_received_files_become_the_jobs_own_and_go_with_it(box, tmp_path):
    upload = tmp_path / "incoming"
    upload.mkdir()
    forge.write(upload / "anna.ckpt", forge.s1_content())
    job = await bring(box, upload / "anna.ckpt", upload=upload)
    assert job.state == "done" and await names(box) == ["anna"]
    assert not upload.exists()
    async with asyncio.timeout(30):  # it is cleared away after the end is told
        while (box.settings.state_dir / "jobs" / job.id / "upload").exists():
            await asyncio.sleep(0.05)


async def test_models_belong_to_their_tenant(box, tmp_path):
    await bring(box, forge.write(tmp_path / "anna.ckpt", forge.s1_content()))
    assert await names(box, "other") == []
    for work in (box.runner.models.get, box.runner.models.verify, box.runner.models.remove):
        with pytest.raises(NotFound) as caught:
            await work("other", "anna")
        assert caught.value.code == "model_not_imported"


async def test_a_rotten_model_is_found_and_healed_by_importing_again(box, tmp_path):
    path = forge.write(tmp_path / "anna.ckpt", forge.s1_content())
    await bring(box, path)
    model = await box.runner.models.verify("main", "anna")
    blob = box.blobs.path(model.files["weights"])
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(content)
    with pytest.raises(Corrupt) as caught:
        await box.runner.models.verify("main", "anna")
    assert caught.value.code == "model_corrupt" and caught.value.measured["role"] == "weights"
    assert (await bring(box, path)).state == "done"
    await box.runner.models.verify("main", "anna")


async def test_a_model_that_a_voice_needs_stays(box, tmp_path):
    await bring(box, forge.write(tmp_path / "anna.ckpt", forge.s1_content()))
    models = box.runner.models
    model = await models.get("main", "anna")
    await box.registry.create_voice("main", NewVoice("anna"))
    await box.registry.add_version("main", "anna", NewVersion("gpt_sovits", {"s1": model.files["weights"]}))
    with pytest.raises(Conflict) as caught:
        await models.remove("main", "anna")
    assert (caught.value.code, caught.value.measured["voices"]) == ("model_in_use", "anna@1")
    await box.registry.delete_voice("main", "anna")
    await models.remove("main", "anna")
    assert await names(box) == []
    assert box.blobs.has(model.files["weights"])  # history still refers to it
    assert not box.blobs.has(model.files["config"])
    await bring(box, tmp_path / "anna.ckpt")
    assert await names(box) == ["anna"]
