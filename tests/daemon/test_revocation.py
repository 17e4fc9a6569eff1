"""A consent is withdrawn while its voice is cloned, streamed, announced and prepared: all of it ends at once."""

from __future__ import annotations

import asyncio
import ctypes.util
import io
import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
import soundfile
from box import RunningBox, tone_box

from appliance.audio.files import mono_at, read_audio
from appliance.database import open_database
from appliance.voices.blobs import BlobStore
from appliance.voices.records import NewVersion, NewVoice
from appliance.voices.registry import VoiceRegistry

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0  # the promise is 5 s; a loaded machine may be late, what never ends is found
SENTENCES = " ".join(f"This is a slow sentence with number {n}." for n in range(60))
CARD = (
    'pcm.null {{ type null }}\npcm.out {{ type file slave.pcm "null" file "{path}" }}\n'
    "pcm.!default {{ type plug slave.pcm out }}\n"
)


@pytest.fixture
async def box(tmp_path):
    """A box with an own voice that speaks in tones, a loudspeaker, and an engine that can be trained."""
    if ctypes.util.find_library("portaudio") is None:
        pytest.skip("PortAudio is not installed (Debian: libportaudio2)")
    (tmp_path / "asound.conf").write_text(CARD.format(path=tmp_path / "played.raw"))
    running = tone_box(
        tmp_path,
        ALSA_CONFIG_PATH=str(tmp_path / "asound.conf"),
        VOICED_LOUDSPEAKER__ENABLED="true",
        VOICED_CLONE__MIN_SPEECH_S="4",
        VOICED_INTAKE__MIN_DNSMOS="1",
        VOICED_SPEECH__CACHE_MB="50",
    )
    shutil.copy(ROOT / "tests" / "jobs" / "drop_ins" / "tone_engine.py", running.state_dir / "plugins")
    async with open_database(running.state_dir / "voiced.db") as db:
        registry = VoiceRegistry(db, BlobStore(running.state_dir / "blobs"))
        await registry.create_voice("main", NewVoice("anna", "Anna", languages=("en",), speaker="anna"))
        await registry.add_version("main", "anna", NewVersion("sine", {}, {"hz": 440, "sample_rate": 24_000}, {}, {}))
        await registry.promote("main", "anna", 1, reason="test")
    yield running.start()
    running.stop()


class Site:
    """What a site does with the voice, and how each of it is found to have ended."""

    def __init__(self, box: RunningBox, session: aiohttp.ClientSession) -> None:
        self.box, self.session = box, session
        self.took_s: dict[str, float] = {}

    async def call(self, method: str, path: str, **order):
        async with self.session.request(method, path, **order) as answer:
            return answer.status, await answer.json() if "json" in answer.content_type else await answer.read()

    async def made(self, path: str, body: dict) -> dict:
        status, told = await self.call("POST", path, json=body)
        assert status < 300, told
        return told

    async def until(self, what: str, condition, began: float = 0.0) -> None:
        """Wait until it is true; with `began` note how long it took since then (s)."""
        asked = time.monotonic()
        while not await condition():
            assert time.monotonic() - asked < PATIENCE_S, what
            await asyncio.sleep(0.02)
        self.took_s[what] = round(time.monotonic() - (began or asked), 2)

    async def row(self, path: str, **expected) -> bool:
        told = (await self.call("GET", path))[1]
        return all(told[key] == value for key, value in expected.items())

    def count(self, query: str) -> int:
        with closing(sqlite3.connect(f"file:{self.box.state_dir / 'voiced.db'}?mode=ro", uri=True)) as db:
            return int(db.execute(query).fetchone()[0])

    async def submit_clones(self) -> list[str]:
        sound = mono_at(read_audio(ROOT / "tests" / "data" / "beckett.flac"), 24_000)
        file = io.BytesIO()
        soundfile.write(file, sound.samples[: 10 * 24_000], 24_000, format="WAV")
        params = {"speaker": "anna", "transcript": "stubborn"}  # its trainer ignores SIGTERM
        status, recording = await self.call("POST", "/v1/recordings", data=file.getvalue(), params=params)
        assert status == 201, recording
        order = {"kind": "clone", "voice": "anna", "recordings": [recording["id"]], "engine": "tone", "steps": 10_000}
        return [(await self.made("/v1/jobs", order))["id"] for _ in range(2)]

    async def say(self, text: str) -> str:
        announcement = {"text": text, "voice": "anna", "chime": False}
        return str((await self.made("/v1/announcements", announcement))["id"])

    async def listen(self, ended: asyncio.Future, started: asyncio.Event) -> None:
        """A stream that is heard until it breaks."""
        try:
            async with self.session.get(
                "/tts", params={"speaker": "anna", "text": SENTENCES, "stream": "true"}
            ) as answer:
                async for _ in answer.content.iter_any():
                    started.set()
        except aiohttp.ClientError:
            ended.set_result(time.monotonic())

    async def converse(self, ended: asyncio.Future, started: asyncio.Event) -> None:
        """An utterance over a WebSocket, until it is told that it may not go on."""
        async with self.session.ws_connect("/v1/stream") as line:
            for frame in ({"type": "start", "speaker": "anna"}, {"type": "text", "text": SENTENCES}, {"type": "end"}):
                await line.send_json(frame)
            async for message in line:
                if message.type is aiohttp.WSMsgType.BINARY:
                    started.set()
                elif json.loads(message.data)["type"] == "error":
                    ended.set_result((time.monotonic(), json.loads(message.data)["code"]))
                    return

    def trainers(self) -> int:
        """Processes that train for this box."""
        found = 0
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words, parent = path.read_bytes(), int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            found += b"appliance.jobs.child" in words and parent == self.box.process.pid
        return found


@pytest.mark.timeout(300)
async def test_everything_that_a_consent_allowed_ends_when_it_is_revoked(box):
    async with aiohttp.ClientSession(box.url, timeout=aiohttp.ClientTimeout(120)) as session:
        site = Site(box, session)
        order = {"speaker": "anna", "voice": "anna", "purposes": ["clone", "speak", "announce", "publish"]}
        consent = await site.made("/v1/consents", order)
        running, queued = await site.submit_clones()
        await site.until("training", lambda: site.row(f"/v1/jobs/{running}", state="running", stage="fit"))
        assert site.trainers() == 1

        whole = {"speaker": "anna", "text": "The bakery opens at eight.", "stream": "false"}
        assert (await site.call("GET", "/tts", params=whole))[0] == 200
        playing = await site.say("A long message. " * 200)
        waiting = await site.say("Another message.")
        at = (datetime.now(UTC) + timedelta(minutes=30)).strftime("%H:%M")
        message = {"text": "Good evening.", "voice": "anna"}
        await site.made("/v1/schedules", {"name": "evening", "times": [at], "time_zone": "UTC", "message": message})

        async def prepared() -> bool:
            return site.count("SELECT count(*) FROM spoken") >= 3

        await site.until("playing", lambda: site.row(f"/v1/announcements/{playing}", state="playing"))
        await site.until("prepared", prepared)
        files = len(list((box.state_dir / "cache" / "renditions").rglob("*")))
        assert files

        loop = asyncio.get_running_loop()
        stream, utterance, heard, spoken = loop.create_future(), loop.create_future(), asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(site.listen(stream, heard)), asyncio.create_task(site.converse(utterance, spoken))]
        await asyncio.wait_for(asyncio.gather(heard.wait(), spoken.wait()), PATIENCE_S)

        began = time.monotonic()
        assert (await site.call("DELETE", f"/v1/consents/{consent['id']}"))[0] == 200
        site.took_s["answered"] = round(time.monotonic() - began, 2)

        async def nothing_kept() -> bool:
            return site.count("SELECT count(*) FROM spoken") == 0

        async def untrained() -> bool:
            return site.trainers() == 0

        async def refused() -> bool:
            return (await site.call("GET", "/tts", params=whole))[1]["code"] == "consent_revoked"

        failed = {"state": "failed"}
        watched = [
            site.until("new speech is refused", refused, began),
            site.until("the running job has failed", lambda: site.row(f"/v1/jobs/{running}", **failed), began),
            site.until("its process is gone", untrained, began),
            site.until("the queued job has failed", lambda: site.row(f"/v1/jobs/{queued}", **failed), began),
            site.until("the playing message", lambda: site.row(f"/v1/announcements/{playing}", **failed), began),
            site.until("the waiting message", lambda: site.row(f"/v1/announcements/{waiting}", **failed), began),
            site.until("prepared sounds are gone", nothing_kept, began),
        ]
        await asyncio.gather(*watched)
        site.took_s["the stream broke off"] = round(await asyncio.wait_for(stream, PATIENCE_S) - began, 2)
        told_at, code = await asyncio.wait_for(utterance, PATIENCE_S)
        site.took_s["the utterance was told"] = round(told_at - began, 2)
        await asyncio.gather(*tasks)
        assert code == "consent_revoked"
        job = (await site.call("GET", f"/v1/jobs/{queued}"))[1]
        assert job["error"]["code"] == "consent_revoked"
        assert (await site.call("GET", f"/v1/announcements/{playing}"))[1]["reason"] == "consent_revoked"
        kept = [path for path in (box.state_dir / "cache" / "renditions").rglob("*") if path.is_file()]
        assert not kept
    print(json.dumps(site.took_s), os.getloadavg())
