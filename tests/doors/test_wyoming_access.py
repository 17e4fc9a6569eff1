"""Whose voices the Wyoming door has, who may connect, and when it falls silent."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest
import pytest_asyncio
from open_box import TEXT, TOKEN, open_box
from wyoming.audio import AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.info import Describe
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeVoice,
)
from wyoming_lines import SINE, another_door, ask, client_of, hear, info_of, issue, pitch_of, refusal, sound_of

from appliance.doors.discovery import reachable_addresses
from appliance.security.tenants import Quota
from appliance.voices.records import NewConsent, NewVersion, NewVoice

pytestmark = pytest.mark.asyncio(loop_scope="session")


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
