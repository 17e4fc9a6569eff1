"""What is one tenant's does not exist for another: every operation of the OpenAPI document, with the other's ids.

`VOICED_CROSS_TENANT_REQUESTS=10000` makes the walk as long as that; by default it takes each operation a few times.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from urllib.parse import quote

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from open_box import TOKEN, open_box
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice

from appliance.announcer.music import Programme
from appliance.contracts import QualityReport
from appliance.doors.wyoming.door import WyomingDoor
from appliance.doors.wyoming.info import InfoRooms
from appliance.doors.wyoming.session import SessionRooms
from appliance.events import Event
from appliance.settings import WyomingSettings
from appliance.voices.records import NewConsent, NewRecording, NewRendition, NewVersion, NewVoice

SECRET = "zanzibar"  # stands in every text that is the other tenant's
VOICE, SCRIPT, CHANNEL = f"{SECRET}-anna", f"{SECRET}-closing", f"{SECRET}-usb"
LINES = {"lines": [{"name": "one", "text": f"{SECRET} closes"}]}
WALK = int(os.environ.get("VOICED_CROSS_TENANT_REQUESTS", "0"))
WORDS = ("text", "input", "title", "name", "comment", "reading", "word", "statement", "transcript", "login", "password")
HIDDEN = re.compile(SECRET, re.IGNORECASE)
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1800 if WALK else 120)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory):
    """A box of two tenants, one of which has one of everything."""
    async with open_box(tmp_path_factory.mktemp("shared"), http={"trust_loopback": False}) as box:
        await fill(box)
        made = await send(box, "POST", "/v1/tenants", TOKEN, {"id": "bakery"})
        assert made[0] == 201
        told = await send(box, "POST", "/v1/tokens", TOKEN, {"role": "tenant-admin", "tenant": "bakery"})
        yield box, json.loads(told[1])["token"]


async def send(box, method, path, token, body=None, **more):
    headers = {"Authorization": f"Bearer {token}"}
    async with box.client.request(method, path, headers=headers, json=body, **more) as answer:
        data = b""
        try:
            async with asyncio.timeout(2.0):
                data = await answer.read()
        except TimeoutError:  # live events go on for ever
            pass
        return answer.status, data, answer.headers


async def fill(box):
    """One of everything for the tenant `main`, by the stores where a door would want hours of training first."""
    services, db = box.services, box.services.db
    report = QualityReport(True, (), (), {"note": SECRET})
    sound = box.services.settings.state_dir / "sound.bin"
    sound.write_bytes(SECRET.encode() * 100)
    recording = await services.recordings.add(
        "main", NewRecording(sound, f"{SECRET}.wav", 3.0, 24_000, report, SECRET, "en", "given", f"{SECRET} Li")
    )
    consent = await services.consents.record(
        "main", NewConsent(f"{SECRET} Li", VOICE, ("clone", "speak", "announce", "publish", "share"), SECRET)
    )
    digest = await asyncio.to_thread(services.registry._blobs.put_file, sound)
    await services.registry.create_voice("main", NewVoice(VOICE, f"{SECRET} title", speaker=f"{SECRET} Li"))
    await services.registry.add_version(
        "main", VOICE, NewVersion("sine", {"sound": digest}, {"hz": 300}, {}, {"note": SECRET})
    )
    await services.registry.promote("main", VOICE, 1)
    await services.renditions.add("main", NewRendition(sound, VOICE, 1, f"{SECRET} says", "en", 1, 1.0))
    for method, path, body in (
        ("PUT", f"/v1/scripts/{SCRIPT}", {"title": SECRET, "lines": [{"name": "one", "text": f"{SECRET} closes"}]}),
        ("PUT", f"/v1/channels/{CHANNEL}", {"kind": "folder", "settings": {"path": f"{SECRET}-out"}}),
        ("PUT", "/v1/lexicon", {"language": "en", "word": SECRET, "reading": "sun"}),
        ("POST", "/v1/announcements", {"text": f"{SECRET} is open", "voice": VOICE}),
        ("POST", "/v1/recording-sessions", {"speaker": f"{SECRET} Li", "language": "en"}),
        ("POST", "/v1/people", {"login": f"{SECRET}.li", "name": SECRET, "role": "owner", "password": "x" * 20}),
        ("POST", "/v1/tokens", {"title": SECRET, "role": "owner"}),
        ("POST", "/v1/consent-statements", {"speaker": f"{SECRET} Li", "voice": VOICE, "purposes": ["speak"]}),
        (
            "POST",
            "/v1/schedules",
            {"name": SECRET, "times": ["17:45"], "message": {"text": f"{SECRET} is shut", "voice": VOICE}},
        ),
    ):
        status, said, _ = await send(box, method, path, TOKEN, body)
        assert status < 300, (path, said)
    job = ("main", "job_5ec2e75ec2e75ec2", "clone", "done", "done", 1.0, "{}", json.dumps({"voice": VOICE}))
    await db.write(
        lambda c: c.execute(
            "INSERT INTO jobs (tenant, id, kind, state, stage, fraction, metrics, spec, created_at, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, '2026-01-01', '2026-01-01')",
            job,
        )
    )
    model = ("main", "mdl_5ec2e7", f"{SECRET}.pth", "s1", "v2", "{}", SECRET, digest, 1, SECRET, "{}", "{}", "2026")
    await db.write(
        lambda c: c.execute(
            "INSERT INTO models (tenant, id, name, kind, version, files, source_name, source_sha256, source_bytes,"
            " licence, info, report, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            model,
        )
    )
    dataset = ("main", "dat_5ec2e7", digest, json.dumps([{"recording": recording.id, "note": SECRET}]), "{}", "2026")
    await db.write(lambda c: c.execute("INSERT INTO datasets VALUES (?, ?, ?, ?, ?, ?)", dataset))
    await fill_publishing(box)
    await fill_guards(services, digest)
    await services.audit.record(Event("main", "test", voice=VOICE, subject=consent.id, details={"note": SECRET}))


async def fill_publishing(box):
    """A publication with its rendered line, a narration, a paired box, and music in a zone."""
    services = box.services
    status, said, _ = await send(box, "PUT", f"/v1/scripts/{SCRIPT}", TOKEN, {"title": SECRET, "voice": VOICE, **LINES})
    assert status < 300, said
    status, said, _ = await send(box, "POST", f"/v1/scripts/{SCRIPT}/publish", TOKEN, {})
    assert status == 202, said
    row = await services.office.publications.get("main", SCRIPT, json.loads(said)["number"])
    ended = await services.office.publisher.finished(row)
    assert ended.lines and ended.state == "published", ended
    params = {"filename": f"{SECRET}.srt", "voice": VOICE}
    cue = f"1\n00:00:01,000 --> 00:00:09,000\n{SECRET} speaks\n".encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/plain"}
    async with box.client.post("/v1/dubbings", params=params, data=cue, headers=headers) as answer:
        dubbing = await answer.json()
        assert answer.status == 202, dubbing
    async with asyncio.timeout(60):
        while json.loads((await send(box, "GET", f"/v1/dubbings/{dubbing['id']}", TOKEN))[1])["state"] == "running":
            await asyncio.sleep(0.1)
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    peer = ("main", "7a000000-0000-4000-8000-0000005ec2e7", SECRET, f"http://{SECRET}.lan", key, "", "2026")
    query = "INSERT INTO peers (tenant, uuid, name, url, public_key, authority, paired_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
    await services.db.write(lambda c: c.execute(query, peer) and None)
    music, programme = services.announcer.music, ("main", "main", f"{SECRET}-songs", 1.0, False, "2026")
    music.zones["main"].programme = Programme(*programme)
    await services.db.write(lambda c: c.execute("INSERT INTO music VALUES (?, ?, ?, ?, ?, ?)", programme) and None)


async def fill_guards(services, digest):
    """A protected voice and a review that waits."""
    prints = services.gate.prints
    await prints.protect("main", SECRET, {"ge2e": np.ones((3, 1, 256), np.float32)})
    await prints.ask("main", VOICE, "speaker", f"{SECRET} Li", 0.5)


async def belongings(box):
    """All rows of the tenant `main`, by table, but for what is counted."""

    def read(c):
        tables = [row[0] for row in c.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in sorted(set(tables) - {"audit", "quota_usage"}):
            columns = [row[1] for row in c.execute(f"PRAGMA table_info({table})")]
            if "tenant" in columns:
                keep = ", ".join(column for column in columns if column != "last_used_at")
                found[table] = [dict(row) for row in c.execute(f"SELECT {keep} FROM {table} WHERE tenant = 'main'")]
        return found

    return await box.services.db.read(read)


def ids_of(rows):
    """Every id of the other tenant, by table; starter voices are everybody's."""
    columns = ("id", "sha256", "digest", "voice", "name", "script", "rendition")
    return {
        table: sorted(
            {str(row[c]) for row in found for c in columns if row.get(c) and not str(row[c]).startswith("sine-")}
        )
        for table, found in rows.items()
    }


def operations_of(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if operation.get("security") != [] and path != "/v1/stream":
                yield method.upper(), path, operation


def fitting(name, ids, chance):
    """An id for a parameter or field: of the table that it is called after, else any."""
    table = f"{name.replace('session', 'recording_session')}s"
    if name in WORDS:
        return "good morning, all"
    if name in {"number", "revision", "publication", "version", "limit", "page", "cue"}:
        return "1"
    known = ids.get(table) or [one for every in ids.values() for one in every]
    return chance.choice(known if chance.random() < 0.8 else [one for every in ids.values() for one in every])


def body_for(schema, document, ids, chance, name=""):
    """A value that the schema takes, made of the other tenant's ids."""
    schema = resolved(schema, document)
    if "default" in schema and schema["default"] not in (None, "", [], {}) and chance.random() < 0.7:
        return schema["default"]
    if "enum" in schema:
        return chance.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            wanted = [n for n in properties if n in schema.get("required", ()) or chance.random() < 0.3]
            return {n: body_for(properties[n], document, ids, chance, n) for n in wanted}
        case "array":
            return [body_for(schema.get("items", {}), document, ids, chance, name.removesuffix("s"))]
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return True
    return fitting(name, ids, chance)[: schema.get("maxLength", 200)]


def resolved(schema, document):
    while True:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema:
            schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
        else:
            return schema


def request_for(method, path, operation, document, ids, chance):
    """The request as keyword arguments: path, query and body with the other's ids."""
    given = {name: fitting(name, ids, chance) for name in re.findall(r"\{(\w+)\}", path)}
    target = re.sub(r"\{(\w+)\}", lambda match: quote(given[match.group(1)], safe=""), path)
    query = {
        one["name"]: str(body_for(one["schema"], document, ids, chance, one["name"]))
        for one in operation.get("parameters", ())
        if one["in"] == "query" and (one["required"] or chance.random() < 0.3)
    }
    content = operation.get("requestBody", {}).get("content", {})
    body = None
    if "application/json" in content:
        body = body_for(content["application/json"].get("schema", {}), document, ids, chance)
    return target, query, body


async def test_nothing_of_another_tenant_is_told_or_touched_whatever_is_asked(shared):
    box, token = shared
    async with box.client.get("/openapi.json") as answer:
        document = await answer.json()
    before = await belongings(box)
    ids, chance = ids_of(before), random.Random(6)
    operations = list(operations_of(document))
    assert len(operations) > 60
    rounds = max(4, WALK // len(operations) + 1)
    statuses, wrong, own, asked = {}, {}, "", ""
    for number in range(rounds):
        for method, path, operation in operations:
            if path == "/v1/announcements/events" and number:
                continue  # it is listened to for seconds
            target, query, body = request_for(method, path, operation, document, ids, chance)
            status, said, headers = await send(box, method, target, token, body, params=query)
            statuses[status] = statuses.get(status, 0) + 1
            sent = f"{target} {query} {body}".casefold()
            asked += sent
            if status < 300 and method != "GET":
                own += sent  # of its own making, from now on
            told = said.decode("utf-8", "replace") + str(dict(headers))
            is_found = "{" in path and method in {"GET", "DELETE"} and status not in {404, 405, 422}
            known = asked if path.startswith("/v1/audit") else sent + own  # the log knows what it asked for
            if foreign(told, known, ids) or status >= 500 or (is_found and not is_own(target, own)):
                wrong.setdefault((status, method, path), (target, query, body, told[:300]))
    print(f"{sum(statuses.values())} requests: {statuses}")
    assert not wrong, json.dumps([[str(part) for part in (*key, *case)] for key, case in wrong.items()], indent=1)
    assert statuses[404] > sum(statuses.values()) // 3
    after = await belongings(box)
    assert after == before


def is_own(target, own):
    """Whether the path names something that the asking tenant made itself under the same id."""
    return any(part.casefold() in own for part in target.split("/")[3:])


def foreign(told, sent, ids):
    """Whether an answer holds something of the other tenant that the question did not."""
    known = {one.casefold() for every in ids.values() for one in every if len(one) > 6}
    text = told.casefold()
    for one in known:
        text = text.replace(one, "") if one in sent else text
    return bool(HIDDEN.search(text)) or any(one in text for one in known if one not in sent)


async def test_open_routes_tell_nothing_of_any_tenant_whoever_asks(shared):
    """No credential, a tenant's, or the name of a paired box with a signature that is none."""
    box, token = shared
    async with box.client.get("/openapi.json") as answer:
        document = await answer.json()
    before = await belongings(box)
    ids, chance, wrong = ids_of(before), random.Random(7), {}
    paired = {"X-Voiced-Peer": before["peers"][0]["uuid"], "X-Voiced-Number": "9" * 18, "X-Voiced-Signature": "00" * 64}
    operations = [
        (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if operation.get("security") == [] and path != "/v1/session"
    ]
    assert any(path.startswith("/v1/peer/") for _, path, _ in operations)
    for _ in range(max(3, WALK // 20 // len(operations))):
        for method, path, operation in operations:
            target, query, body = request_for(method, path, operation, document, ids, chance)
            headers = chance.choice([{}, {"Authorization": f"Bearer {token}"}, paired])
            async with box.client.request(method, target, params=query, json=body, headers=headers) as answer:
                said, status = await answer.read(), answer.status
            told = said.decode("utf-8", "replace") + str(dict(answer.headers))
            if foreign(told, f"{target} {query} {body} {headers}".casefold(), ids) or status >= 500:
                wrong.setdefault((status, method, path), (target, query, body, told[:300]))
            if path.startswith("/v1/peer/") and status < 300:
                wrong.setdefault((status, method, path), (target, query, body, told[:300]))
    assert not wrong, json.dumps([[str(part) for part in (*key, *case)] for key, case in wrong.items()], indent=1)
    assert await belongings(box) == before


async def test_the_websocket_knows_no_voice_of_another_tenant(shared):
    box, token = shared
    headers = {"Authorization": f"Bearer {token}"}
    async with box.client.ws_connect("/v1/stream", headers=headers) as socket:
        await socket.send_json({"type": "start", "speaker": VOICE})
        await socket.send_json({"type": "text", "text": "Hello there, good morning to you."})
        await socket.send_json({"type": "end"})
        heard = []
        async with asyncio.timeout(20):
            async for message in socket:
                heard.append(message)
                if len(heard) > 20 or "voice_not_found" in str(message.data):
                    break
    assert all(message.type == aiohttp.WSMsgType.TEXT for message in heard), "sound came out"
    assert any("voice_not_found" in message.data for message in heard)


async def test_live_events_and_speech_tell_nothing_either(shared):
    box, token = shared
    for voice in (VOICE, f"{VOICE}@1"):
        status, _, _ = await send(box, "GET", "/tts", token, params={"speaker": voice, "text": "hello there"})
        assert status == 404
        status, said, _ = await send(
            box, "POST", "/v1/audio/speech", token, {"model": "tts-1", "input": "hello", "voice": voice}
        )
        assert status == 404, said
    status, said, _ = await send(box, "GET", "/v1/announcements/events", token)
    assert status == 200 and not HIDDEN.search(said.decode())


async def test_the_wyoming_door_of_another_tenant_knows_no_voice_whatever_id_is_asked(shared):
    """Every id of the other tenant as a voice or a speaker: not a byte of sound, nor a word about it."""
    box, token = shared
    services = box.services
    bound = WyomingSettings(port=0, token=token.partition(".")[0])
    settings = services.settings.model_copy(update={"wyoming": bound})
    info = InfoRooms(services.registry, services.consents, services.plugins, "sine", "Counter")
    rooms = SessionRooms(settings, services.security, services.synthesis, services.metrics, info)
    ids = sorted({one for every in ids_of(await belongings(box)).values() for one in every})
    chance, wrong = random.Random(6), []
    async with (door := WyomingDoor(rooms)).opened():
        (told,) = await ask_wyoming(door.port, Describe())
        assert any(voice["installed"] for voice in told.data["tts"][0]["voices"])
        assert not HIDDEN.search(str(told.data))
        for number in range(max(WALK // 20, 2 * len(ids))):
            name = ids[number % len(ids)] + chance.choice(["", "", "@1", "@2"])
            voice = SynthesizeVoice(name=name, speaker=chance.choice([None, None, chance.choice(ids)]))
            streamed = (SynthesizeStart(voice), SynthesizeChunk("Good morning. "), SynthesizeStop())
            events = streamed if number % 2 else (Synthesize("Good morning, all.", voice),)
            heard = await ask_wyoming(door.port, *events)
            if [(event.type, event.data.get("code")) for event in heard] != [("error", "voice_not_found")]:
                wrong.append((name, heard))
    assert not wrong, wrong[:5]


async def ask_wyoming(port, *events):
    heard = []
    async with AsyncTcpClient("127.0.0.1", port, read_timeout=20) as client:
        for event in events:
            await client.write_event(event.event())
        while not heard or heard[-1].type not in {"error", "info", "audio-stop"}:
            heard.append(await client.read_event())
    return heard
