"""What the daemon promises, asked of the real processes over real sockets."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import soundfile
from box import tone_box, wait_until

TEXT = "One two three four five six seven."


async def fetch(session: aiohttp.ClientSession, url: str, **query):
    async with session.get(f"{url}/tts", params=query) as answer:
        return answer.status, dict(answer.headers), await answer.read()


def sound(body: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(body), dtype="int16")[0]


async def test_fifty_requests_at_once_over_five_voices_equal_those_made_alone(speaking):
    voices = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
    texts = ("欢迎光临。", "Good morning.")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(300)) as session:
        alone = {
            (voice, text): (await fetch(session, speaking.url, speaker=voice, text=text))[2]
            for voice in voices
            for text in texts
        }
        keys = list(alone) * 5
        together = await asyncio.gather(
            *(fetch(session, speaking.url, speaker=voice, text=text) for voice, text in keys)
        )
    assert len(set(alone.values())) == len(alone)
    assert [body for status, _, body in together if status != 200] == []
    for key, (_, headers, body) in zip(keys, together, strict=True):
        assert body == alone[key]
        assert headers["X-Voice-Version"] == f"{key[0]}@1"
        assert headers["X-AI-Generated"] == "true"


async def test_overload_is_answered_with_a_time_to_come_back_and_the_admitted_are_served(tmp_path):
    box = tone_box(tmp_path, VOICED_SPEECH__MAX_WAITING="4", VOICED_SPEECH__MAX_WAITING_PER_CLIENT="4").start()
    try:
        async with aiohttp.ClientSession() as session:
            answers = await asyncio.gather(
                *(fetch(session, box.url, speaker="sine-440", text=f"slow {i}") for i in range(20))
            )
        refused = [(status, headers) for status, headers, _ in answers if status != 200]
        assert len(answers) - len(refused) >= 4
        assert refused
        assert all(status in (429, 503) and int(headers["Retry-After"]) >= 1 for status, headers in refused)
    finally:
        assert box.stop() == 0


async def test_killing_the_worker_in_the_middle_touches_no_other_request(tones):
    async with aiohttp.ClientSession() as session:
        alone = await fetch(session, tones.url, speaker="sine-220", text=TEXT)
        waiting = [asyncio.create_task(fetch(session, tones.url, speaker="sine-220", text="slow."))]
        waiting += [asyncio.create_task(fetch(session, tones.url, speaker="sine-220", text=TEXT)) for _ in range(8)]
        await asyncio.sleep(0.4)
        async with session.get(f"{tones.url}/v1/system") as answer:
            workers = (await answer.json())["workers"]
        os.kill(next(row["pid"] for row in workers if row["pid"]), signal.SIGKILL)
        first, *others = await asyncio.gather(*waiting)
    assert first[0] in (200, 503)
    assert all(status == 200 and body == alone[2] for status, _, body in others)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"speaker": "nobody", "text": TEXT}, 404, "voice_not_found"),
        ({"speaker": "sine-440", "text": ""}, 422, "text_empty"),
        ({"speaker": "sine-440", "text": "😀"}, 422, "text_not_speakable"),
        ({"speaker": "sine-440", "text": TEXT, "speed": "fast"}, 422, None),
        ({"speaker": "sine-440", "text": TEXT, "format": "midi"}, 422, None),
        ({"speaker": "sine-440@7", "text": TEXT}, 404, "version_not_found"),
    ],
)
async def test_what_cannot_be_answered_is_a_problem_document_with_a_code_and_a_remedy(tones, query, status, code):
    async with aiohttp.ClientSession() as session, session.get(f"{tones.url}/tts", params=query) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert answer.status == status, problem
    assert code is None or problem["code"] == code
    assert problem["remedy"]


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "7" * 100_000, "<b>" * 100_000, "\ud800".encode("utf-8", "surrogatepass")]
)
async def test_monstrous_text_is_bounded_and_answered(tones, text):
    form = (
        {"speaker": "sine-440", "text": text} if isinstance(text, str) else b'{"speaker":"sine-440","text":"\\ud800"}'
    )
    kind = {} if isinstance(text, str) else {"Content-Type": "application/json"}
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession() as session,
        session.post(f"{tones.url}/tts", data=form, headers=kind) as answer,
    ):
        assert answer.status in (413, 422)
        assert (await answer.json(content_type="application/problem+json"))["code"]


async def test_plugins_that_raise_or_hang_are_quarantined_and_the_box_speaks(tmp_path):
    box = tone_box(tmp_path)
    (box.state_dir / "plugins/broken.py").write_text("raise RuntimeError('no licence')")
    (box.state_dir / "plugins/hangs.py").write_text("import time\ntime.sleep(60)")
    box.start()
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{box.url}/v1/plugins") as answer:
                rows = {row["id"]: row for row in (await answer.json())["items"]}
            assert rows["broken"]["state"] == "quarantined"
            assert "no licence" in rows["broken"]["reason"]
            assert (rows["hangs"]["state"], rows["hangs"]["code"]) == ("quarantined", "plugin_hangs")
            assert (await fetch(session, box.url, speaker="sine-440", text=TEXT))[0] == 200
            assert box.output().count("plugin hangs is quarantined") == 1  # no worker waits for it again
    finally:
        assert box.stop() == 0


async def test_sigterm_under_load_truncates_no_audio_and_exits_cleanly(tmp_path):
    box = tone_box(tmp_path).start()
    async with aiohttp.ClientSession() as session:
        whole = await fetch(session, box.url, speaker="sine-440", text="slow one, then two.")
        running = asyncio.create_task(fetch(session, box.url, speaker="sine-440", text="slow one, then two."))
        await asyncio.sleep(0.3)
        box.process.send_signal(signal.SIGTERM)
        status, _, body = await running
    assert (status, body) == (200, whole[2])
    assert await asyncio.to_thread(box.stop) == 0


async def test_the_box_is_the_same_after_kill_minus_nine(tmp_path):
    box = tone_box(tmp_path).start()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{box.url}/v1/system") as answer:
            uuid = (await answer.json())["box"]["uuid"]
        before = await fetch(session, box.url, speaker="sine-440", text=TEXT)
        workers = box.children()
        box.process.kill()
        box.process.wait()
        wait_until(lambda: not any((Path("/proc") / str(pid)).exists() for pid in workers))
        box.start()
        async with session.get(f"{box.url}/v1/system") as answer:
            assert (await answer.json())["box"]["uuid"] == uuid
        assert (await fetch(session, box.url, speaker="sine-440", text=TEXT))[2] == before[2]
    assert box.stop() == 0


async def test_a_second_daemon_on_the_same_state_is_refused(tones):
    second = type(tones)(tones.state_dir, tones.settings)
    with pytest.raises(AssertionError, match="state_dir_locked"):
        second.start()
    assert second.process.wait() == 1


async def test_the_idle_daemon_is_small_and_holds_no_model(speaking):
    maps = (Path("/proc") / str(speaking.process.pid) / "maps").read_text()
    assert not re.search(r"libtorch|onnxruntime|ctranslate2|openjtalk", maps)
    assert speaking.idle_mb < 150


async def test_streamed_speech_equals_the_whole_and_starts_before_it_is_finished(tones):
    text = "First clause here, slow second clause. Third one! And slow the fourth."
    async with aiohttp.ClientSession() as session:
        whole = await fetch(session, tones.url, speaker="sine-440", text=text, format="pcm")
        arrivals = []
        async with session.get(
            f"{tones.url}/tts", params={"speaker": "sine-440", "text": text, "format": "pcm", "stream": "true"}
        ) as answer:
            loop = asyncio.get_running_loop()
            body = b""
            async for chunk in answer.content.iter_any():
                arrivals.append(loop.time())
                body += chunk
    assert body == whole[2] and answer.headers["X-Cache"] == "miss"
    assert arrivals[-1] - arrivals[0] > 0.5
