"""The Wyoming door, spoken to by the client of the protocol's authors over TCP."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from open_box import TEXT, TOKEN, open_box
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event, async_read_event, async_write_event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
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
from appliance.doors.discovery import reachable_addresses
from appliance.doors.wyoming.door import WyomingDoor
from appliance.doors.wyoming.events import encode_event
from appliance.doors.wyoming.info import InfoRooms
from appliance.doors.wyoming.session import SessionRooms
from appliance.security.tenants import Quota
from appliance.security.tokens import NewToken
from appliance.settings import WyomingSettings
from appliance.voices.records import NewConsent, NewVersion, NewVoice

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


async def test_a_ping_is_answered_while_something_is_spoken_and_strange_events_are_let_pass(box):
    async with client_of(box) as client:
        for event in (Synthesize("slow words, please", voice=SINE), Ping("are you there?")):
            await client.write_event(event.event())
        await client.write_event(Event("sing", {"song": "any"}, b"x" * 100))
        first = await client.read_event()
        assert Pong.from_event(first).text == "are you there?"
        assert AudioStop.is_type((await hear(client))[-1].type)


async def test_two_clients_are_served_at_once_and_each_hears_its_own(box):
    voices = ("sine-220", "sine-660")
    heard = await asyncio.gather(*(ask(box, Synthesize(TEXT, voice=SynthesizeVoice(name=name))) for name in voices))
    assert [pitch_of(sound_of(one)) for one in heard] == pytest.approx([220, 660], abs=2)


async def test_several_texts_on_one_connection_are_spoken_in_order(box):
    async with client_of(box) as client:
        for name in ("sine-220", "sine-330"):
            await client.write_event(Synthesize(TEXT, voice=SynthesizeVoice(name=name)).event())
        assert [pitch_of(sound_of(await hear(client))) for _ in range(2)] == pytest.approx([220, 330], abs=2)


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([Synthesize("Hello.", voice=SynthesizeVoice(name="nobody"))], "voice_not_found"),
        ([Synthesize("Hello.", voice=SynthesizeVoice(name="sine-440", speaker="sine-220"))], "voice_not_found"),
        ([Synthesize("Hello.", voice=SynthesizeVoice(language="tlh"))], "language_unknown"),
        ([Synthesize("", voice=SINE)], "text_empty"),
        ([Synthesize("x" * 6_000, voice=SINE)], "text_too_long"),
        ([Synthesize("<speak>Hello.</speak>", voice=SINE, text_format="ssml")], "wyoming_text_format"),
        ([SynthesizeChunk("Nobody started.")], "utterance_not_started"),
        ([SynthesizeStart(voice=SINE), SynthesizeStart(voice=SINE)], "utterance_not_ended"),
        ([SynthesizeStart(voice=SINE), SynthesizeChunk("x" * 6_000)], "text_ahead"),
        ([SynthesizeStart(voice=SINE), SynthesizeStop()], "text_empty"),
    ],
)
async def test_what_cannot_be_spoken_is_told_and_the_line_closed(box, events, code):
    error = await refusal(box, *events)
    assert error.code == code
    assert len(error.text) > 20


async def test_without_a_name_the_default_voice_speaks(box):
    expected = await box.services.synthesis.default_voice("main")
    heard = await ask(box, Synthesize("The default.", voice=SynthesizeVoice(language="en-GB")))
    assert heard[0].data["voiced"]["voice_version"].partition("@")[0] == expected
    async with another_door(box, default_voice="sine-660") as door:
        assert pitch_of(sound_of(await ask(door, Synthesize(TEXT)))) == pytest.approx(660, abs=2)


# ---------------------------------------------------------------- rights


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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory):
    """A box of two tenants; `main` has a voice of its own, with consent."""
    async with open_box(tmp_path_factory.mktemp("shared")) as box:
        services = box.services
        await services.security.tenants.add("bakery", "", Quota())
        for tenant in ("main", "bakery"):
            await services.consents.record(tenant, NewConsent("Anna", f"anna-{tenant}", ("speak",), statement="yes"))
            await services.registry.create_voice(tenant, NewVoice(f"anna-{tenant}"))
            await services.registry.add_version(
                tenant, f"anna-{tenant}", NewVersion("sine", {}, {"hz": 300, "sample_rate": 24_000})
            )
            await services.registry.promote(tenant, f"anna-{tenant}", 1)
        yield box


async def test_the_door_has_the_voices_of_its_tokens_tenant_only(shared):
    async with another_door(shared, token=await issue(shared, "bakery")) as door:
        assert [voice.name for voice in (await info_of(door)).tts[0].voices] == ["anna-bakery"]
        assert sound_of(await ask(door, Synthesize("Hello there.", voice=SynthesizeVoice(name="anna-bakery"))))
        for name in ("anna-main", "anna-main@1", "sine-440"):
            assert (
                await refusal(door, Synthesize("Hello.", voice=SynthesizeVoice(name=name)))
            ).code == "voice_not_found"


async def test_a_token_of_some_voices_lists_and_speaks_no_other(shared):
    async with another_door(shared, token=await issue(shared, voices=("sine-330",))) as door:
        assert [voice.name for voice in (await info_of(door)).tts[0].voices] == ["sine-330"]
        assert pitch_of(sound_of(await ask(door, Synthesize(TEXT)))) == pytest.approx(330, abs=2)
        assert (await refusal(door, Synthesize("Hello.", voice=SINE))).code == "voice_not_found"


async def test_a_revoked_token_ends_what_the_door_may_also_on_open_lines(shared):
    token = await issue(shared)
    async with another_door(shared, token=token) as door, client_of(door) as client:
        await client.write_event(Synthesize("Hello there.", voice=SINE).event())
        assert AudioStop.is_type((await hear(client))[-1].type)
        await shared.services.security.tokens.revoke("main", token)
        await client.write_event(Synthesize("Hello again.", voice=SINE).event())
        assert Error.from_event((await hear(client))[-1]).code == "token_revoked"
        assert (await refusal(door, Describe())).code == "token_revoked"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({}, "wyoming_not_trusted"),  # there are tokens: nobody is trusted for being on this machine
        ({"host": "0.0.0.0"}, "wyoming_not_bound"),
        ({"token": "tok_0123456789abcdef"}, "token_not_there"),
        ({"token": {"role": "auditor"}}, "role_not_allowed"),
        ({"token": {"doors": ("tts",)}}, "door_not_allowed"),
    ],
)
async def test_a_door_that_nobody_may_use_stays_closed_and_says_why(shared, settings, code):
    if isinstance(settings.get("token"), dict):
        settings = {"token": await issue(shared, **settings["token"])}
    async with another_door(shared, **settings) as door:
        state = door.services.wyoming.state("main", "en")
        assert (state["state"], state["port"], state["code"]) == ("closed", 0, code)
        assert state["problem"] and state["remedy"]
        assert not door.services.wyoming.state("bakery", "en")["problem"]


async def test_bound_to_a_token_the_door_is_reached_over_the_network(shared):
    (address, *_) = reachable_addresses("0.0.0.0")
    async with another_door(shared, host="0.0.0.0", token=await issue(shared)) as door:
        client = AsyncTcpClient(address, door.services.wyoming.port, read_timeout=20)
        await client.connect()
        await client.write_event(Synthesize("Hello there.", voice=SINE).event())
        heard = await hear(client)
        await client.disconnect()
    is_near = ip_address(address).is_private  # where this machine has a public address, it is turned away
    assert heard[-1].type == ("audio-stop" if is_near else "error")


async def test_other_networks_are_turned_away_and_the_log_knows(shared):
    async with another_door(shared, token=await issue(shared), networks=["10.1.0.0/16"]) as door:
        assert (await refusal(door, Synthesize("Hello.", voice=SINE))).code == "network_not_allowed"
    await shared.services.audit.flush()
    query = "SELECT entry FROM audit WHERE action = 'access.refused' AND entry LIKE '%network_not_allowed%'"
    (row,) = await shared.services.db.read(lambda db: db.execute(query).fetchall())
    assert "127.0.0.1" in row[0]


async def test_speech_is_in_the_log_under_the_doors_token(shared):
    token = await issue(shared)
    async with another_door(shared, token=token) as door:
        await ask(door, Synthesize("For the log.", voice=SINE))
    await shared.services.audit.flush()
    query = "SELECT entry FROM audit WHERE action = 'speech' ORDER BY rowid DESC LIMIT 1"
    entry = json.loads((await shared.services.db.read(lambda db: db.execute(query).fetchone()))[0])
    assert entry["actor"] == f"token:{token}"
    assert entry["details"]["to"] == f"token:{token}@127.0.0.1"


async def test_a_voice_whose_consent_ended_is_not_offered_and_not_heard(shared):
    services = shared.services
    consent = await services.consents.record("main", NewConsent("Mei", "mei", ("speak",), statement="yes"))
    await services.registry.create_voice("main", NewVoice("mei"))
    await services.registry.add_version("main", "mei", NewVersion("sine", {}, {"hz": 300, "sample_rate": 24_000}))
    await services.registry.promote("main", "mei", 1)
    async with another_door(shared, token=await issue(shared, voices=("mei",))) as door:
        asked = Synthesize("Hello there.", voice=SynthesizeVoice(name="mei"))
        assert (await info_of(door)).tts[0].voices[0].installed
        assert sound_of(await ask(door, asked))
        await services.consents.revoke("main", consent.id)
        assert not (await info_of(door)).tts[0].voices[0].installed
        assert (await refusal(door, asked)).code.startswith("consent_")


async def test_a_consent_that_ends_in_the_middle_of_a_speech_ends_it(shared):
    services = shared.services
    consent = await services.consents.record("main", NewConsent("Lena", "lena", ("speak",), statement="yes"))
    await services.registry.create_voice("main", NewVoice("lena"))
    await services.registry.add_version("main", "lena", NewVersion("sine", {}, {"hz": 300, "sample_rate": 24_000}))
    await services.registry.promote("main", "lena", 1)
    async with another_door(shared, token=await issue(shared)) as door, client_of(door) as client:
        text = " ".join(f"This is a slow sentence with number {n}." for n in range(30))
        await client.write_event(Synthesize(text, voice=SynthesizeVoice(name="lena")).event())
        await hear(client, AudioStart)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with shared.client.delete(f"/v1/consents/{consent.id}", headers=headers) as answer:
            assert answer.status == 200
        heard = await hear(client)
        assert Error.from_event(heard[-1]).code.startswith("consent_")
        assert sound_of(heard).duration_s < 0.02 * len(text) / 2
        assert await client.read_event() is None


async def test_a_tenants_share_of_requests_at_once_counts_here_too(shared):
    quota = Quota(concurrent=1)
    await shared.services.security.tenants.change("bakery", quota=quota)
    async with another_door(shared, token=await issue(shared, "bakery")) as door, client_of(door) as first:
        anna = SynthesizeVoice(name="anna-bakery")
        await first.write_event(SynthesizeStart(voice=anna).event())
        await first.write_event(SynthesizeChunk("This sentence is complete. And").event())
        await hear(first)
        assert (await refusal(door, Synthesize("Hello.", voice=anna))).code == "quota_concurrent"
    await shared.services.security.tenants.change("bakery", quota=Quota())


async def test_the_rhythm_of_own_voices_is_heard_once_in_a_streamed_text(shared):
    async with another_door(shared, token=await issue(shared)) as door, client_of(door) as client:
        events = (SynthesizeStart(SynthesizeVoice(name="anna-main")), SynthesizeChunk("One is here. Two is here."))
        for event in (*events, SynthesizeStop()):
            await client.write_event(event.event())
        first, second = sound_of(await hear(client)), sound_of(await hear(client))
    spoken_s = 0.02 * len("One is here. ")
    assert first.duration_s > spoken_s + 0.9
    assert second.duration_s < spoken_s + 0.2


# ---------------------------------------------------------------- limits and accidents


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


async def until(condition, timeout_s=15.0):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_client_that_leaves_takes_its_speech_with_it(box):
    async with client_of(box) as client:
        await client.write_event(Synthesize("slow words. " * 200, voice=SINE).event())
        await until(lambda: box.services.synthesis.active)
    await until(lambda: not box.services.synthesis.active)
    await until(lambda: not box.services.wyoming.connections)


async def test_a_client_that_does_not_read_holds_the_engine_back(box):
    def served() -> int:
        return box.services.pool.state()[0]["served"]

    async def settled() -> int:
        last = -1
        while last != (last := served()):
            await asyncio.sleep(0.5)
        return last

    begun = served()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    sock.connect(("127.0.0.1", box.services.wyoming.port))
    text = "".join(f"{number} words " * 40 + ". " for number in range(10))
    assert len(text) < 5_000
    reader, writer = await asyncio.open_connection(sock=sock)
    await async_write_event(Synthesize(text, voice=SINE).event(), writer)
    held = await settled() - begun
    heard = []
    while not heard or not AudioStop.is_type(heard[-1].type):
        heard.append(await async_read_event(reader))
    writer.close()
    assert held < 0.9 * (served() - begun)
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


async def test_figures_tell_of_this_door(box):
    await ask(box, Synthesize("For the figures.", voice=SINE))
    async with box.client.get("/metrics") as answer:
        text = await answer.text()
    assert 'voiced_first_sound_seconds_count{door="wyoming"}' in text
    assert 'voiced_spoken_seconds_total{door="wyoming"}' in text
    assert "voiced_wyoming_connections" in text
