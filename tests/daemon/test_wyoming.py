"""The real daemon with the engine that ships, spoken to by the Wyoming client of the protocol's authors."""

from __future__ import annotations

import asyncio
import io
import json
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
import soundfile
from box import tone_box
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped, SynthesizeVoice
from zeroconf import ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

VOICE = SynthesizeVoice(name="jf_gongitsune")
SERVICE = "_wyoming._tcp.local."


def call(box, path: str, data: bytes | None = None) -> bytes:
    with urllib.request.urlopen(box.url + path, data, timeout=60) as answer:
        return answer.read()


def door_of(box) -> dict:
    return json.loads(call(box, "/v1/system"))["wyoming"]


async def ask(box, *events, until=AudioStop):
    """The events up to `until`, and after how many seconds the first of them came."""
    heard, began = [], time.monotonic()
    async with AsyncTcpClient("127.0.0.1", door_of(box)["port"], read_timeout=60) as client:
        for event in events:
            await client.write_event(event.event())
        while not heard or not until.is_type(heard[-1].type):
            heard.append(await client.read_event())
            assert heard[-1] is not None and heard[-1].type != "error", heard
            if len(heard) == 1:
                first_s = time.monotonic() - began
    return heard, first_s


def pcm_of(heard) -> bytes:
    return b"".join(AudioChunk.from_event(event).audio for event in heard if AudioChunk.is_type(event.type))


def detect(box, pcm: bytes, rate: int) -> dict:
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, "<i2"), rate, format="WAV", subtype="PCM_16")
    return json.loads(call(box, "/v1/detect", file.getvalue()))


@pytest.mark.parametrize(
    "text",
    [
        "Good evening, the shop closes in ten minutes.",
        "各位顾客请注意，本店十分钟后打烊。",
        "请到 counter 三号领取您的 order，谢谢。",
    ],
)
async def test_the_engine_speaks_english_chinese_and_both_as_at_the_other_doors(speaking, text):
    heard, _ = await ask(speaking, Synthesize(text, voice=VOICE))
    rate = AudioStart.from_event(heard[0]).rate
    assert 1.5 < len(pcm_of(heard)) / 2 / rate < 15
    query = urllib.parse.urlencode({"speaker": VOICE.name, "text": text, "format": "pcm"})
    assert call(speaking, f"/tts?{query}") == pcm_of(heard)


async def test_the_mark_of_what_was_received_leads_to_the_log(speaking):
    text = "The lift is out of order today. Please take the stairs, or ask at the counter on the ground floor."
    heard, _ = await ask(speaking, Synthesize(text, voice=VOICE))
    found = detect(speaking, pcm_of(heard), AudioStart.from_event(heard[0]).rate)
    assert found["watermark"]["mark"] == heard[0].data["voiced"]["mark"]
    (entry,) = found["watermark"]["entries"]
    assert (entry["action"], entry["actor"], entry["details"]["to"]) == ("speech", "wyoming", "wyoming@127.0.0.1")


async def test_a_streamed_text_is_heard_sentence_by_sentence(speaking):
    text = ("The first sentence is here. ", "第二句是中文。", "And the third one ", "ends it.")
    heard, _ = await ask(
        speaking, SynthesizeStart(VOICE), *map(SynthesizeChunk, text), SynthesizeStop(), until=SynthesizeStopped
    )
    kinds = [event.type for event in heard if not AudioChunk.is_type(event.type)]
    assert kinds == ["audio-start", "audio-stop"] * 3 + ["synthesize-stopped"]
    assert len(pcm_of(heard)) / 48_000 > 3


async def test_every_starter_voice_is_listed_with_languages_and_attribution(speaking):
    heard, _ = await ask(speaking, Describe(), until=Info)
    (program,) = Info.from_event(heard[0]).tts
    voices = {voice.name: voice for voice in program.voices}
    assert VOICE.name in voices
    assert all({"en", "zh"} <= set(voice.languages) and voice.attribution.name for voice in voices.values())


async def test_another_programs_browser_finds_the_door(speaking):
    found, tasks = asyncio.Event(), list[asyncio.Task]()
    zeroconf = AsyncZeroconf()

    def notice(zeroconf, service_type, name, state_change):
        if state_change is not ServiceStateChange.Removed:
            tasks.append(asyncio.ensure_future(resolve(name)))

    async def resolve(name):
        info = AsyncServiceInfo(SERVICE, name)
        if await info.async_request(zeroconf.zeroconf, 3000) and info.port == door_of(speaking)["port"]:
            assert info.parsed_addresses() == ["127.0.0.1"]
            found.set()

    browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[notice])
    try:
        async with asyncio.timeout(30):
            await found.wait()
    finally:
        await browser.async_cancel()
        await zeroconf.async_close()


async def test_a_taken_port_closes_this_door_and_nothing_else(tmp_path, tones):
    box = tone_box(tmp_path, VOICED_WYOMING__PORT=str(door_of(tones)["port"])).start()
    try:
        told = door_of(box)
        assert (told["state"], told["code"]) == ("closed", "wyoming_address_in_use")
        assert call(box, "/tts?speaker=sine-440&text=Hello+there")
    finally:
        assert box.stop() == 0
    assert "Wyoming stays closed" in (tmp_path / "state.log").read_text()
