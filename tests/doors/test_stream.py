"""`WS /v1/stream`: text in as it is written, sound out as it is made."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import aiohttp
import numpy as np
import pytest
from open_box import TOKEN, open_box, served, settled

pytestmark = pytest.mark.asyncio(loop_scope="session")
START = {"type": "start", "speaker": "sine-440"}
END = {"type": "end"}


class Line:
    """A client of the door, as somebody would write it."""

    def __init__(self, opened: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = opened

    async def say(self, *frames: dict) -> None:
        for frame in frames:
            await self.socket.send_json(frame)

    async def hear(self) -> dict | bytes:
        message = await self.socket.receive(timeout=20)
        assert message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}, message
        return json.loads(message.data) if message.type == aiohttp.WSMsgType.TEXT else message.data

    async def hear_until(self, *kinds: str) -> list[dict | bytes]:
        heard = [await self.hear()]
        while isinstance(heard[-1], bytes) or heard[-1]["type"] not in kinds:
            heard.append(await self.hear())
        return heard


@asynccontextmanager
async def line_to(box, **options):
    async with box.client.ws_connect("/v1/stream", **options) as opened:
        line = Line(opened)
        assert (await line.hear())["type"] == "ready"
        yield line


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def sound_of(heard: list[dict | bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(part for part in heard if isinstance(part, bytes)), "<i2")


async def closing_of(line: Line, heard: list[dict | bytes]) -> tuple[int, str]:
    """How the box closes the line (code and reason); what came before goes to `heard`."""
    while (message := await line.socket.receive(timeout=20)).type != aiohttp.WSMsgType.CLOSE:
        heard.append(json.loads(message.data) if message.type == aiohttp.WSMsgType.TEXT else message.data)
    return message.data, message.extra


def told(heard: list[dict | bytes]) -> list[dict]:
    return [frame for frame in heard if isinstance(frame, dict)]


async def test_what_is_written_letter_by_letter_is_spoken_sentence_by_sentence(box):
    words = "Good morning to all of you. The shop opens at 9.30 today."
    async with line_to(box) as line:
        await line.say(START, *map(text, words), END)
        heard = await line.hear_until("done")
    *pieces, done = told(heard)
    assert "".join(piece["text"] for piece in pieces) == words
    assert {piece["voice_version"] for piece in pieces} == {"sine-440@1"}
    assert done | {"duration_s": 0} == {"type": "done", "id": "1", "pieces": len(pieces), "duration_s": 0}
    samples = sound_of(heard)
    assert len(samples) / 24_000 == pytest.approx(done["duration_s"], abs=0.01)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.argmax(spectrum) * 24_000 / len(samples) == pytest.approx(440, abs=2)


async def test_sound_comes_while_the_text_is_still_being_written(box):
    async with line_to(box) as line:
        await line.say(START, text("This sentence is complete. And this one is n"))
        await line.hear_until("piece")
        assert isinstance(await line.hear(), bytes)
        await line.say(text("ot."), END)
        assert told(await line.hear_until("done"))[0]["text"] == "And this one is not."


async def test_a_flush_speaks_half_a_sentence_and_says_when_it_has(box):
    async with line_to(box) as line:
        await line.say(START, text("One moment"), {"type": "flush"})
        heard = await line.hear_until("flushed")
        assert [frame["type"] for frame in told(heard)] == ["piece", "flushed"]
        assert len(sound_of(heard)) > 0
        await line.say(text("please"), END)
        assert told(await line.hear_until("done"))[-1]["pieces"] == 2


async def test_the_sound_of_a_piece_is_that_of_the_same_request_at_the_other_door(box):
    async with line_to(box) as line:
        await line.say({**START, "seed": 7, "speed": 1.5}, text("The same words."), END)
        heard = await line.hear_until("done")
    query = {"speaker": "sine-440", "text": "The same words.", "seed": "7", "speed": "1.5", "format": "pcm"}
    async with box.client.get("/tts", params=query) as answer:
        assert answer.headers["X-Rendition"] == told(heard)[0]["rendition"]
        assert np.array_equal(np.frombuffer(await answer.read(), "<i2"), sound_of(heard))


async def test_several_utterances_are_spoken_in_order_in_voices_of_their_own(box):
    async with line_to(box) as line:
        for name, voice in (("a", "sine-220"), ("b", "sine-330")):
            await line.say({"type": "start", "speaker": voice, "id": name}, text("In order."), END)
        heard = told(await line.hear_until("done")) + told(await line.hear_until("done"))
    rows = [(frame["type"], frame["id"], frame.get("voice_version")) for frame in heard]
    assert rows == [
        ("piece", "a", "sine-220@1"),
        ("done", "a", None),
        ("piece", "b", "sine-330@1"),
        ("done", "b", None),
    ]


async def test_a_cancel_is_heard_in_the_middle_and_the_next_utterance_is_spoken(box):
    async with line_to(box) as line:
        await line.say({**START, "id": "long"}, text("Quick words first. " + "Then slow ones. " * 60))
        await line.hear_until("piece")
        await line.say({"type": "cancel"}, {**START, "id": "next"}, text("Next."), END)
        heard = await line.hear_until("cancelled")
        assert heard[-1]["id"] == "long"
        after = await line.hear_until("done")
        assert {frame["id"] for frame in told(after)} == {"next"}
        assert len(sound_of(after)) / 24_000 == pytest.approx(after[-1]["duration_s"], abs=0.01)


async def test_a_client_that_leaves_takes_its_synthesis_with_it(box):
    async with line_to(box) as line:
        await line.say(START, text("slow words. " * 100))
        async with asyncio.timeout(10):
            while not box.services.synthesis.active:
                await asyncio.sleep(0.02)
    async with asyncio.timeout(10):
        while box.services.synthesis.active:
            await asyncio.sleep(0.02)


async def test_an_utterance_that_fails_ends_with_its_error_and_the_line_stays(box):
    async with line_to(box) as line:
        await line.say({"type": "start", "speaker": "nobody"}, text("Hello."), END)
        (error,) = await line.hear_until("error")
        assert (error["code"], error["status"], error["id"]) == ("voice_not_found", 404, "1")
        assert error["detail"] and error["remedy"]
        await line.say(START, END)
        assert (await line.hear_until("error"))[0]["code"] == "text_empty"
        await line.say(START, text("All is well."), END)
        assert (await line.hear_until("done"))[-1]["id"] == "3"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([text("Nobody started.")], "utterance_not_started"),
        ([{"type": "sing"}], "frame_unknown"),
        ([{**START, "speed": 9}], "field_invalid"),
        ([{**START, "txet": "x"}], "field_unknown"),
        ([START, START], "utterance_not_ended"),
        ([START, text("x" * 6_000)], "text_ahead"),
    ],
)
async def test_frames_that_cannot_be_obeyed_are_told_and_change_nothing(box, frames, code):
    async with line_to(box) as line:
        await line.say(*frames)
        error = await line.hear()
        assert (error["type"], error["code"]) == ("error", code)
        assert "id" not in error
        await line.say({"type": "cancel"}, {**START, "id": "after"}, text("Still here."), END)
        assert (await line.hear_until("done"))[-1]["id"] == "after"


async def test_frames_that_are_not_json_objects_are_told(box):
    async with line_to(box) as line:
        await line.socket.send_str("[1, 2")
        assert (await line.hear())["code"] == "body_not_json"
        await line.socket.send_bytes(b"\0\1")
        assert (await line.hear())["code"] == "frame_not_text"


async def test_more_utterances_than_may_wait_are_refused(box):
    async with line_to(box) as line:
        for _ in range(17):
            await line.say(START, text("Please be slow."), END)
        error = (await line.hear_until("error"))[-1]
        assert (error["code"], error["status"]) == ("utterances_waiting", 429)
        await line.say({"type": "cancel"})


def small_receiver(address) -> socket.socket:
    """A socket of a client that has little memory to receive into."""
    receiver = socket.socket(*address[:2])
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    receiver.setblocking(False)
    return receiver


async def test_a_listener_that_does_not_read_holds_the_engine_back_and_loses_nothing(box):
    begun = served(box)
    connector = aiohttp.TCPConnector(socket_factory=small_receiver)
    async with aiohttp.ClientSession(box.url, connector=connector) as client, client.ws_connect("/v1/stream") as ws:
        line = Line(ws)
        await line.say({**START, "speed": 0.5}, *[text(f"{number} words " * 90 + ". ") for number in range(5)], END)
        held = await settled(box) - begun
        heard = await line.hear_until("done")
    assert held < 0.9 * (served(box) - begun)
    assert len(sound_of(heard)) / 24_000 == pytest.approx(heard[-1]["duration_s"], abs=0.01)


async def test_a_page_of_another_site_cannot_open_a_line(box):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await box.client.ws_connect("/v1/stream", headers={"Origin": "https://elsewhere.example"})
    assert refused.value.status == 403


async def test_a_plain_request_is_told_to_open_a_websocket(box):
    async with box.client.get("/v1/stream") as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["code"]) == (422, "websocket_expected")


async def test_a_box_with_a_token_asks_for_it_and_limits_open_lines(tmp_path):
    settings = {"admin_token": TOKEN, "http": {"max_streams": 1}}
    async with open_box(tmp_path, **settings) as box:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await box.client.ws_connect("/v1/stream")
        assert refused.value.status == 401
        key = {"Authorization": f"Bearer {TOKEN}"}
        async with line_to(box, headers=key) as line:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await box.client.ws_connect("/v1/stream", headers=key)
            assert refused.value.status == 503
            await line.say(START, text("It works."), END)
            await line.hear_until("done")


async def test_a_line_on_which_nobody_writes_is_closed_with_the_reason(tmp_path):
    """Also in the middle of an utterance; but not while something that was written is still to be spoken."""
    slow = "Slow words take their time. "
    async with open_box(tmp_path, http={"stream_idle_s": 0.4}) as box:
        for frames, reason, pieces in (
            ([], "idle", 0),
            ([START, text("Good mor")], "utterance_not_ended", 0),
            ([START, text(slow * 4), END], "idle", 4),
            ([START, text(slow * 4 + "And the")], "utterance_not_ended", 4),
        ):
            async with line_to(box, autoclose=False) as line:
                heard: list[dict | bytes] = []
                await line.say(*frames)
                assert await closing_of(line, heard) == (1000, reason)
            assert len([frame for frame in told(heard) if frame["type"] == "piece"]) == pieces


async def test_lines_are_closed_when_the_box_stops(tmp_path):
    async with open_box(tmp_path) as box:
        client = aiohttp.ClientSession()
        line = await client.ws_connect(f"{box.url}/v1/stream")
        await line.receive()
    last = await line.receive(timeout=10)
    assert (last.type, last.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.GOING_AWAY)
    await client.close()
