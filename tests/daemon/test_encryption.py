"""The real daemon: what lies on its disk, and what copies of it are worth after a speaker was erased."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from box import RunningBox, tone_box

from appliance.contracts import QualityReport
from appliance.database import open_database
from appliance.errors import NotFound
from appliance.security.audit import append_entry
from appliance.settings import SecuritySettings
from appliance.state_dir import StateDir
from appliance.vault.plaintext import folder_for
from appliance.vault.room import open_vault
from appliance.vault.sealing import open_stream
from appliance.voices.blobs import BlobStore
from appliance.voices.consents import ConsentStore
from appliance.voices.datasets import DatasetStore
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import NewConsent, NewRecording, NewVersion, NewVoice
from appliance.voices.registry import VoiceRegistry

WORDS = "the quick brown fox of {} jumps"
SPEAKERS = ("zoe", "tom")
SAY = "/tts?speaker={}&text=The+shop+closes+in+ten+minutes"


def sound(speaker: str) -> bytes:
    return b"RIFF" + hashlib.shake_256(speaker.encode()).digest(400_000)


def weights(speaker: str) -> bytes:
    return b"weights" + hashlib.shake_256(b"w" + speaker.encode()).digest(50_000)


async def enrol(state_dir: Path, *, is_sealed: bool = True) -> dict[str, str]:
    """A state directory with two speakers; their recordings."""
    with open_vault(StateDir(state_dir), SecuritySettings()) as vault:
        async with open_database(state_dir / "voiced.db") as db:
            blobs = BlobStore(state_dir / "blobs", vault if is_sealed else None)
            recordings, registry = RecordingStore(db, blobs), VoiceRegistry(db, blobs)
            return {speaker: await _enrol(db, recordings, registry, speaker) for speaker in SPEAKERS}


async def _enrol(db, recordings: RecordingStore, registry: VoiceRegistry, speaker: str) -> str:
    purposes = ("clone", "speak")
    await ConsentStore(db, append_entry).record("main", NewConsent(speaker, speaker, purposes, statement="yes"))
    report, words = QualityReport(True, (), (), {}), WORDS.format(speaker)
    clip = await recordings.add(
        "main", NewRecording(sound(speaker), "a.wav", 2.0, 24_000, report, words, speaker=speaker)
    )
    await registry.create_voice("main", NewVoice(speaker, speaker=speaker))
    files = {"voice": recordings.blobs.put_bytes(weights(speaker), await registry.owner_of("main", speaker))}
    settings = {"hz": 300 if speaker == "zoe" else 500, "sample_rate": 24_000}
    row = {"recording": clip.id, "sha256": clip.sha256, "transcript": words, "language": "en", "duration_s": 2.0}
    await DatasetStore(db, recordings.blobs.vault).add("main", [row], {})
    await registry.add_version("main", speaker, NewVersion("sine", files, settings))
    await registry.promote("main", speaker, 1)
    return clip.id


def get(box: RunningBox, path: str, body: object = None) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(box.url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def holds(folder: Path, speaker: str) -> list[str]:
    """Files with a piece of what is the speaker's."""
    pieces = (sound(speaker)[1000:1032], weights(speaker)[1000:1032], WORDS.format(speaker).encode())
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(piece in path.read_bytes() for piece in pieces)]


def copy(source: Path, target: Path, *without: str) -> None:
    shutil.copytree(source, target, ignore=lambda folder, _: without if Path(folder) == source else ())


def started(state_dir: Path) -> RunningBox:
    return tone_box(state_dir.parent).start()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    (tmp_path / "box" / "state").mkdir(parents=True)
    return tmp_path / "box" / "state"


def test_after_an_erasure_no_copy_can_be_read(state_dir: Path, tmp_path: Path) -> None:
    recordings = asyncio.run(enrol(state_dir))
    box = started(state_dir)
    try:
        for speaker in SPEAKERS:
            assert get(box, f"/v1/recordings/{recordings[speaker]}/audio") == (200, sound(speaker))
            assert get(box, SAY.format(speaker))[0] == 200 == get(box, SAY.format(speaker))[0]
        assert [holds(state_dir, speaker) for speaker in SPEAKERS] == [[], []]
        assert len(list((state_dir / "cache" / "renditions").glob("*/*/*/*"))) == 2
        for speaker in SPEAKERS:
            folder = state_dir / "cache" / "artifacts" / speaker
            folder.mkdir(parents=True)
            source = {"weights": hashlib.sha256(weights(speaker)).hexdigest()}
            (folder / "manifest.json").write_text(json.dumps({"source": source}))
        before = tmp_path / "before" / "state"
        copy(state_dir, before, "keys", "daemon.json", "lock")

        status, told = get(box, "/v1/speakers/zoe/erase", {"confirm": "zoe"})
        assert status == 200, told
        (key,) = [line.split()[1] for line in json.loads(told)["receipt"].splitlines() if line.startswith("key ")]
        assert get(box, f"/v1/recordings/{recordings['zoe']}/audio")[0] == 404 == get(box, SAY.format("zoe"))[0]
        assert get(box, f"/v1/recordings/{recordings['tom']}/audio") == (200, sound("tom"))
        assert get(box, SAY.format("tom"))[0] == 200
    finally:
        assert box.stop() == 0
    assert not folder_for(state_dir, None).exists()
    verify = [sys.executable, "-m", "appliance", "audit", "verify", "--state-dir", str(state_dir)]
    assert subprocess.run(verify, timeout=60, check=False).returncode == 0
    assert not list(state_dir.rglob(key))
    assert [path.name for path in (state_dir / "cache" / "artifacts").iterdir()] == ["tom"]

    # what was copied before, with the keys that the box has afterwards
    shutil.copytree(state_dir / "keys", before / "keys")
    sealed = [path for path in before.rglob("*") if path.is_file() and path.read_bytes().startswith(b"VOICEDS")]
    mine = [path for path in sealed if bytes.fromhex(key) in path.read_bytes()[:64]]
    assert len(mine) == 3  # the recording, the weights, the rendition
    with open_vault(StateDir(before), SecuritySettings()) as vault:
        for path in mine:
            with path.open("rb") as source, pytest.raises(NotFound) as gone:
                next(open_stream(source, vault.keys.get))
            assert gone.value.code == "erased"
    restored = started(before)
    try:
        status, problem = get(restored, f"/v1/recordings/{recordings['zoe']}/audio")
        assert (status, json.loads(problem)["code"]) == (404, "erased")
        assert json.loads(get(restored, SAY.format("zoe"))[1])["code"] == "erased"
        assert json.loads(get(restored, f"/v1/recordings/{recordings['zoe']}")[1])["transcript"] == ""
        assert get(restored, f"/v1/recordings/{recordings['tom']}/audio") == (200, sound("tom"))
        assert json.loads(get(restored, f"/v1/recordings/{recordings['tom']}")[1])["transcript"] == WORDS.format("tom")
        assert get(restored, SAY.format("tom"))[0] == 200
    finally:
        assert restored.stop() == 0


def test_without_its_master_key_the_box_speaks_in_starter_voices_and_says_what_is_missing(state_dir: Path) -> None:
    recordings = asyncio.run(enrol(state_dir))
    right = (state_dir / "keys" / "master.key").read_bytes()
    (state_dir / "keys" / "master.key").unlink()
    box = started(state_dir)
    try:
        assert get(box, SAY.format("sine-440"))[0] == 200
        status, problem = get(box, SAY.format("zoe"))
        assert (status, json.loads(problem)["code"]) == (503, "master_key_missing")
        (state_dir / "keys" / "master.key").write_bytes(b"QUFB" * 10 + b"QUE=\n")  # 32 other bytes
        status, problem = get(box, f"/v1/recordings/{recordings['zoe']}/audio")
        assert (status, json.loads(problem)["code"]) == (503, "master_key_wrong")
        (state_dir / "keys" / "master.key").write_bytes(right)
        assert get(box, SAY.format("zoe"))[0] == 200
    finally:
        box.stop()


def test_a_box_goes_on_without_a_lost_master_key_when_its_owner_says_so(state_dir: Path) -> None:
    recordings = asyncio.run(enrol(state_dir))
    (state_dir / "keys" / "master.key").unlink()
    box = started(state_dir)
    voiced = [sys.executable, "-m", "appliance", "keys"]
    try:
        assert "master_key_missing" in box.output() and "voiced keys abandon" in box.output()
        system = json.loads(get(box, "/v1/system")[1])["keys"]
        assert (system["state"], system["code"], system["owners"]) == ("closed", "master_key_missing", 2)
        assert subprocess.run([*voiced, "status", "--url", box.url], capture_output=True, timeout=60).returncode == 1
        status, problem = get(box, "/v1/keys/abandon", {})
        assert (status, json.loads(problem)["code"]) == (422, "abandonment_not_confirmed")
        given_up = [*voiced, "abandon", "--yes", "--json", "--url", box.url]
        told = json.loads(subprocess.run(given_up, capture_output=True, timeout=60, check=True).stdout)
        assert told == {"owners": 2, "voices": 2, "recordings": 2, "files": 4}
        assert json.loads(get(box, "/v1/system")[1])["keys"]["state"] == "open"
        assert (get(box, SAY.format("zoe"))[0], get(box, SAY.format("sine-440"))[0]) == (404, 200)
        assert get(box, f"/v1/recordings/{recordings['zoe']}/audio")[0] == 404
        entries = json.loads(get(box, "/v1/audit")[1])["items"]
        assert {"keys.abandon", "keys.abandoned"} <= {entry["action"] for entry in entries}
        assert json.loads(get(box, "/v1/keys/abandon", {"confirm": True})[1])["code"] == "master_key_not_lost"
    finally:
        assert box.stop() == 0
    assert not list(state_dir.glob("blobs/sealed/*/*/*"))


def test_what_an_older_release_left_plain_is_encrypted_at_the_first_start(state_dir: Path) -> None:
    recordings = asyncio.run(enrol(state_dir, is_sealed=False))
    assert len(holds(state_dir, "zoe")) == 3  # sound, weights, and the words in the database
    for _ in range(2):  # a second start finds nothing to do
        box = started(state_dir)
        try:
            assert [holds(state_dir, speaker) for speaker in SPEAKERS] == [[], []]
            for speaker in SPEAKERS:
                assert get(box, f"/v1/recordings/{recordings[speaker]}/audio") == (200, sound(speaker))
                told = json.loads(get(box, f"/v1/recordings/{recordings[speaker]}")[1])
                assert told["transcript"] == WORDS.format(speaker)
                assert get(box, SAY.format(speaker))[0] == 200
            (dataset, _) = json.loads(get(box, "/v1/datasets")[1])["items"]
            assert dataset["clips"][0]["transcript"].startswith("the quick")
        finally:
            assert box.stop() == 0


def test_a_kill_while_it_encrypts_loses_nothing(state_dir: Path) -> None:
    recordings = asyncio.run(enrol(state_dir, is_sealed=False))
    dies = (
        "import os, signal, asyncio, sys; from pathlib import Path; import appliance.voices.sealing_up as up\n"
        "from appliance.voices.blobs import BlobStore; from appliance.cli.alone import open_database, open_vault\n"
        "from appliance.settings import SecuritySettings; from appliance.state_dir import StateDir\n"
        "BlobStore.remove_plain = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "async def main(root):\n"
        "    with open_vault(StateDir(root), SecuritySettings()) as vault:\n"
        "        async with open_database(root / 'voiced.db') as db:\n"
        "            await up.seal_up(db, BlobStore(root / 'blobs', vault), root / 'nothing')\n"
        "asyncio.run(main(Path(sys.argv[1])))"
    )
    died = subprocess.run([sys.executable, "-c", dies, str(state_dir)], timeout=60, check=False)
    assert died.returncode == -9
    box = started(state_dir)
    try:
        assert [holds(state_dir, speaker) for speaker in SPEAKERS] == [[], []]
        for speaker in SPEAKERS:
            assert get(box, f"/v1/recordings/{recordings[speaker]}/audio") == (200, sound(speaker))
    finally:
        assert box.stop() == 0
