"""Four clients that come and go through four doors for a while: nothing of them may stay in the daemon.

`VOICED_SOAK_S=300` makes it as long as that, with the engine that ships; by default it takes some seconds, in tones.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from box import RunningBox, tone_box
from wyoming.audio import AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Describe
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped, SynthesizeVoice

SOAK_S = float(os.environ.get("VOICED_SOAK_S", "0"))
WORDS = (
    "good morning",
    "everybody",
    "the counter",
    "closes in",
    "ten minutes",
    "请到",
    "三号柜台",
    "领取您的",
    "order",
    "谢谢",
)
pytestmark = pytest.mark.timeout(SOAK_S + 300)


@dataclass
class Soak:
    """What the clients share. `expected` are the ends that are no fault."""

    url: str
    wyoming: int
    voice: str
    ends_at: float
    chance: random.Random = field(default_factory=lambda: random.Random(4))
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.ends_at

    def text(self) -> str:
        sentences = (" ".join(self.chance.choices(WORDS, k=self.chance.randrange(2, 9))) for _ in range(3))
        return ". ".join(sentences) + "."

    def some_voice(self) -> str:
        return "nobody" if self.chance.random() < 0.1 else self.voice

    def leaves(self) -> bool:
        return self.chance.random() < 0.3


async def over_http(soak: Soak, client: aiohttp.ClientSession) -> None:
    query = {"speaker": soak.some_voice(), "text": soak.text(), "format": soak.chance.choice(["wav", "mp3", "pcm"])}
    query["stream"] = soak.chance.choice(["true", "false"])
    async with client.get("/tts", params=query) as answer:
        soak.seen[f"http {answer.status}"] += 1
        if not soak.leaves():
            await answer.read()


async def over_events(soak: Soak, client: aiohttp.ClientSession) -> None:
    order = {"model": "tts-1", "input": soak.text(), "voice": soak.some_voice(), "stream_format": "sse"}
    async with client.post("/v1/audio/speech", json=order) as answer:
        soak.seen[f"sse {answer.status}"] += 1
        async for line in answer.content:
            if soak.leaves() and line.startswith(b"data"):
                return


async def over_websocket(soak: Soak, client: aiohttp.ClientSession) -> None:
    async with client.ws_connect("/v1/stream") as line:
        for number in range(2):
            await line.send_json({"type": "start", "speaker": soak.some_voice(), "id": str(number)})
            for word in soak.text().split():
                await line.send_json({"type": "text", "text": f"{word} "})
            await line.send_json({"type": "end"})
        if soak.leaves():
            await line.receive()
            return
        if soak.leaves():
            await line.send_json({"type": "cancel", "id": "0"})
        ended: set[str] = set()
        while len(ended) < 2:
            frame = await line.receive(timeout=60)
            if frame.type != aiohttp.WSMsgType.TEXT:
                assert frame.type == aiohttp.WSMsgType.BINARY, frame
                continue
            told = frame.json()
            if told["type"] in {"done", "cancelled", "error"}:
                ended.add(told["id"])
                soak.seen[f"ws {told.get('code', told['type'])}"] += 1


async def over_wyoming(soak: Soak, client: aiohttp.ClientSession) -> None:
    voice = SynthesizeVoice(name=soak.some_voice())
    async with AsyncTcpClient("127.0.0.1", soak.wyoming, read_timeout=60) as line:
        match soak.chance.randrange(4):
            case 0:
                events, end = (Describe(),), "info"
            case 1:
                chunks = (SynthesizeChunk(f"{word} ") for word in soak.text().split())
                events, end = (SynthesizeStart(voice), *chunks, SynthesizeStop()), SynthesizeStopped().event().type
            case _:
                events, end = (Synthesize(soak.text(), voice),), AudioStop().event().type
        for event in events:
            await line.write_event(event.event())
        if soak.chance.random() < 0.1:
            await line.write_event(Event("synthesize", {"text": 7}))
        heard = None
        while heard is None or heard.type not in {end, "error"}:
            heard = await line.read_event()
            if soak.leaves():
                return
        soak.seen[f"wyoming {heard.data.get('code', heard.type)}"] += 1


async def keep_on(soak: Soak, visit) -> None:
    async with aiohttp.ClientSession(soak.url, timeout=aiohttp.ClientTimeout(90)) as client:
        while soak.goes_on:
            with suppress(ConnectionResetError):
                await visit(soak, client)


def open_files(box: RunningBox) -> int:
    return len(list((Path("/proc") / str(box.process.pid) / "fd").iterdir()))


async def watch(soak: Soak, box: RunningBox, rows: list[tuple[float, float, int]]) -> None:
    began = time.monotonic()
    while soak.goes_on:
        rows.append((round(time.monotonic() - began), round(box.resident_mb(), 1), open_files(box)))
        await asyncio.sleep(max(1.0, SOAK_S / 30))


async def idle(box: RunningBox) -> int:
    """Open files once nothing is under way any more."""
    async with aiohttp.ClientSession(box.url) as client, asyncio.timeout(60):
        while True:
            async with client.get("/metrics") as answer:
                figures = dict(line.rsplit(" ", 1) for line in (await answer.text()).splitlines() if line[0] != "#")
            if figures["voiced_speech_active"] == figures["voiced_wyoming_connections"] == "0":
                break
            await asyncio.sleep(0.1)
        async with client.get("/v1/system") as answer:
            assert (await answer.json())["speech"]["waiting_clauses"] == 0
    await asyncio.sleep(1.0)
    return open_files(box)


async def test_clients_that_come_and_go_through_all_doors_leave_nothing_behind(tmp_path):
    box = RunningBox(tmp_path / "state") if SOAK_S else tone_box(tmp_path)
    box.start()
    try:
        async with aiohttp.ClientSession(box.url) as client, client.get("/v1/system") as answer:
            port = (await answer.json())["wyoming"]["port"]
        voice = "jf_gongitsune" if SOAK_S else "sine-440"
        soak, rows = Soak(box.url, port, voice, time.monotonic() + (SOAK_S or 6)), []
        visits = (over_http, over_events, over_websocket, over_wyoming)
        before = await idle(box)
        await asyncio.gather(watch(soak, box, rows), *(keep_on(soak, visit) for visit in visits))
        after = await idle(box)
        print(f"files {before} → {after}; {dict(soak.seen)}")
        print("\n".join(map(str, rows)))
        assert after <= before + 2
        assert rows[-1][1] < 1.5 * rows[len(rows) // 3][1] + 20  # MB: a third of the time is for caches to fill
        assert {end for end in soak.seen if end.split()[1] not in EXPECTED} == set()
        assert min(Counter(end.split()[0] for end in soak.seen).values()) >= 1
    finally:
        assert box.stop() == 0
    log = box_log(tmp_path)
    assert "Traceback" not in log and " ERROR " not in log, log[-3000:]


EXPECTED = {
    *("200", "404", "done", "cancelled", "info", "audio-stop", "synthesize-stopped"),
    *("voice_not_found", "wyoming_event_malformed"),
}


def box_log(folder: Path) -> str:
    return (folder / "state.log").read_text()
