"""What the Wyoming door bears: silent, slow and leaving clients, bytes that are no event, a taken port."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest
from open_box import served, settled
from wyoming.audio import AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event, async_read_event, async_write_event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
)
from wyoming_lines import SINE, another_door, ask, client_of, hear, sound_of, until

from appliance.doors.wyoming.events import encode_event

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_port_that_is_taken_closes_this_door_only(box):
    async with another_door(box, port=box.services.wyoming.port) as door:
        state = door.services.wyoming.state("main", "zh")
        assert (state["state"], state["code"]) == ("closed", "wyoming_address_in_use")
        assert str(box.services.wyoming.port) in state["problem"]
    async with box.client.get("/v1/system") as answer:
        told = (await answer.json())["wyoming"]
        assert (told["state"], told["port"]) == ("open", box.services.wyoming.port)


async def test_more_connections_than_allowed_are_turned_away(box):
    async with another_door(box, max_connections=1) as door, client_of(door) as kept:
        await kept.write_event(Ping().event())
        assert Pong.is_type((await kept.read_event()).type)
        async with client_of(door) as more:
            assert Error.from_event(await more.read_event()).code == "wyoming_full"
        await kept.write_event(Synthesize("Still here.", voice=SINE).event())
        assert AudioStop.is_type((await hear(kept))[-1].type)


async def test_a_silent_connection_is_closed_but_not_while_it_is_spoken_to(box):
    async with another_door(box, idle_s=0.3) as door, client_of(door) as client:
        await client.write_event(Synthesize("slow words " * 3, voice=SINE).event())
        assert AudioStop.is_type((await hear(client))[-1].type)
        assert await client.read_event() is None


async def test_a_client_that_begins_a_text_and_falls_silent_does_not_keep_its_place(box):
    async with another_door(box, idle_s=0.3) as door, client_of(door) as client:
        await client.write_event(SynthesizeStart(voice=SINE).event())
        assert await client.read_event() is None
        await until(lambda: not door.services.wyoming.connections)


async def test_a_client_that_leaves_takes_its_speech_with_it(box):
    async with client_of(box) as client:
        await client.write_event(Synthesize("slow words. " * 200, voice=SINE).event())
        await until(lambda: box.services.synthesis.active)
    await until(lambda: not box.services.synthesis.active)
    await until(lambda: not box.services.wyoming.connections)


async def test_a_client_that_does_not_read_holds_the_engine_back(box):
    begun = served(box)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    sock.connect(("127.0.0.1", box.services.wyoming.port))
    text = "".join(f"{number} words " * 40 + ". " for number in range(10))
    assert len(text) < 5_000
    reader, writer = await asyncio.open_connection(sock=sock)
    await async_write_event(Synthesize(text, voice=SINE).event(), writer)
    held = await settled(box) - begun
    heard = []
    while not heard or not AudioStop.is_type(heard[-1].type):
        heard.append(await async_read_event(reader))
    writer.close()
    assert held < 0.9 * (served(box) - begun)
    assert AudioStop.from_event(heard[-1]).timestamp == pytest.approx(sound_of(heard).duration_s * 1000, abs=1)


async def raw(box, data: bytes, *, leaves: bool = False) -> bytes:
    """What the door says to these bytes before it closes the line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", box.services.wyoming.port)
    writer.write(data)
    if leaves:
        writer.write_eof()
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "wyoming_event_malformed"),
        (b'POST / HTTP/1.1\r\n\r\n{"type": "describe"}\n', "wyoming_event_malformed"),
        (b"[" * 60_000 + b"\n", "wyoming_event_malformed"),
        (b"{" + b" " * 200_000 + b"\n", "wyoming_event_too_large"),
        (b'{"typ": "describe"}\n', "wyoming_event_malformed"),
        (b'{"type": "describe", "data": []}\n', "wyoming_event_malformed"),
        (b'{"type": "describe", "data_length": -1}\n', "wyoming_event_malformed"),
        (b'{"type": "describe", "data_length": true}\n', "wyoming_event_malformed"),
        (b'{"type": "describe", "data_length": 1e9}\n', "wyoming_event_malformed"),
        (b'{"type": "describe", "data_length": 99999999999}\n', "wyoming_event_too_large"),
        (b'{"type": "audio-chunk", "payload_length": 99999999999}\n', "wyoming_event_too_large"),
        (b'{"type": "synthesize", "data_length": 3}\n\xff\xfe\xfd', "wyoming_event_malformed"),
        (b'{"type": "synthesize", "data": {"text": 7}}\n', "wyoming_event_malformed"),
        (b'{"type": "synthesize", "data": {"text": "a", "voice": []}}\n', "wyoming_event_malformed"),
        (b'{"type": "synthesize", "data": {"text": "a", "voice": {"name": 7}}}\n', "wyoming_event_malformed"),
        (b'{"type": "synthesize", "data": {"text": "a", "voice": {"name": "\\ud800"}}}\n', "voice_not_found"),
    ],
)
async def test_bytes_that_are_no_event_are_told_and_end_the_line(box, data, code):
    told = await raw(box, data)
    assert code.encode() in told
    assert b"audio-start" not in told


async def test_nothing_that_comes_in_harms_the_door(box, caplog):
    """Seeded noise, and true events with bytes flipped, cut out, doubled; the door serves as before."""
    chance = random.Random(10_200)
    true = [encode(event.event()) for event in (Describe(), Ping("x"), SynthesizeStart(SINE), SynthesizeStop())]
    true += [encode(Synthesize("Hello there.", voice=SINE).event()), encode(SynthesizeChunk("Good day. ").event())]
    for batch in range(10):
        await asyncio.gather(*(raw(box, spoilt(true, chance), leaves=True) for _ in range(20)))
        assert box.services.wyoming.port, batch
    await until(lambda: not box.services.wyoming.connections)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert AudioStop.is_type((await ask(box, Synthesize("Still well.", voice=SINE)))[-1].type)


def encode(event: Event) -> bytes:
    return encode_event(event.type, event.data, event.payload or b"")


def spoilt(true: list[bytes], chance: random.Random) -> bytes:
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(1, 4_000))
    data = bytearray(b"".join(chance.choices(true, k=chance.randrange(1, 5))))
    for _ in range(chance.randrange(0, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(1, 20)]
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 20)]
            case _:
                data[at:at] = str(chance.choice([-1, 0, 2**31, 2**63, 1e300, "null", "[]"])).encode()
        if not data:
            break
    return bytes(data)


async def test_open_lines_are_closed_when_the_door_closes(box):
    async with another_door(box) as door:
        client = AsyncTcpClient("127.0.0.1", door.services.wyoming.port, read_timeout=10)
        await client.connect()
        await client.write_event(SynthesizeStart(voice=SINE).event())
        await client.write_event(SynthesizeChunk("This sentence is complete. And").event())
        await hear(client)
    assert await client.read_event() is None
    await client.disconnect()
