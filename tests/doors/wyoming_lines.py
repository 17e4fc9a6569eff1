"""Lines to the Wyoming door, held by the client of the protocol's authors, and what is heard on them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from wyoming.audio import AudioChunk, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.tts import (
    SynthesizeVoice,
)

from appliance.contracts import Audio
from appliance.doors.wyoming.door import WyomingDoor
from appliance.doors.wyoming.info import InfoRooms
from appliance.doors.wyoming.session import SessionRooms
from appliance.security.tokens import NewToken
from appliance.settings import WyomingSettings

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


@dataclass(frozen=True)
class Opened:
    """A second Wyoming door over the rooms of a box."""

    services: Any


@asynccontextmanager
async def another_door(box, **wyoming):
    services = box.services
    changed = WyomingSettings(**{"port": 0, **wyoming})
    settings = services.settings.model_copy(update={"wyoming": changed})
    info = InfoRooms(services.registry, services.consents, services.plugins, "sine", "Counter")
    rooms = SessionRooms(settings, services.security, services.synthesis, services.metrics, info)
    async with (door := WyomingDoor(rooms)).opened():
        yield Opened(replace(services, wyoming=door))


async def issue(box, tenant="main", **token):
    new = NewToken("assistant", **{"role": "device", "doors": ("wyoming",), **token})
    return (await box.services.security.tokens.issue(tenant, new))[0].id


async def until(condition, timeout_s=15.0):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)
