"""Published files carry signed provenance where it is wanted, and say why where they do not."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from open_pair import opened

from appliance.audio.provenance import read_provenance
from appliance.audio.tags import read_tags
from appliance.errors import Unavailable
from appliance.security.content_credential import read_authority

LINE = {"closing": "The shop closes in ten minutes. Please bring your goods to the till."}


@pytest.fixture
async def box(tmp_path):
    async with opened(tmp_path / "box") as caller:
        await caller.save("prompts", LINE)
        yield caller


def state_of(box, data: bytes, format: str) -> str | None:
    anchors = read_authority(box.box.services.settings.state_dir / "keys")
    found = read_provenance(data, format, anchors)
    return found and found["state"]


async def publish_into(box, **settings) -> tuple[dict, object]:
    order = {"kind": "folder", "settings": {"path": "out", "formats": ["wav", "flac", "ulaw"], **settings}}
    await box("PUT", "/v1/channels/folder", json=order)
    await box.publish("prompts")
    folder = box.box.services.settings.state_dir / "exports" / "main" / "out" / "prompts"
    return json.loads((folder / "manifest.json").read_text()), folder


async def test_a_channel_that_asks_for_provenance_gets_files_that_are_trusted(box):
    pytest.importorskip("c2pa")
    manifest, folder = await publish_into(box, provenance=True)
    assert manifest["provenance"] == {"signed": 2, "unsigned": {"provenance_format": 1}}
    for format in ("wav", "flac"):
        data = (folder / f"closing.{format}").read_bytes()
        assert state_of(box, data, format) == "trusted" and json.loads(read_tags(data)["AIGC"])["Label"] == "1"
    changed = bytearray((folder / "closing.wav").read_bytes())
    changed[len(changed) // 2] ^= 1
    assert state_of(box, bytes(changed), "wav") == "invalid"


async def test_without_the_library_the_delivery_goes_out_and_names_the_reason(box, monkeypatch):
    def missing(*_):
        raise Unavailable("provenance_missing")

    monkeypatch.setattr("appliance.marks.desk.sign_file", missing)
    manifest, folder = await publish_into(box, provenance=True)
    assert manifest["provenance"] == {"signed": 0, "unsigned": {"provenance_missing": 2, "provenance_format": 1}}
    assert read_tags((folder / "closing.wav").read_bytes())["AIGC"]


async def test_nothing_is_signed_unless_somebody_asks(box):
    manifest, folder = await publish_into(box)
    assert "provenance" not in manifest and state_of(box, (folder / "closing.wav").read_bytes(), "wav") is None
    problem = await box("PUT", "/v1/channels/other", 422, json={"kind": "folder", "settings": {"provenance": "yes"}})
    assert problem["code"] == "channel_settings_invalid"


async def test_archives_lines_and_narrations_follow_the_site_unless_asked(tmp_path):
    pytest.importorskip("c2pa")
    async with opened(tmp_path / "box", marks={"provenance": True}) as box:
        await box.save("prompts", LINE)
        done = await box.publish("prompts")
        path = f"/v1/scripts/prompts/publications/{done['number']}"
        for query, wanted in (({"format": "wav"}, "trusted"), ({"format": "wav", "provenance": "false"}, None)):
            async with box.box.client.get(f"{path}/archive", params=query) as answer:
                archive = zipfile.ZipFile(io.BytesIO(await answer.read()))
            assert state_of(box, archive.read("closing.wav"), "wav") == wanted
        async with box.box.client.get(f"{path}/lines/closing/audio") as answer:
            assert answer.headers["X-Provenance"] == "signed"
            assert state_of(box, await answer.read(), "flac") == "trusted"
        cue = b"1\n00:00:01,000 --> 00:00:09,000\nThe shop closes in ten minutes.\n"
        for format in ("wav", "flac"):
            params = {"voice": "sine-440", "format": format}
            headers = {"Content-Type": "text/plain"}
            dubbing = await box("POST", "/v1/dubbings", 202, params=params, data=cue, headers=headers)
            while (row := await box("GET", f"/v1/dubbings/{dubbing['id']}"))["state"] == "running":
                pass
            assert row["state"] == "done", row
            async with box.box.client.get(f"/v1/dubbings/{dubbing['id']}/track") as answer:
                track = await answer.read()
            assert state_of(box, track, format) == "trusted"
            assert json.loads(read_tags(track)["AIGC"])["Label"] == "1"
