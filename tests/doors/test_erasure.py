"""Erasing a speaker: nothing of the voice is left on the disk, the receipt is signed, the audit chain holds."""

from __future__ import annotations

from hashlib import sha256

import pytest
from open_box import TEXT

from appliance.contracts import QualityReport
from appliance.errors import NotFound
from appliance.voices.records import NewConsent, NewRecording, NewVersion, NewVoice

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def enrol(box, speaker: str, sound: bytes) -> str:
    services = box.services
    await services.consents.record("main", NewConsent(speaker, speaker, ("clone", "speak"), statement="yes"))
    new = NewRecording(sound, "a.wav", 2.0, 24_000, QualityReport(True, (), (), {}), "some words", speaker=speaker)
    recording = await services.recordings.add("main", new)
    await services.registry.create_voice("main", NewVoice(speaker, speaker=speaker))
    owner = await services.registry.owner_of("main", speaker)
    weights = services.recordings.blobs.put_bytes(b"weights of " + speaker.encode(), owner)
    version = NewVersion("sine", {"voice": weights}, {"hz": 300, "sample_rate": 24_000})
    await services.registry.add_version("main", speaker, version)
    await services.registry.promote("main", speaker, 1)
    return recording.id


async def post(box, path: str, **order):
    async with box.client.post(path, json=order) as answer:
        return answer.status, await answer.json()


async def test_everything_of_a_speaker_goes_and_others_stay(box):
    mine, other = b"RIFF sound of zoe", b"RIFF sound of tom"
    recording = await enrol(box, "zoe", mine)
    kept = await enrol(box, "tom", other)
    status, problem = await post(box, "/v1/speakers/zoe/erase", confirm="tom")
    assert (status, problem["code"]) == (422, "erasure_not_confirmed")

    status, told = await post(box, "/v1/speakers/zoe/erase", confirm="zoe")
    assert status == 200, told
    assert (told["counts"]["recordings"], told["counts"]["voices"], told["counts"]["consents_ended"]) == (1, 1, 1)
    body = box.services.device_key.public.opens(told["receipt"])
    assert body is not None
    assert "speaker zoe" in body

    blobs = box.services.recordings.blobs
    (key,) = [line.split()[1] for line in body.splitlines() if line.startswith("key ")]
    assert all(path.name != key for path in blobs.root.rglob("*"))
    with pytest.raises(NotFound) as gone:
        blobs.vault.keys.get(key)
    assert gone.value.code == "erased"
    assert not any(blobs.has(sha256(content).hexdigest()) for content in (mine, b"weights of zoe"))
    assert [blobs.read(sha256(content).hexdigest()) for content in (other, b"weights of tom")] == [
        other,
        b"weights of tom",
    ]
    with pytest.raises(NotFound):
        await box.services.recordings.get("main", recording)
    assert (await box.services.recordings.get("main", kept)).speaker == "tom"
    async with box.client.get("/tts", params={"speaker": "zoe", "text": TEXT}) as answer:
        assert answer.status == 404
    actions = "SELECT action FROM audit WHERE subject = 'zoe' ORDER BY idx"
    logged = await box.services.db.read(lambda db: [row[0] for row in db.execute(actions)])
    assert logged == ["speaker.erase", "speaker.erased"]
    await box.services.audit.checkpoint()  # checks the chain on the way


async def test_a_speaker_nobody_knows_is_not_found(box):
    assert (await post(box, "/v1/speakers/nobody/erase", confirm="nobody"))[0] == 404
