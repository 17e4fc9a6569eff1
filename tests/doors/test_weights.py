"""Weights and voices made of them over HTTP, with the real import child."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import soundfile
from open_box import open_box, wav

from appliance.audio.files import resample
from appliance.doors.http.app import BUILT_IN

spec = importlib.util.spec_from_file_location("forge", Path(__file__).parents[1] / "engine" / "gpt_sovits" / "forge.py")
forge = importlib.util.module_from_spec(spec)
sys.modules["forge"] = forge
spec.loader.exec_module(forge)

pytestmark = pytest.mark.asyncio(loop_scope="session")
READER = Path(__file__).parents[2] / "appliance/data/demo/two_cities.flac"


async def call(box, method, path, status, **options):
    async with box.client.request(method, path, **options) as answer:
        body = await answer.json(content_type=None) if answer.status != 204 else None
        assert answer.status == status, body
        return body


def form(files: dict[str, bytes], **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData(quote_fields=False, default_to_multipart=True)
    for name, value in fields.items():
        data.add_field(name, value)
    for name, content in files.items():
        data.add_field("file", content, filename=name, content_type="application/octet-stream")
    return data


async def bring(box, files: dict[str, bytes], **fields: str) -> dict:
    job = await call(box, "POST", "/v1/weights", 202, data=form(files, **fields))
    async with asyncio.timeout(60):
        while job["state"] in {"queued", "running"}:
            await asyncio.sleep(0.05)
            job = await call(box, "GET", f"/v1/jobs/{job['id']}", 200)
    return job


def clip(seconds: float, *, rate: int = 24_000, channels: int = 1) -> bytes:
    samples, found = soundfile.read(READER, dtype="float32", frames=int(seconds * soundfile.info(READER).samplerate))
    samples = resample(samples, found, rate)
    if channels == 2:
        samples = np.stack([samples, np.roll(samples, 4000) * 0.4], axis=1)
    return wav(samples, rate)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> dict[str, bytes]:
    root = forge.pretrained(tmp_path_factory.mktemp("weights") / "pretrained_models")
    return {f"{root.name}/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def test_weights_come_in_are_listed_verified_and_removed(box, tmp_path):
    content = forge.write(tmp_path / "x", forge.s2_content("v2Pro"), header="05").read_bytes()
    job = await bring(box, {"mine_e8_s200.pth": content}, licence="CC0-1.0")
    assert job["state"] == "done", job["error"]
    model = job["result"]["models"][0]
    assert (model["kind"], model["version"]) == ("s2", "v2Pro")
    listed = (await call(box, "GET", "/v1/weights", 200))["items"]
    assert model["id"] in {row["id"] for row in listed}
    one = await call(box, "GET", "/v1/weights/mine_e8_s200", 200)
    assert (one["licence"], one["source_bytes"], one["report"]["header"]) == ("CC0-1.0", len(content), "05")
    assert (await call(box, "POST", f"/v1/weights/{model['id']}/verify", 200))["intact"] is True
    await call(box, "DELETE", f"/v1/weights/{model['id']}", 204)
    for method, path in (("GET", ""), ("POST", "/verify"), ("DELETE", "")):
        problem = await call(box, method, f"/v1/weights/{model['id']}{path}", 404)
        assert problem["code"] == "model_not_imported"


@pytest.mark.parametrize("name", ["../x.pth", "a/../../x.pth", "a//x.pth", "a/./x.pth", "a\\..\\x.pth", "x" * 300])
async def test_names_cannot_leave_the_upload(name, box):
    state = box.services.settings.state_dir
    before = set(state.parent.rglob("*x.pth"))
    problem = await call(box, "POST", "/v1/weights", 422, data=form({name: b"x" * 100}))
    assert problem["code"] == "model_path_not_allowed"
    assert set(state.parent.rglob("*x.pth")) == before
    assert not any((state / "incoming").iterdir())


async def test_a_path_on_the_box_is_no_way_in(box):
    problem = await call(box, "POST", "/v1/weights", 415, json={"paths": ["/etc/passwd"]})
    assert problem["code"] == "content_type_unsupported"
    assert (await call(box, "POST", "/v1/weights", 422, data=form({}, licence="MIT")))["code"] == "field_missing"
    assert all(route.is_public is False for route in BUILT_IN if "weights" in route.path)


async def test_code_in_an_upload_never_runs(box, tmp_path):
    evil = forge.write_raw(tmp_path / "evil.pth", forge.malicious(tmp_path / "it-ran")["os.system"]).read_bytes()
    job = await bring(box, {"evil.pth": evil})
    assert (job["state"], job["error"]["code"]) == ("failed", "checkpoint_carries_code")
    assert "evil.pth" in job["error"]["message"] and job["error"]["remedy"]
    assert not (tmp_path / "it-ran").exists()


async def test_a_voice_is_made_of_weights_and_a_clip(tmp_path, folder):
    async with open_box(tmp_path / "box") as alone:  # where no other test has enrolled this reader
        await _make_a_voice(alone, folder)


async def _make_a_voice(box, folder):
    fields = {
        "id": "zero-shot",
        "weights": "s1v3,s2G2333k",
        "transcript": "It was the best of times.",
        "language": "en",
    }
    problem = await call(box, "POST", "/v1/voices", 403, data=form({"clip.wav": clip(5)}, **fields))
    assert problem["code"] == "consent_missing"
    order = {"speaker": "reader", "voice": "zero-shot", "purposes": ["clone", "speak"]}
    await call(box, "POST", "/v1/consents", 201, json=order)
    problem = await call(box, "POST", "/v1/voices", 404, data=form({"clip.wav": clip(5)}, **fields))
    assert problem["code"] == "model_not_imported"

    s1 = {name: content for name, content in folder.items() if name.endswith(("s1v3.ckpt", "s2G2333k.pth"))}
    assert (await bring(box, s1))["state"] == "done"
    problem = await call(box, "POST", "/v1/voices", 404, data=form({"clip.wav": clip(5)}, **fields))
    assert (problem["code"], problem["measured"]["kind"]) == ("model_helper_missing", "hubert")
    assert (await bring(box, folder))["state"] == "done"

    version = await call(box, "POST", "/v1/voices", 201, data=form({"clip.wav": clip(5)}, **fields))
    assert (version["id"], version["engine"]) == ("zero-shot@1", "gpt_sovits")
    roles = {"s1", "s1_config", "s2", "s2_config", "hubert", "hubert_config", "bert", "bert_config", "reference"}
    assert version["files"].keys() == roles
    wanted = {"transcript": "It was the best of times.", "language": "en", "sample_rate": 32_000}
    assert version["settings"] == wanted
    assert (await call(box, "GET", "/v1/voices/zero-shot", 200))["current"] == 1
    assets = await box.services.registry.assets(await box.services.registry.resolve("main", "zero-shot"))
    assert assets.files.keys() == roles and assets.files["reference"].read_bytes() == clip(5)
    problem = await call(box, "DELETE", "/v1/weights/s1v3", 409)
    assert (problem["code"], problem["measured"]["voices"]) == ("model_in_use", "zero-shot@1")
    await call(box, "DELETE", "/v1/voices/zero-shot", 204)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (lambda: clip(2.5), "reference_too_short"),
        (lambda: clip(11), "reference_too_long"),
        (lambda: clip(5, channels=2), "not_mono"),
        (lambda: clip(5, rate=8_000), "sample_rate_too_low"),
        (lambda: wav(np.zeros(5 * 24_000, np.float32)), "recording_silent"),
        (lambda: b"no sound at all", None),
    ],
)
async def test_a_reference_that_is_not_good_enough_is_refused_with_reasons(content, code, box, folder):
    await bring(box, folder)
    order = {"speaker": "reader", "voice": "refused", "purposes": ["clone"]}
    await call(box, "POST", "/v1/consents", 201, json=order)
    fields = {"id": "refused", "weights": "s1v3, s2G2333k", "transcript": "It was."}
    problem = await call(box, "POST", "/v1/voices", 422, data=form({"clip.wav": content()}, **fields))
    assert problem["code"] == "reference_refused" and problem["reasons"]
    assert code is None or code in {reason["code"] for reason in problem["reasons"]}
    assert all(reason["message"] and reason["remedy"] for reason in problem["reasons"])
    await call(box, "GET", "/v1/voices/refused", 404)


async def test_weights_that_do_not_belong_together_make_no_voice(box, folder, tmp_path):
    old = forge.write(tmp_path / "old", forge.s1_content(512)).read_bytes()
    await bring(box, folder)
    await bring(box, {"old.ckpt": old})
    await call(box, "POST", "/v1/consents", 201, json={"speaker": "r", "voice": "mixed", "purposes": ["clone"]})
    for weights, code in (
        ("old,s2G2333k", "model_pair_wrong"),
        ("s1v3,old", "model_kind_wrong"),
        ("s1v3", "model_kind_wrong"),
        ("s1v3,chinese-hubert-base", "model_kind_wrong"),
    ):
        fields = {"id": "mixed", "weights": weights, "transcript": "x"}
        problem = await call(box, "POST", "/v1/voices", 422, data=form({"clip.wav": clip(5)}, **fields))
        assert problem["code"] == code
    fields = {"id": "mixed", "weights": "s1v3,s2G2333k", "engine": "sine"}
    problem = await call(box, "POST", "/v1/voices", 422, data=form({"clip.wav": clip(5)}, **fields))
    assert problem["code"] == "engine_takes_no_weights"
