"""The Wyoming door, spoken to by the client of the protocol's authors over TCP."""

from __future__ import annotations

import asyncio
import json

import pytest
from open_box import TEXT
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)
from wyoming_lines import SINE, another_door, ask, client_of, hear, info_of, pitch_of, refusal, sound_of

from appliance.audio.watermark import find_watermark

pytestmark = pytest.mark.asyncio(loop_scope="session")


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
    voices = ("sine-220", "sine-330")
    heard = await asyncio.gather(*(ask(box, Synthesize(TEXT, voice=SynthesizeVoice(name=name))) for name in voices))
    assert [pitch_of(sound_of(one)) for one in heard] == pytest.approx([220, 330], abs=2)


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
    async with another_door(box, default_voice="sine-330") as door:
        assert pitch_of(sound_of(await ask(door, Synthesize(TEXT)))) == pytest.approx(330, abs=2)


async def test_figures_tell_of_this_door(box):
    await ask(box, Synthesize("For the figures.", voice=SINE))
    async with box.client.get("/metrics") as answer:
        text = await answer.text()
    assert 'voiced_first_sound_seconds_count{door="wyoming"}' in text
    assert 'voiced_spoken_seconds_total{door="wyoming"}' in text
    assert "voiced_wyoming_connections" in text
