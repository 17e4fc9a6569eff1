"""The voiceprint gate: the same voice is recognised, strangers pass, and every verdict is written down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr

from appliance.audio.files import read_audio, to_mono
from appliance.audio.voiceprint import MODEL, shipped_model, voiceprint
from appliance.contracts import Audio, QualityReport
from appliance.database import open_database
from appliance.errors import Forbidden, NotFound
from appliance.security.audit import append_entry
from appliance.settings import GateSettings
from appliance.voices.blobs import BlobStore
from appliance.voices.gate import GateRooms, VoiceGate
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import NewRecording
from appliance.voices.voiceprints import VoiceprintStore

ROOT = Path(__file__).parents[2]
LIMITS = GateSettings()


def read(path: Path, start_s: float, end_s: float) -> Audio:
    decoded = read_audio(path)
    samples = soxr.resample(to_mono(decoded.samples), decoded.sample_rate, 16_000)
    return Audio(samples[int(start_s * 16_000) : int(end_s * 16_000)], 16_000)


@pytest.fixture(scope="module")
def reader():
    path = ROOT / "appliance" / "data" / "demo" / "two_cities.flac"
    return [read(path, start, start + 12) for start in (0, 14, 28)]


@pytest.fixture(scope="module")
def other():
    return read(ROOT / "tests" / "data" / "beckett.flac", 0, 10)


def test_one_reader_is_like_himself_and_another_is_not(reader, other):
    enrolled = voiceprint(reader[0])
    assert shipped_model().likeness(enrolled, voiceprint(reader[1])) > LIMITS.block
    assert shipped_model().likeness(enrolled, voiceprint(other)) < LIMITS.review


def test_noise_and_a_telephone_do_not_hide_a_voice(reader):
    noise = np.random.default_rng(0).normal(0, 0.004, len(reader[1].samples)).astype(np.float32)
    noisy = Audio(reader[1].samples + noise, 16_000)
    narrow = Audio(soxr.resample(reader[2].samples, 16_000, 8_000), 8_000)
    enrolled = voiceprint(reader[0])
    assert shipped_model().likeness(enrolled, voiceprint(noisy)) > LIMITS.review
    assert shipped_model().likeness(enrolled, voiceprint(narrow)) > LIMITS.review


def test_a_print_is_the_same_every_time_and_likeness_is_symmetric(reader, other):
    one, two = voiceprint(reader[0]), voiceprint(other)
    np.testing.assert_array_equal(one, voiceprint(reader[0]))
    assert shipped_model().likeness(one, two) == pytest.approx(shipped_model().likeness(two, one), abs=1e-6)


class Box:
    """A gate over real stores; files are told apart by their content, prints come from `sounds`."""

    def __init__(self, db, folder: Path, sounds: dict[bytes, np.ndarray]) -> None:
        self.db, self.sounds = db, sounds
        self.prints = VoiceprintStore(db, append_entry)
        self.recordings = RecordingStore(db, BlobStore(folder / "blobs"))
        rooms = GateRooms(db, self.prints, self.recordings, self.listen, append_entry)
        self.gate = VoiceGate(rooms, LIMITS)

    async def listen(self, path: Path) -> np.ndarray:
        return self.sounds[path.read_bytes()]

    async def record(self, content: bytes, speaker: str, tenant: str = "main"):
        new = NewRecording(content, f"{speaker}.wav", 12.0, 16_000, QualityReport(True, (), (), {}), speaker=speaker)
        return await self.recordings.add(tenant, new)

    async def logged(self) -> list[str]:
        query = "SELECT action || ' ' || json_extract(entry, '$.outcome') FROM audit ORDER BY idx"
        return await self.db.read(lambda db: [row[0] for row in db.execute(query)])


@pytest.fixture
async def box(tmp_path, reader, other):
    sounds = {b"reader": voiceprint(reader[0]), b"reader later": voiceprint(reader[1]), b"other": voiceprint(other)}
    async with open_database(tmp_path / "voiced.db") as db:
        yield Box(db, tmp_path, sounds)


async def refused(box, voice: str, speaker: str, *recordings) -> Forbidden:
    with pytest.raises(Forbidden) as caught:
        await box.gate.require("main", voice, speaker, recordings)
    return caught.value


async def test_a_protected_voice_is_neither_enrolled_nor_cloned_by_any_tenant(box):
    await box.prints.protect("bureau", "The mayor", {MODEL: box.sounds[b"reader"]})
    recording = await box.record(b"reader later", "anna")
    with pytest.raises(Forbidden, match="voice_protected"):
        await box.gate.enrol("main", recording)
    error = await refused(box, "anna", "anna", recording)
    assert error.code == "voice_protected"
    assert error.measured["score"] >= LIMITS.block
    assert "mayor" not in str(error.measured)
    assert (await box.logged())[-2:] == ["gate.enrol refused", "gate.clone refused"]
    await box.gate.require("main", "tom", "tom", (await box.record(b"other", "tom"),))
    assert (await box.logged())[-1] == "gate.pass done"


async def test_of_a_protected_voice_nothing_is_kept_whatever_way_it_comes(box):
    await box.prints.protect("bureau", "The mayor", {MODEL: box.sounds[b"reader"]})
    quality = QualityReport(True, (), (), {})
    for content, is_kept in ((b"reader later", False), (b"other", True)):
        new = NewRecording(content, "clip.wav", 12.0, 16_000, quality, speaker="anna")
        if is_kept:
            kept = await box.gate.admit("main", new)
            continue
        with pytest.raises(Forbidden, match="voice_protected"):
            await box.gate.admit("main", new)
    assert [row.id for row in (await box.recordings.list("main")).items] == [kept.id]
    sounds = [path.read_bytes() for path in (box.recordings.blobs.root).rglob("*") if path.is_file()]
    assert sounds == [b"other"]


async def test_somebody_elses_voice_needs_a_person_who_allows_it(box):
    await box.record(b"reader", "anna")
    await box.gate.learn("main", (await box.record(b"reader", "anna"),))
    recording = await box.record(b"reader later", "impostor")
    assert (await refused(box, "fake", "impostor", recording)).code == "voice_of_another_speaker"
    review = (await box.prints.reviews("main"))[0]
    assert (review.kind, review.other, review.state) == ("speaker", "anna", "waiting")
    assert await box.prints.reviews("bureau") == ()
    with pytest.raises(NotFound):
        await box.prints.decide("bureau", review.id, is_allowed=True)
    await box.prints.decide("main", review.id, is_allowed=True)
    await box.gate.require("main", "fake", "impostor", (recording,))
    await box.prints.decide("main", review.id, is_allowed=False)
    assert (await refused(box, "fake", "impostor", recording)).code == "voice_review_denied"


async def test_other_tenants_speakers_are_no_business_of_ours(box):
    theirs = await box.record(b"reader", "anna", tenant="bureau")
    await box.gate.learn("bureau", (theirs,))
    await box.gate.require("main", "anna", "anna", (await box.record(b"reader later", "anna"),))


async def test_between_the_thresholds_a_person_is_asked(box, monkeypatch):
    await box.prints.protect("main", "The mayor", {MODEL: box.sounds[b"reader"]})
    strict = VoiceGate(box.gate._rooms, GateSettings(block=0.99, review=0.5))
    recording = await box.record(b"reader later", "anna")
    with pytest.raises(Forbidden) as caught:
        await strict.require("main", "anna", "anna", (recording,))
    assert caught.value.code == "voice_needs_review"
    await box.prints.decide("main", caught.value.measured["review"], is_allowed=True)
    await strict.require("main", "anna", "anna", (recording,))
