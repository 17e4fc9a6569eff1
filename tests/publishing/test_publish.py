"""Publishing over real doors: only what changed is rendered, all channels move or none, old lines stay."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from open_pair import opened

from appliance.publishing import webhooks
from appliance.publishing.records import DELIVERING, RENDERING

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXTS = {f"line-{number:03d}": f"Counter {number} is open now." for number in range(12)}


def exports(box) -> Path:
    return box.box.services.settings.state_dir / "exports" / "main"


async def test_only_what_changed_is_rendered(box):
    await box.save("shop", TEXTS)
    plan = await box("GET", "/v1/scripts/shop/plan")
    assert (plan["to_render"], len(plan["lines"]), plan["refused"]) == (12, 12, [])
    first = await box.publish("shop")
    assert (first["state"], first["rendered"], first["number"]) == ("published", 12, 1)
    changed = {**TEXTS, "line-003": "Counter 3 is closed.", "line-007": "Counter 7 is closed."}
    saved = await box.save("shop", changed, comment="two counters")
    assert saved["number"] == 2 and saved["comment"] == "two counters"
    assert (await box("GET", "/v1/scripts/shop/plan"))["to_render"] == 2
    second = await box.publish("shop")
    assert (second["state"], second["rendered"]) == ("published", 2)
    assert (await box("GET", "/v1/scripts/shop"))["published"] == 2
    for number, row in ((1, first), (2, second)):  # old renditions stay playable
        path = f"/v1/scripts/shop/publications/{number}/lines/line-003/audio"
        async with box.box.client.get(path) as answer:
            assert answer.status == 200 and answer.headers["X-AI-Generated"] == "true"
            samples, rate = soundfile.read(io.BytesIO(await answer.read()))
            assert len(samples) / rate > 0.1 and row["state"] == "published"


async def test_its_progress_is_told_as_it_happens_until_the_end(box):
    await box.save("told", {f"l{number}": f"Told line {number}, slow." for number in range(4)})
    begun = await box("POST", "/v1/scripts/told/publish", 202, json={})
    path = f"/v1/scripts/told/publications/{begun['number']}/events"
    async with box.box.client.get(path) as answer:
        assert answer.status == 200 and answer.content_type == "text/event-stream"
        body = (await answer.read()).decode()
    rows = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]
    counts = [row["rendered"] for row in rows]
    assert counts == sorted(counts) and counts[-1] == 4 and len(set(counts)) > 2
    assert rows[-1]["state"] == "published" and {row["state"] for row in rows} >= {"rendering", "published"}
    assert all("lines" not in row for row in rows)
    missing = await box("GET", "/v1/scripts/told/publications/99/events", 404)
    assert missing["code"] == "publication_not_found"


async def test_saving_the_same_makes_no_revision_and_a_stale_editor_is_told(box):
    await box.save("same", {"a": "One."})
    assert (await box.save("same", {"a": "One."}))["number"] == 1
    assert (await box.save("same", {"a": "Two."}, expected=1))["number"] == 2
    order = {"lines": [{"name": "a", "text": "Three."}], "expected": 1}
    refused = await box("PUT", "/v1/scripts/same", 409, json=order)
    assert refused["code"] == "script_changed" and refused["measured"]["revision"] == 2
    assert [row["number"] for row in (await box("GET", "/v1/scripts/same/revisions"))["items"]] == [2, 1]
    found = await box("GET", "/v1/scripts/same/difference", params={"old": "1"})
    assert found["changed"][0]["fields"]["text"] == {"from": "One.", "to": "Two."}


async def test_a_line_that_is_refused_changes_nothing(box):
    await box.save("gate", {"good": "All is well."})
    assert (await box.publish("gate"))["state"] == "published"
    order = {"lines": [{"name": "good", "text": "Changed."}, {"name": "bad", "text": "…", "voice": "nobody"}]}
    await box("PUT", "/v1/scripts/gate", json=order)
    plan = await box("GET", "/v1/scripts/gate/plan", headers={"Accept-Language": "zh"})
    assert [(row["line"], row["code"]) for row in plan["refused"]] == [("bad", "text_not_speakable")]
    refused = await box("POST", "/v1/scripts/gate/publish", 409, json={})
    assert refused["code"] == "publish_refused" and "bad" in refused["detail"]
    assert (await box("GET", "/v1/scripts/gate"))["published"] == 1
    empty = await box("PUT", "/v1/scripts/empty", json={"lines": []})
    assert empty["number"] == 1
    assert (await box("POST", "/v1/scripts/empty/publish", 409, json={}))["code"] == "script_empty"
    assert (await box("POST", "/v1/scripts/nothing/publish", 404, json={}))["code"] == "script_not_found"


async def test_rolling_back_is_one_step_and_can_be_repeated(box):
    for text in ("First.", "Second.", "Third."):
        await box.save("back", {"a": text})
        assert (await box.publish("back"))["state"] == "published"
    texts = []
    for _ in range(2):
        row = await box.roll_back("back")
        assert (row["kind"], row["rendered"], row["state"]) == ("rollback", 0, "published")
        texts.append(row["lines"][0]["text"])
    assert texts == ["Second.", "First."]
    nothing = await box("POST", "/v1/scripts/back/rollback", 404, json={})
    assert nothing["code"] == "publication_not_found"
    assert (await box.roll_back("back", to=3))["lines"][0]["text"] == "Third."
    assert (await box.publish("back"))["rendered"] == 0


async def test_a_folder_gets_prompts_as_telephone_systems_read_them(box):
    settings = {"path": "prompts", "formats": ["wav", "ulaw", "alaw", "freeswitch", "mp3"]}
    order = {"kind": "folder", "settings": settings, "scripts": ["ivr"]}
    await box("PUT", "/v1/channels/pbx", json=order)
    await box.save("ivr", {"welcome": "Welcome {who}.", "bye": "Good bye."}, variables={"who": ["Anna", "Bob"]})
    assert (await box.publish("ivr"))["state"] == "published"
    folder = exports(box) / "prompts" / "ivr"
    assert folder.is_symlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [line["name"] for line in manifest["lines"]] == ["welcome-Anna", "welcome-Bob", "bye"]
    assert manifest["lines"][0]["values"] == {"who": "Anna"}
    seconds = manifest["lines"][2]["duration_s"]
    for name in ("bye.ulaw", "bye.alaw"):
        assert abs((folder / name).stat().st_size / 8000 - seconds) < 0.01
    samples, rate = soundfile.read(folder / "8000" / "bye.wav")
    assert rate == 8000 and abs(len(samples) / rate - seconds) < 0.01
    decoded, _ = soundfile.read(folder / "bye.ulaw", samplerate=8000, channels=1, format="RAW", subtype="ULAW")
    assert np.corrcoef(decoded, samples)[0, 1] > 0.99
    await box.save("ivr", {"welcome": "Hello.", "bye": "Good bye."})
    await box.publish("ivr")
    assert (folder / "welcome.wav").is_file() and not (folder / "welcome-Anna.wav").exists()
    await box.roll_back("ivr")
    assert (folder / "welcome-Anna.wav").is_file()


async def test_a_release_of_an_earlier_state_directory_is_not_taken_for_the_new_one(box):
    """Exports outlive a box that was set up anew and counts its publications from 1 again."""
    order = {"kind": "folder", "settings": {"path": "reused"}, "scripts": ["reused"]}
    await box("PUT", "/v1/channels/reused", json=order)
    old = exports(box) / "reused" / "releases" / "reused-1"
    old.mkdir(parents=True)
    (old / "a.wav").write_bytes(b"of another time")
    (old / "manifest.json").write_text(json.dumps({"lines": [{"name": "a", "rendition": "0" * 64}]}))
    await box.save("reused", {"a": "Today's words."})
    assert (await box.publish("reused"))["number"] == 1
    assert (exports(box) / "reused" / "reused" / "a.wav").read_bytes().startswith(b"RIFF")


async def test_a_folder_outside_is_refused_unless_the_site_allows_it(box, tmp_path):
    for path in ("/etc", "../up", "a/b", ""):
        order = {"kind": "folder", "settings": {"path": path}}
        refused = await box("PUT", "/v1/channels/out", 403 if path == "/etc" else 422, json=order)
        assert refused["code"] in {"channel_folder_not_allowed", "channel_settings_invalid"}
    order = {"kind": "folder", "settings": {"path": "x", "formats": ["midi"]}}
    assert (await box("PUT", "/v1/channels/out", 422, json=order))["code"] == "channel_settings_invalid"
    assert (await box("PUT", "/v1/channels/out", 422, json={"kind": "pigeon"}))["code"] == "channel_kind_unknown"
    for kind, settings in (
        ("folder", {"path": "/a\0b"}),
        ("folder", {"path": "/\ud800"}),
        ("webhook", {"url": "http://127.0.0.1/", "secret": "\ud800" * 20}),
    ):
        refused = await box("PUT", "/v1/channels/out", 422, json={"kind": kind, "settings": settings})
        assert refused["code"] == "channel_settings_invalid"


async def test_what_others_lay_among_the_releases_is_left_alone(box):
    """A person keeps a copy beside them, and a script is called as the folder of the releases is."""
    order = {"kind": "folder", "settings": {"path": "shared"}, "scripts": ["among", "releases"]}
    await box("PUT", "/v1/channels/shared", json=order)
    kept = exports(box) / "shared" / "releases" / "among-old"
    kept.mkdir(parents=True)
    await box.save("among", {"a": "Spoken for everybody."})
    assert (await box.publish("among"))["state"] == "published"
    assert kept.is_dir()
    await box.save("releases", {"a": "Spoken for everybody."})
    failed = await box.publish("releases")
    assert failed["state"] == "failed" and "a script called releases" in failed["error"]["measured"]["reason"], failed


async def test_all_channels_move_or_none(box):
    """One channel that refuses at its commit takes the other back."""
    hooks = Receiver()
    async with hooks.listening() as url:
        order = {"kind": "folder", "settings": {"path": "both"}, "scripts": ["both"]}
        await box("PUT", "/v1/channels/a-folder", json=order)
        secret = "sixteen characters and more"
        settings = {"url": url, "secret": secret}
        await box("PUT", "/v1/channels/b-hook", json={"kind": "webhook", "settings": settings, "scripts": ["both"]})
        assert (await box("GET", "/v1/channels/b-hook"))["settings"]["secret"] == "•••"
        await box.save("both", {"a": "First."})
        assert (await box.publish("both"))["state"] == "published"
        assert [message["event"] for message in hooks.messages] == ["prepare", "publish"]
        assert hooks.verify(secret)
        line = hooks.messages[1]["lines"][0]
        async with box.box.client.get(line["audio"].removeprefix(box.url)) as answer:
            assert answer.status == 200
        link = exports(box) / "both" / "both"
        before = link.resolve().name
        for refuse in ("prepare", "publish"):
            hooks.refuse = refuse
            await box.save("both", {"a": f"Refused at {refuse}."})
            failed = await box.publish("both")
            assert failed["state"] == "failed" and failed["error"]["code"] in {"channel_failed", "webhook_failed"}
            assert "remedy" in failed["error"]
            assert link.resolve().name == before
            assert (await box("GET", "/v1/scripts/both"))["published"] == 1
        hooks.refuse = ""
        assert (await box.publish("both"))["state"] == "published"
        assert link.resolve().name != before


async def test_a_channel_that_cannot_be_taken_back_does_not_keep_the_others_from_it(box, monkeypatch):
    """Channels may be plugins, and those may raise anything."""

    def fail(stage):
        raise RuntimeError("a plugin's fault")

    monkeypatch.setattr(webhooks._StagedMessage, "revert", fail)
    hooks = Receiver()
    async with hooks.listening() as url:
        order = {"kind": "folder", "settings": {"path": "stuck"}, "scripts": ["stuck"]}
        await box("PUT", "/v1/channels/stuck-folder", json=order)
        settings = {"url": url, "secret": "sixteen characters and more"}
        await box(
            "PUT", "/v1/channels/stuck-hook", json={"kind": "webhook", "settings": settings, "scripts": ["stuck"]}
        )
        hooks.refuse = "publish"
        await box.save("stuck", {"a": "Nobody hears this."})
        assert (await box.publish("stuck"))["error"]["code"] == "webhook_failed"
    assert not (exports(box) / "stuck" / "stuck").exists()


async def test_an_address_that_is_none_is_told(box):
    for url in ("http://[", "http://host:99999/", "http://", "ftp://host/", "http://host/\u7a7a"):
        order = {"kind": "webhook", "settings": {"url": url, "secret": "sixteen characters and more"}}
        assert (await box("PUT", "/v1/channels/odd", 422, json=order))["code"] == "channel_settings_invalid"


async def test_a_webhook_stays_on_the_premises(box):
    settings = {"url": "http://203.0.113.7/x", "secret": "sixteen characters and more"}
    await box("PUT", "/v1/channels/far", json={"kind": "webhook", "settings": settings, "scripts": ["far"]})
    await box.save("far", {"a": "Stay."})
    failed = await box.publish("far")
    assert failed["state"] == "failed" and "203.0.113.7" in failed["error"]["message"]


async def test_an_archive_holds_every_line(box):
    await box.save("zip", {"a": "One.", "b": "Two."})
    await box.publish("zip")
    async with box.box.client.get("/v1/scripts/zip/publications/1/archive", params={"format": "ulaw"}) as answer:
        archive = zipfile.ZipFile(io.BytesIO(await answer.read()))
    assert sorted(archive.namelist()) == ["a.ulaw", "b.ulaw", "manifest.json"]
    wrong = await box("GET", "/v1/scripts/zip/publications/1/archive", 422, params={"format": "midi"})
    assert wrong["code"] == "format_unknown"


async def test_a_script_goes_out_and_comes_in_as_files(box):
    await box.save("files", {"a": "One.", "b": "两个。"})
    async with box.box.client.get("/v1/scripts/files/export", params={"format": "csv"}) as answer:
        content = await answer.read()
    edited = content.replace("两个".encode(), "三个".encode())
    saved = await box("POST", "/v1/scripts/files/import", params={"format": "csv"}, data=edited)
    assert saved["number"] == 2 and saved["lines"][1]["text"] == "三个。" and saved["voice"] == "sine-440"
    broken = await box("POST", "/v1/scripts/files/import", 422, params={"format": "json"}, data=b"{")
    assert broken["code"] == "script_unreadable"
    await box("DELETE", "/v1/scripts/files", 204)
    await box("GET", "/v1/scripts/files", 404)


async def test_a_published_line_is_announced_as_it_was_rendered(box):
    await box.save("hall", {"call": "Counter {counter}, please."}, variables={"counter": ["one", "two"]})
    order = {"script": "hall", "line": "call", "values": {"counter": "two"}}
    assert (await box("POST", "/v1/announcements", 404, json=order))["code"] == "publication_not_found"
    published = await box.publish("hall")
    row = await box("POST", "/v1/announcements", 202, json=order)
    assert row["text"] == "Counter two, please."
    rendition = await box.box.services.renditions.get("main", published["lines"][1]["rendition"])
    assert (await box.box.services.announcer.get("main", row["id"])).audio == rendition.sha256
    named = await box("POST", "/v1/announcements", 202, json={"script": "hall", "line": "call-one"})
    assert named["text"] == "Counter one, please."
    wrong = {"script": "hall", "line": "call", "values": {"counter": "nine"}}
    assert (await box("POST", "/v1/announcements", 404, json=wrong))["code"] == "line_not_found"


async def test_a_daemon_that_stops_in_the_middle_goes_on(tmp_path):
    texts = {f"l{number}": f"Line number {number}." for number in range(30)}
    async with opened(tmp_path / "state") as box:
        await box("PUT", "/v1/channels/f", json={"kind": "folder", "settings": {"path": "f"}})
        await box.save("long", texts)
        begun = await box("POST", "/v1/scripts/long/publish", 202, json={})
        while begun["state"] == RENDERING and begun["rendered"] < 3:
            await asyncio.sleep(0.01)
            begun = await box("GET", "/v1/scripts/long/publications/1")
        assert begun["state"] in (RENDERING, DELIVERING)
    for name in ("cache", "plugins"):
        import shutil

        shutil.rmtree(tmp_path / "state" / name)
    async with opened(tmp_path / "state") as box:
        ended = await box.ended("long", 1)
        assert (ended["state"], ended["rendered"]) == ("published", 30)
        assert len(list((box.box.services.settings.state_dir / "exports/main/f/long").glob("*.wav"))) == 30


class Receiver:
    """A program on the LAN that is told of publications."""

    def __init__(self) -> None:
        self.messages: list[dict] = []
        self.raw: list[tuple[bytes, str]] = []
        self.refuse = ""

    def listening(self):
        from contextlib import asynccontextmanager

        from aiohttp import web

        async def take(request):
            body = await request.read()
            self.raw.append((body, request.headers["X-Voiced-Signature"]))
            message = json.loads(body)
            if message["event"] == self.refuse:
                return web.Response(status=409)
            self.messages.append(message)
            return web.Response()

        @asynccontextmanager
        async def serve():
            app = web.Application()
            app.router.add_post("/hook", take)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            try:
                yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook"
            finally:
                await runner.cleanup()

        return serve()

    def verify(self, secret: str) -> bool:
        import hashlib
        import hmac

        for body, header in self.raw:
            moment, _, mac = header.partition(",v1=")
            expected = hmac.new(secret.encode(), moment.removeprefix("t=").encode() + b"." + body, hashlib.sha256)
            if not hmac.compare_digest(expected.hexdigest(), mac):
                return False
        return bool(self.raw)
