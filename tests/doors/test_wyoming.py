"""The Wyoming door, spoken to by the client of the protocol's authors over TCP."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import numpy as np
import pytest
from open_box import TEXT
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from appliance.audio.watermark import find_watermark
from appliance.contracts import Audio

pytestmark = pytest.mark.asyncio(loop_scope="session")
SINE = SynthesizeVoice(name="sine-440")


@asynccontextmanager
async def client_of(box):
    async with AsyncTcpClient("127.0.0.1", box.services.wyoming.port, connect_timeout=5, read_timeout=30) as client:
        yield client


async def hear(client, until=AudioStop) -> list[Event]:
    """Everything up to the event that ends it, or up to an error, or to the end of the line."""
    heard = []
    while (event := await client.read_event()) is not None:
        heard.append(event)
        if until.is_type(event.type) or Error.is_type(event.type):
            break
    return heard


async def ask(box, *events, until=AudioStop) -> list[Event]:
    async with client_of(box) as client:
        for event in events:
            await client.write_event(event.event())
        return await hear(client, until)


async def info_of(box) -> Info:
    return Info.from_event((await ask(box, Describe(), until=Info))[-1])


async def refusal(box, *events) -> Error:
    """The error that events are answered with; the line has to be closed behind it."""
    async with client_of(box) as client:
        for event in events:
            await client.write_event(event.event())
        heard = await hear(client)
        assert [Error.is_type(event.type) for event in heard] == [True], heard
        assert await client.read_event() is None
        return Error.from_event(heard[0])


def sound_of(heard: list[Event]) -> Audio:
    chunks = [AudioChunk.from_event(event) for event in heard if AudioChunk.is_type(event.type)]
    assert {(chunk.width, chunk.channels) for chunk in chunks} == {(2, 1)}
    (rate,) = {chunk.rate for chunk in chunks}
    samples = np.frombuffer(b"".join(chunk.audio for chunk in chunks), "<i2").astype(np.float32) / 32_768
    return Audio(samples, rate)


def pitch_of(audio: Audio) -> float:
    spectrum = np.abs(np.fft.rfft(audio.samples * np.hanning(len(audio.samples))))
    return float(np.argmax(spectrum)) * audio.sample_rate / len(audio.samples)


async def test_the_box_lists_its_voices_as_home_assistant_reads_them(box):
    info = await info_of(box)
    (program,) = info.tts
    assert (program.name, program.installed, program.supports_synthesize_streaming) == ("voiced", True, True)
    assert program.attribution.name and program.version
    voice = next(voice for voice in program.voices if voice.name == "sine-440")
    assert (voice.description, voice.version, voice.languages) == ("Sine 440", "sine-440@1", ["zh", "en", "ja"])
    assert voice.installed and voice.attribution.name
    assert not (info.asr or info.wake or info.handle or info.intent or info.mic or info.snd)


async def test_a_text_is_spoken_in_the_named_voice(box):
    heard = await ask(box, Synthesize(TEXT, voice=SINE))
    kinds = [event.type for event in heard]
    assert (kinds[0], set(kinds[1:-1]), kinds[-1]) == ("audio-start", {"audio-chunk"}, "audio-stop")
    audio = sound_of(heard)
    assert AudioStart.from_event(heard[0]).rate == audio.sample_rate == 24_000
    assert pitch_of(audio) == pytest.approx(440, abs=2)
    assert AudioStop.from_event(heard[-1]).timestamp == pytest.approx(audio.duration_s * 1000, abs=1)


async def test_the_sound_is_that_of_the_same_request_at_the_other_doors(box):
    audio = sound_of(await ask(box, Synthesize(TEXT, voice=SINE)))
    async with box.client.get("/tts", params={"speaker": "sine-440", "text": TEXT, "format": "pcm"}) as answer:
        assert await answer.read() == (audio.samples * 32_768).astype("<i2").tobytes()


async def test_what_was_received_is_marked_and_says_so(box):
    heard = await ask(box, Synthesize(f"{TEXT} {TEXT} {TEXT}", voice=SINE))
    told = heard[0].data["voiced"]
    assert told["ai_generated"] is True
    mark = find_watermark(sound_of(heard), bytes(32))
    assert mark is not None
    assert f"{mark.payload:010x}" == told["mark"] == json.loads(told["AIGC"])["ProduceID"]


async def test_text_that_is_still_being_written_is_spoken_piece_by_piece(box):
    async with client_of(box) as client:
        await client.write_event(SynthesizeStart(voice=SINE).event())
        await client.write_event(SynthesizeChunk("This sentence is complete. And this one is n").event())
        first = await hear(client)
        for event in (SynthesizeChunk("ot yet."), Synthesize("All of it.", voice=SINE), SynthesizeStop()):
            await client.write_event(event.event())
        rest = await hear(client, SynthesizeStopped)
    assert sound_of(first).duration_s > 0.3
    kinds = [event.type for event in rest if not AudioChunk.is_type(event.type)]
    assert kinds == ["audio-start", "audio-stop", "synthesize-stopped"]
