"""A protected voice is refused in a real clone run: the daemon, its listener, real recordings of real people."""

from __future__ import annotations

import io
import json
import sqlite3
from pathlib import Path

import aiohttp
import soundfile
from box import tone_box

from appliance.audio.files import mono_at, read_audio

ROOT = Path(__file__).parents[2]
RATE = 24_000


def piece(path: Path, start_s: float, end_s: float) -> bytes:
    audio = mono_at(read_audio(path), RATE)
    file = io.BytesIO()
    soundfile.write(file, audio.samples[int(start_s * RATE) : int(end_s * RATE)], RATE, format="WAV")
    return file.getvalue()


async def test_a_protected_voice_is_refused_and_a_stranger_is_not(tmp_path):
    reader = ROOT / "appliance" / "data" / "demo" / "two_cities.flac"
    box = tone_box(tmp_path, VOICED_CLONE__MIN_SPEECH_S="4", VOICED_INTAKE__MIN_DNSMOS="1").start()
    try:
        async with aiohttp.ClientSession(box.url, timeout=aiohttp.ClientTimeout(120)) as session:

            async def post(path: str, **order):
                async with session.post(path, **order) as answer:
                    return answer.status, await answer.json()

            for voice in ("anna", "tom"):
                order = {"speaker": voice, "voice": voice, "purposes": ["clone", "speak"]}
                assert (await post("/v1/consents", json=order))[0] == 201
            form = {"speaker": "anna", "transcript": "It was the best of times"}
            status, recording = await post("/v1/recordings", data=piece(reader, 0, 20), params=form)
            assert status == 201, recording
            params = {"name": "The reader"}
            status, protected = await post("/v1/protected-voices", data=piece(reader, 22, 42), params=params)
            assert (status, protected["name"]) == (201, "The reader")

            status, problem = await post("/v1/jobs", json=_clone("anna", recording))
            assert (status, problem["code"]) == (403, "voice_protected"), problem
            status, problem = await post("/v1/recordings", data=piece(reader, 5, 25), params=form)
            assert (status, problem["code"]) == (403, "voice_protected"), problem

            form = {"speaker": "tom", "transcript": "Ever tried."}
            other = piece(ROOT / "tests" / "data" / "beckett.flac", 0, 10)
            status, recording = await post("/v1/recordings", data=other, params=form)
            assert status == 201, recording
            status, job = await post("/v1/jobs", json=_clone("tom", recording))
            assert status == 202, job
            async with session.delete(f"/v1/jobs/{job['id']}") as answer:
                assert answer.status < 300
    finally:
        assert box.stop() == 0
    with sqlite3.connect(box.state_dir / "voiced.db") as db:
        entries = [json.loads(row[0]) for row in db.execute("SELECT entry FROM audit WHERE action LIKE 'gate%'")]
    verdicts = [(entry["action"], entry["voice"], entry.get("outcome")) for entry in entries]
    assert verdicts[0] == ("gate.clone", "anna", "refused")
    assert verdicts[-1] == ("gate.pass", "tom", "done")


def _clone(voice: str, recording: dict) -> dict:
    return {"kind": "clone", "voice": voice, "recordings": [recording["id"]], "engine": "sine"}
