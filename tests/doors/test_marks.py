"""Every exit of speech is marked, and the open detector finds it."""

from __future__ import annotations

import ast
import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from open_box import TEXT, open_box, wav

from appliance.audio.files import read_audio, to_mono
from appliance.audio.tags import read_tags
from appliance.audio.watermark import find_watermark
from appliance.contracts import Audio
from appliance.doors.http.marks import MOST_STRANGERS
from appliance.voices.records import NewConsent, NewVersion, NewVoice

pytestmark = pytest.mark.asyncio(loop_scope="session")

APPLIANCE = Path(__file__).parents[2] / "appliance"
SAY = {"speaker": "sine-440", "text": f"{TEXT} {TEXT} {TEXT}"}

# Where sound is encoded or sent, and why that is marked. A new exit is missing here, and this test then asks for it.
EXITS = {
    "doors/http/speech.py:StreamEncoder": "sound of `synthesis`; tags of the speech",
    "doors/http/speech.py:wav_header": "tags of the speech",
    "doors/http/versions.py:wav_header": "sound of `synthesis`; tags of the speech",
    "doors/utterances.py:pcm16": "sound of `synthesis`; PCM has no place for tags: WebSocket and Wyoming say it before",
    "announcer/rendering.py:encode_audio": "sound of `synthesis`; tags of the speech",
    "publishing/prompts.py:encode_audio": "sound of `synthesis`, with the tags of the filed rendition",
    "publishing/rendering.py:encode_audio": "sound of `synthesis`; tags of the speech",
    "marks/desk.py:encode_audio": "files without marks are marked here as they leave",
    "marks/desk.py:pcm16": "a digest",
    "marks/stage.py:pcm16": "a digest",
}
ENCODERS = {"StreamEncoder", "encode_audio", "pcm16", "wav_header"}


def calls_of_encoders() -> dict[str, list[ast.Call]]:
    found: dict[str, list[ast.Call]] = {}
    for path in APPLIANCE.rglob("*.py"):
        if path.relative_to(APPLIANCE).parts[0] in {"audio", "engine", "jobs", "cli"}:
            continue  # arrays in, arrays out; what a trainer files leaves through `mark_file`; the command line listens
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [part for part in ast.walk(node) if isinstance(part, ast.Name) and part.id in ENCODERS]
            if isinstance(node, ast.Call) and names:
                at = path.relative_to(APPLIANCE).as_posix()
                callee = getattr(node.func, "id", None) or next((n.id for n in names if n in node.args), None)
                if callee in ENCODERS:
                    found.setdefault(f"{at}:{callee}", []).append(node)
    return found


async def test_every_exit_of_sound_is_known_and_carries_tags():
    found = calls_of_encoders()
    assert found.keys() == EXITS.keys()
    for exit, calls in found.items():
        if not exit.endswith("pcm16"):
            assert all("tags" in ast.unparse(call) for call in calls), exit


# Files that leave as they lie on the disk, and why that is right.
FILES = {
    "doors/http/recordings.py:FileResponse": "what a person said",
    "doors/http/versions.py:FileResponse": "what a person said, and pictures",
    "doors/http/marks.py:read_bytes": "rendered lines, cues and tracks: marked and tagged when they were filed",
    "doors/http/marks.py:send_parts": "the same",
    "doors/http/scripts.py:send_parts": "an archive of such lines",
    "doors/http/exports.py:send_parts": "weights of a voice",
    "doors/http/dubbings.py:read_bytes": "subtitles that came in",
    "doors/http/pages.py:read_bytes": "the console",
    "doors/http/trust.py:read_bytes": "certificates",
    "publishing/dubbing.py:SoundFile": "cues one after the other, with the tags of the first",
}


async def test_every_file_that_leaves_is_known():
    found = set()
    for folder in ("doors", "publishing", "announcer"):
        for path in (APPLIANCE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                name = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
                name = name or getattr(getattr(node, "func", None), "id", "")
                if name in {"FileResponse", "SoundFile", "send_parts"} or (
                    folder == "doors" and isinstance(node, ast.Attribute) and node.attr == "read_bytes"
                ):
                    found.add(f"{path.relative_to(APPLIANCE).as_posix()}:{name or node.attr}")
    assert found == FILES.keys()


async def test_engines_are_asked_for_speech_by_synthesis_alone():
    """`pool.begin` is how sound is made; whoever calls it elsewhere goes round the marks."""
    callers = {
        path.relative_to(APPLIANCE).as_posix()
        for path in APPLIANCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "begin" and "pool" in ast.unparse(node.value)
    }
    assert callers == {"synthesis.py"}


async def heard(box, **query) -> bytes:
    async with box.client.get("/tts", params={**SAY, **query}) as answer:
        body = await answer.read()
        assert answer.status == 200, body
        assert answer.headers["X-AI-Generated"] == "true"
        return body


def mark_in(data: bytes):
    decoded = read_audio(data)
    return find_watermark(Audio(to_mono(decoded.samples), decoded.sample_rate), bytes(32))


@pytest.mark.parametrize("query", [{"format": f, "stream": s} for f in ("wav", "mp3") for s in ("false", "true")])
async def test_speech_over_http_carries_metadata_and_watermark(box, query):
    body = await heard(box, **query)
    label, mark = json.loads(read_tags(body)["AIGC"]), mark_in(body)
    assert label["Label"] == "1"
    assert label["ContentProducer"] == "Counter"
    assert mark is not None
    assert label["ProduceID"] == f"{mark.payload:010x}"


async def test_speech_for_openai_clients_and_as_events_is_marked(box):
    order = {"model": "tts-1", "input": SAY["text"], "voice": "sine-440", "response_format": "wav"}
    async with box.client.post("/v1/audio/speech", json=order) as answer:
        assert answer.headers["X-AI-Generated"] == "true"
        assert mark_in(await answer.read()) is not None


async def test_announcements_are_filed_with_marks(box):
    speech, audio = await box.services.synthesis.render(_request())
    mark = find_watermark(audio, bytes(32))
    assert mark is not None
    assert speech.tags["AIGC"]
    assert speech.mark == f"{mark.payload:010x}"


def _request(**fields):
    from appliance.synthesis import SpeechRequest

    return SpeechRequest(**{"tenant": "main", "voice": "sine-440", "text": SAY["text"], "client": "test", **fields})


async def detect(box, data: bytes, **headers) -> dict:
    async with box.client.post("/v1/detect", data=data, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_a_few_strangers_at_a_time_may_hand_in_files_and_who_is_known_always(tmp_path):
    async with open_box(tmp_path, admin_token="open sesame") as guarded:
        port = int(guarded.url.rpartition(":")[2])
        lines = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_STRANGERS)]
        for _, writer in lines:  # they send the beginning of a file and fall silent
            writer.write(b"POST /v1/detect HTTP/1.1\r\nHost: box\r\nContent-Length: 1000\r\n\r\nRIFF")
        async with asyncio.timeout(20):
            while len(list((tmp_path / "incoming").glob("*"))) < MOST_STRANGERS:
                await asyncio.sleep(0.02)
        async with guarded.client.post("/v1/detect", data=b"RIFF") as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (503, "detections_full")
        credential = {"Authorization": "Bearer open sesame"}
        async with guarded.client.post("/v1/detect", data=b"RIFF", headers=credential) as answer:
            assert answer.status == 415  # it was looked at


async def test_the_detector_leads_from_a_sound_to_its_audit_entry(box):
    found = await detect(box, await heard(box, format="mp3", stream="false"))
    assert found["is_from_this_box"]
    entry = found["watermark"]["entries"][0]
    assert entry["action"] == "speech"
    assert entry["voice"] == "sine-440@1"
    assert entry["subject"] == found["watermark"]["mark"] == found["aigc"]["ProduceID"]
    assert len(entry["output_digest"]) == 64


async def test_strangers_may_ask_but_are_not_told_about_the_log(tmp_path):
    credential = {"Authorization": "Bearer open sesame"}
    async with open_box(tmp_path / "box", admin_token="open sesame") as guarded:
        async with guarded.client.get("/tts", params=SAY, headers=credential) as answer:
            body = await answer.read()
        assert (await detect(guarded, body))["watermark"]["entries"] == []
        assert (await detect(guarded, body, **credential))["watermark"]["entries"]
        async with guarded.client.get("/detect") as page:
            assert page.status == 200


async def test_a_sound_from_elsewhere_has_nothing(box):
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * 24_000).astype(np.float32)
    found = await detect(box, wav(noise))
    assert not found["is_marked"]
    assert found["watermark"] is found["aigc"] is found["provenance"] is None


async def test_a_file_signed_on_request_is_trusted_until_it_is_changed(box):
    pytest.importorskip("c2pa")
    body = await heard(box, format="wav", provenance="true")
    found = await detect(box, body)
    assert found["provenance"]["state"] == "trusted"
    assert found["provenance"]["generated"]
    assert found["provenance"]["facts"]["mark"] == found["watermark"]["mark"]
    changed = bytearray(body)
    changed[len(body) // 2] ^= 1
    assert (await detect(box, bytes(changed)))["provenance"]["state"] == "invalid"
    async with box.client.get("/tts", params={**SAY, "format": "opus", "provenance": "true"}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (422, "provenance_format")


async def add_own_voice(box) -> None:
    new = NewConsent("Anna", "anna", ("clone", "speak"), statement="yes")
    await box.services.consents.record("main", new)
    await box.services.registry.create_voice("main", NewVoice("anna"))
    await box.services.registry.add_version("main", "anna", NewVersion("sine", {}, {"hz": 300, "sample_rate": 24_000}))
    await box.services.registry.promote("main", "anna", 1)


@pytest.mark.parametrize(
    ("profile", "labelled"), [("eu", {"anna"}), ("cn", {"anna", "sine-440"}), ("off-by-agreement", set())]
)
async def test_who_hears_the_rhythm_is_decided_by_the_profile(tmp_path, profile, labelled):
    marks = {"profile": profile, "agreement": "contract 7"}
    async with open_box(tmp_path / profile, marks=marks) as site:
        await add_own_voice(site)
        speeches = {
            voice: await site.services.synthesis.render(_request(voice=voice)) for voice in ("anna", "sine-440")
        }
        assert {voice for voice, (speech, _) in speeches.items() if speech.label_s > 0.5} == labelled
        await site.services.audit.flush()
        query = "SELECT json_extract(entry, '$.details.agreement') FROM audit WHERE action = 'speech.unlabelled'"
        logged = await site.services.db.read(lambda db: [row[0] for row in db.execute(query)])
        assert logged == (["contract 7"] * 2 if profile == "off-by-agreement" else [])


async def test_equal_requests_are_bit_identical_marks_included(box):
    assert await heard(box, seed=5, stream="false") == await heard(box, seed=5, stream="false")


async def utterance_lengths(site, *voices: str) -> list[float]:
    """Seconds of sound of one utterance after the other on one connection, each with the same words."""
    lengths = []
    async with site.client.ws_connect("/v1/stream") as line:
        for voice in voices:
            for frame in ({"type": "start", "speaker": voice}, {"type": "text", "text": TEXT}, {"type": "end"}):
                await line.send_json(frame)
            async for message in line:
                if message.type.name == "TEXT" and (told := json.loads(message.data))["type"] in {"done", "error"}:
                    lengths.append(told["duration_s"])
                    break
    return lengths


@pytest.mark.parametrize("is_once", [False, True])
async def test_a_conversation_hears_the_rhythm_before_every_utterance_or_once_per_voice(tmp_path, is_once):
    marks = {"profile": "cn", "label_once_per_session": is_once}
    async with open_box(tmp_path / "site", marks=marks) as site:
        first, second, other = await utterance_lengths(site, "sine-440", "sine-440", "sine-220")
        assert other == pytest.approx(first, abs=0.05)
        assert first - second == pytest.approx(1.1 if is_once else 0.0, abs=0.2)
        assert (await utterance_lengths(site, "sine-440"))[0] == pytest.approx(first, abs=0.05)  # another connection
