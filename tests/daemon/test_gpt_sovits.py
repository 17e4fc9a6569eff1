"""GPT-SoVITS as a site meets it: weights from a stick, a voice, every door, refusals; real daemon, real command."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import json
import os
import signal
import sys
import time
from ctypes.util import find_library
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import soundfile
from box import RunningBox, tone_box, wait_until

pytest.importorskip("torch", reason="GPT-SoVITS needs PyTorch (voiced[clone])")
pytest.importorskip("jieba", reason="the Chinese front end is not installed")

spec = importlib.util.spec_from_file_location("gpt_sovits_site", Path(__file__).with_name("gpt_sovits_site.py"))
sys.modules["gpt_sovits_site"] = site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site)
recipe = site.load_module("golden_recipe", site.TESTS / "parity/recipe.py")
forge = site.load_module("forge", site.TESTS / "engine/gpt_sovits/forge.py")
stage = site.load_module("announcer_stage", site.TESTS / "announcer/stage.py")

NAMES = {"anna-e15.ckpt": "s1_tiny.ckpt", "anna_e8_s200.pth": "s2_v2_tiny.pth", "bella_e8_s90.pth": "s2_v2Pro_tiny.pth"}
VOICES = ("anna", "bella")
TEXT = "雨。"


class Site:
    """The running box, its stick, and what is asked of both."""

    def __init__(self, folder: Path, box: RunningBox, card: stage.SoundCard) -> None:
        self.folder, self.box, self.card = folder, box, card
        self.stick = folder / "stick"
        self.clip = site.write_clip(folder / "clip.wav", 5)

    def voiced(self, *words: str | Path) -> site.Outcome:
        return site.voiced(*words, state_dir=self.box.state_dir)

    def add(self, voice: str, s2: str, *more: str | Path, clip: Path | None = None) -> site.Outcome:
        order = ("voices", "add", voice, "--engine", "gpt_sovits", "--weights", "anna-e15", s2)
        words = ("--transcript", site.WORDS, "--language", "en", "--reference", clip or self.clip)
        return self.voiced(*order, *words, *more)

    def models(self) -> list[tuple[str, ...]]:
        rows = self.voiced("models", "list", "--json").document["items"]
        return sorted((row["id"], row["name"], row["kind"], row["version"]) for row in rows)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A box to which the stick has been brought, with two voices made of it."""
    golden = {name: recipe.golden(f"gptsovits_tiny/{file}") for name, file in NAMES.items()}
    folder = tmp_path_factory.mktemp("gpt-sovits")
    site.make_stick(folder / "stick", golden)
    card = stage.SoundCard(folder)
    sizes = {"VOICED_WORKER__COUNT": "2", "VOICED_WORKER__THREADS": "1", "VOICED_INTAKE__MAX_MUSIC_SHARE": "0.5"}
    sizes["VOICED_ENGINE__OPTIMISE"] = "false"  # or numbers change by roundings when an export is ready, in the middle
    queue = {"VOICED_SPEECH__MAX_WAITING": "400", "VOICED_SPEECH__MAX_WAITING_PER_CLIENT": "400"}
    queue["VOICED_SPEECH__CACHE_MB"] = "0"  # what is compared was made twice
    sound = {"VOICED_LOUDSPEAKER__ENABLED": "true", "VOICED_LOUDSPEAKER__CHIME": "false"}
    sound |= {"VOICED_LOUDSPEAKER__DEVICE": "voiced_test", "ALSA_CONFIG_PATH": str(card.config)}
    box = tone_box(folder, **sizes, **queue, **sound).start()
    try:
        here = Site(folder, box, card)
        imported = here.voiced("models", "import", here.stick, "--licence", "CC0-1.0")
        assert imported.code == 0, imported.err
        for voice, s2 in zip(VOICES, ("anna_e8_s200", "bella_e8_s90"), strict=True):
            added = here.add(voice, s2, "--consent", "I agree that this box speaks with my voice.")
            assert added.code == 0, added.err
        yield here
    finally:
        assert box.stop() == 0


@pytest.fixture
async def session():
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(100)) as session:
        yield session


async def speak(session: aiohttp.ClientSession, url: str, voice: str, text: str = TEXT, **more: str):
    query = {"speaker": voice, "text": text, "lang": "zh", "format": "pcm", "speed": "2", **more}
    async with session.get(f"{url}/tts", params=query) as answer:
        return answer.status, await answer.read()


async def refusal(answer: aiohttp.ClientResponse) -> tuple[int, str]:
    problem = await answer.json(content_type="application/problem+json")
    assert problem["title"] and problem["remedy"], problem
    return answer.status, problem["code"]


# ---------------------------------------------------------------- weights come in


def test_the_stick_is_imported_alike_by_the_daemon_and_without_one(running, tmp_path):
    alone = tmp_path / "alone"
    outcome = site.voiced("models", "import", running.stick, state_dir=alone)
    assert outcome.code == 0, outcome.err
    rows = site.voiced("models", "list", "--json", state_dir=alone).document["items"]
    told = running.voiced("models", "list", "--json").document["items"]
    digests = {(row["name"], row["kind"], row["version"], row["source_sha256"], *row["files"].values()) for row in rows}
    assert digests == {
        (row["name"], row["kind"], row["version"], row["source_sha256"], *row["files"].values()) for row in told
    }
    found = {row["name"]: (row["kind"], row["version"]) for row in rows}
    assert found["anna-e15"] == ("s1", "v2")
    assert (found["anna_e8_s200"], found["bella_e8_s90"]) == (("s2", "v2"), ("s2", "v2Pro"))
    assert {kind for kind, _ in found.values()} == {"s1", "s2", "hubert", "bert", "sv"}
    assert running.voiced("models", "verify").code == 0


async def test_every_door_speaks_in_an_imported_voice(running, session):
    url = running.box.url
    sounds = {}
    for voice in VOICES:
        query = {"speaker": voice, "text": TEXT, "lang": "zh"}
        async with session.get(f"{url}/tts", params=query) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.headers["X-Voice-Version"] == f"{voice}@1"
            sounds[voice], rate = soundfile.read(io.BytesIO(await answer.read()), dtype="float32")
        assert rate == 32_000
        assert len(sounds[voice]) > 8_000
        assert np.abs(sounds[voice]).max() > 0.01
        body = {"model": "tts-1", "input": TEXT, "voice": voice, "response_format": "wav", "language": "zh"}
        async with session.post(f"{url}/v1/audio/speech", json=body) as answer:
            assert answer.status == 200, await answer.text()
            np.testing.assert_array_equal(
                soundfile.read(io.BytesIO(await answer.read()), dtype="float32")[0], sounds[voice]
            )
    assert not np.array_equal(sounds["anna"], sounds["bella"])
    saved = running.folder / "said.wav"
    said = running.voiced("say", TEXT, "--voice", "anna", "--language", "zh", "--file", saved)
    assert said.code == 0, said.err
    np.testing.assert_array_equal(soundfile.read(saved, dtype="float32")[0], sounds["anna"])


def test_a_voice_is_taken_away_and_comes_back_as_it_was(running, tmp_path):
    order = ("voices", "export", "--format", "gpt-sovits", "--to", tmp_path / "out", "--json")
    taken = running.voiced(*order, "bella@1")
    assert taken.code == 0, taken.err
    files = [Path(name) for name in taken.document["files"]]
    assert [path.name for path in files] == ["bella-v1-e1.ckpt", "bella-v1_e1_s0.pth", "bella-v1-reference.wav"]
    assert files[1].read_bytes()[:2] == b"05"
    brought = site.voiced("models", "import", *files[:2], state_dir=tmp_path / "alone")
    assert brought.code == 0, brought.err
    rows = site.voiced("models", "list", "--json", state_dir=tmp_path / "alone").document["items"]
    mine = {row["kind"]: row["files"]["weights"] for row in rows}
    theirs = {
        row["name"]: row["files"]["weights"] for row in running.voiced("models", "list", "--json").document["items"]
    }
    assert mine == {"s1": theirs["anna-e15"], "s2": theirs["bella_e8_s90"]}
    again = running.voiced(*order, "bella@1")
    assert (again.code, "[file_exists]" in again.err) == (1, True), again.err
    starter = running.voiced(*order, "sine-220")
    assert (starter.code, "[export_engine_wrong]" in starter.err) == (1, True), starter.err


async def test_the_loudspeaker_speaks_in_an_imported_voice(running, session):
    if find_library("portaudio") is None:
        pytest.skip("PortAudio is not installed (apt install libportaudio2)")
    url = f"{running.box.url}/v1/announcements"
    async with session.post(url, json={"text": TEXT, "voice": "anna", "language": "zh"}) as answer:
        assert answer.status == 202, await answer.text()
        where = f"{url}/{(await answer.json())['id']}"
    async with asyncio.timeout(30):
        while True:
            async with session.get(where) as answer:
                row = await answer.json()
            if row["state"] not in {"queued", "rendering", "playing"}:
                break
            await asyncio.sleep(0.1)
    assert row["state"] == "done", row
    played = running.card.played()
    assert np.abs(played).max() > 0.01


# ---------------------------------------------------------------- many at once, and early


async def test_two_voices_two_hundred_times_at_once_equal_those_made_alone(running, session):
    url = running.box.url
    orders = [(voice, seed) for voice in VOICES for seed in ("1", "2")]
    alone = {order: await speak(session, url, order[0], seed=order[1]) for order in orders}
    assert [status for status, _ in alone.values()] == [200] * 4
    assert len({body for _, body in alone.values()}) == 4
    asked = orders * 50
    together = await asyncio.gather(*(speak(session, url, voice, seed=seed) for voice, seed in asked))
    wrong = [order for order, answer in zip(asked, together, strict=True) if answer != alone[order]]
    assert wrong == []


async def test_sound_comes_before_its_end_is_made(running, session):
    query = {
        "speaker": "anna",
        "text": "今天下雨了我们去看海的店关门欢迎再见你好吗",
        "lang": "zh",
        "format": "pcm",
        "speed": "2",
    }
    whole, *_ = await asyncio.gather(  # more than one, and no two alike, so that both workers know the voice
        *(speak(session, running.box.url, "anna", query["text"], **seed) for seed in ({}, {"seed": "1"}, {"seed": "2"}))
    )
    started, arrivals = time.monotonic(), []
    async with session.get(f"{running.box.url}/tts", params={**query, "stream": "true"}) as answer:
        assert answer.status == 200
        parts = []
        async for part in answer.content.iter_any():
            arrivals.append(time.monotonic() - started)
            parts.append(part)
    assert (200, b"".join(parts)) == whole
    assert arrivals[0] < 0.7 * arrivals[-1], arrivals


# ---------------------------------------------------------------- what must not come in


def flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    return bytes(changed)


async def test_what_is_refused_leaves_everything_as_it_was(running, session, tmp_path):
    flag = tmp_path / "it-ran"
    good = (running.stick / "anna_e8_s200.pth").read_bytes()
    bad = {
        "checkpoint_carries_code": forge.write_raw(tmp_path / "x", forge.malicious(flag)["os.system"]).read_bytes(),
        "checkpoint_truncated": good[: len(good) * 3 // 4],
        "checkpoint_damaged": flipped(good),
        "checkpoint_header_unknown": b"09" + good[2:],
    }
    before, sound = running.models(), await speak(session, running.box.url, "anna")
    for code, content in bad.items():
        folder = tmp_path / code
        folder.mkdir()
        forge.write(folder / "good.ckpt", forge.s1_content())
        (folder / "zz-bad.pth").write_bytes(content)
        outcome = await asyncio.to_thread(running.voiced, "models", "import", folder)
        assert (outcome.code, f"[{code}]" in outcome.err) == (1, True), outcome.err
        assert "zz-bad.pth" in outcome.err
    old = forge.write(tmp_path / "old.ckpt", forge.s1_content(512))
    outcome = await asyncio.to_thread(running.voiced, "models", "import", old, running.stick / "anna_e8_s200.pth")
    assert (outcome.code, "[model_pair_wrong]" in outcome.err) == (1, True), outcome.err
    assert not flag.exists()
    assert running.models() == before
    assert await speak(session, running.box.url, "anna") == sound
    assert not list((running.box.state_dir / "incoming").iterdir())


def import_children(running: Site) -> list[int]:
    found = []
    for pid in running.box.children():
        with contextlib.suppress(OSError):
            if b"appliance.jobs" in (Path("/proc") / str(pid) / "cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.mark.parametrize("deaths", [1, 4])
async def test_a_killed_import_is_taken_up_again_and_files_all_or_nothing(running, session, deaths):
    before, sound = running.models(), await speak(session, running.box.url, "anna")
    new = forge.write(running.folder / f"new_e{deaths}_s1.pth", forge.s2_content())
    order = asyncio.to_thread(running.voiced, "models", "import", new, "--no-wait", "--json")
    ordered = asyncio.create_task(order)  # a child may be done before the command is
    killed: set[int] = set()
    for _ in range(deaths):
        await asyncio.to_thread(wait_until, lambda: set(import_children(running)) - killed, 60)
        for pid in set(import_children(running)) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    row = await ended(session, running, (await ordered).document["id"])
    assert row["state"] == ("done" if deaths == 1 else "failed"), row
    added = set(running.models()) - set(before)
    assert len(added) == (1 if deaths == 1 else 0)
    assert deaths == 1 or (row["error"]["message"] and row["error"]["remedy"])
    assert await speak(session, running.box.url, "anna") == sound
    assert not list((running.box.state_dir / "incoming").iterdir())


async def ended(session: aiohttp.ClientSession, running: Site, job: str) -> dict:
    async with asyncio.timeout(30):
        while True:
            async with session.get(f"{running.box.url}/v1/jobs/{job}") as answer:
                row = json.loads(await answer.text())
            if row["state"] not in {"queued", "running"}:
                return row
            await asyncio.sleep(0.1)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"text": ""}, (422, "text_empty")),
        ({"text": " \n\t "}, (422, "text_empty")),
        ({"text": "。。。"}, (422, "text_not_speakable")),
        ({"text": "?!…—"}, (422, "text_not_speakable")),
        ({"text": "😀"}, (422, "text_not_speakable")),
        ({"text": "好" * 10_000}, (413, "text_too_long")),
        ({"text": "Γειά σου"}, (422, "text_not_speakable")),
        ({"lang": "el"}, (422, "field_invalid")),
        ({"text": "他姓[单](xyz9)。"}, (422, None)),
        ({"speed": "nan"}, (422, None)),
    ],
)
@pytest.mark.parametrize("voice", VOICES)
async def test_text_that_cannot_be_spoken_is_answered(running, session, voice, change, expected):
    form = {"speaker": voice, "text": TEXT, "lang": "zh", **change}
    async with session.post(f"{running.box.url}/tts", data=form) as answer:
        status, code = await refusal(answer)
    assert (status, code if expected[1] else None) == expected


async def add_by_http(session: aiohttp.ClientSession, running: Site, voice: str, clip: Path) -> aiohttp.ClientResponse:
    consent = {"speaker": "reader", "voice": voice, "purposes": ["clone", "speak"]}
    async with session.post(f"{running.box.url}/v1/consents", json=consent) as answer:
        assert answer.status == 201
    fields = {"id": voice, "weights": "anna-e15,anna_e8_s200", "transcript": site.WORDS, "language": "en"}
    form = aiohttp.FormData(fields)
    form.add_field("file", clip.read_bytes(), filename=clip.name, content_type="audio/wav")
    return await session.post(f"{running.box.url}/v1/voices", data=form)


@pytest.mark.parametrize(
    ("name", "shape", "code"),
    [
        ("short", {"seconds": 2.9}, "reference_too_short"),
        ("long", {"seconds": 10.2}, "reference_too_long"),
        ("silent", {"seconds": 5, "gain": 0.0}, "recording_silent"),
        ("stereo", {"seconds": 5, "channels": 2}, "not_mono"),
        ("telephone", {"seconds": 5, "rate": 8_000}, "sample_rate_too_low"),
    ],
)
async def test_a_reference_that_cannot_serve_is_refused_with_its_reason(running, session, name, shape, code):
    clip = site.write_clip(running.folder / f"{name}.wav", **shape)
    answer = await add_by_http(session, running, f"carl-{name}", clip)
    assert await refusal(answer) == (422, "reference_refused")
    reasons = (await answer.json(content_type=None))["reasons"]
    assert code in {reason["code"] for reason in reasons}
    assert all(reason["message"] and reason["remedy"] for reason in reasons)
    async with session.get(f"{running.box.url}/v1/voices/carl-{name}") as answer:
        assert await refusal(answer) == (404, "voice_not_found")


@pytest.mark.parametrize("seconds", [3.0, 10.0])
async def test_references_at_the_limits_serve(running, session, seconds):
    voice = f"dora-{seconds:.0f}"
    answer = await add_by_http(session, running, voice, site.write_clip(running.folder / f"{voice}.wav", seconds))
    assert answer.status == 201, await answer.text()
    assert (await speak(session, running.box.url, voice))[0] == 200
