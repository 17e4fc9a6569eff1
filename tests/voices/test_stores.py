from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from appliance.contracts import QualityReport, Reason
from appliance.database import Database
from appliance.errors import Forbidden, InvalidInput, NotFound
from appliance.security.audit import append_entry
from appliance.voices.blobs import BlobStore
from appliance.voices.consents import ConsentStore
from appliance.voices.datasets import DatasetStore
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import NewConsent, NewRecording, NewRendition, NewVersion, NewVoice
from appliance.voices.registry import VoiceRegistry
from appliance.voices.renditions import RenditionStore


def recording_of(sound: bytes, **changes: object) -> NewRecording:
    report = QualityReport(True, (), (Reason("recording_quiet", {"speech_dbfs": -50.0}),), {"snr_db": 40.0})
    values: dict[str, object] = {
        "source": sound,
        "filename": "hello.wav",
        "duration_s": 3.5,
        "sample_rate": 24_000,
        "report": report,
        **changes,
    }
    return NewRecording(**values)  # type: ignore[arg-type]


# ---------------------------------------------------------------- recordings


async def test_a_recording_keeps_sound_verdict_and_words(db: Database, blobs: BlobStore, tmp_path: Path) -> None:
    store, source = RecordingStore(db, blobs), tmp_path / "x.wav"
    source.write_bytes(b"RIFF")
    new = recording_of(
        b"", source=source, filename="C:\\clips\\..\\我.wav", transcript="你好", language="zh", transcript_source="asr"
    )
    made = await store.add("main", new)
    assert made == await store.get("main", made.id) and made.filename == "我.wav" and made.accepted
    assert (await store.path(made)).read_bytes() == b"RIFF"
    assert made.report["warnings"] == [{"code": "recording_quiet", "measured": {"speech_dbfs": -50.0}}]
    corrected = await store.set_transcript("main", made.id, "您好", "zh")
    assert (corrected.transcript, corrected.transcript_source, corrected.sha256) == ("您好", "given", made.sha256)


async def test_recordings_of_another_tenant_do_not_exist(db: Database, blobs: BlobStore) -> None:
    store = RecordingStore(db, blobs)
    mine = await store.add("main", recording_of(b"a"))
    for attempt in (
        store.get("other", mine.id),
        store.get_many("other", [mine.id]),
        store.set_transcript("other", mine.id, "x", "en"),
        store.delete("other", mine.id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert (await store.list("other")).items == ()
    assert await store.get("main", mine.id) == mine


async def test_deleting_erases_the_sound_once_nobody_else_has_it(db: Database, blobs: BlobStore) -> None:
    store = RecordingStore(db, blobs)
    mine, theirs = await store.add("main", recording_of(b"same")), await store.add("other", recording_of(b"same"))
    await store.delete("main", mine.id)
    assert (await store.path(theirs)).read_bytes() == b"same"
    with pytest.raises(NotFound):
        await store.get("main", mine.id)
    await store.delete("other", theirs.id)
    assert not blobs.has(theirs.sha256)


async def test_a_sound_filed_while_its_twin_is_deleted_survives(db: Database, blobs: BlobStore) -> None:
    store = RecordingStore(db, blobs)
    for _ in range(10):
        old = await store.add("main", recording_of(b"twin"))
        new, _ = await asyncio.gather(store.add("main", recording_of(b"twin")), store.delete("main", old.id))
        assert (await store.path(new)).read_bytes() == b"twin"
        await store.delete("main", new.id)


async def test_newest_recordings_come_first(db: Database, blobs: BlobStore) -> None:
    store = RecordingStore(db, blobs)
    made = [(await store.add("main", recording_of(b"%d" % n))).id for n in range(5)]
    first = await store.list("main", None, 3)
    rest = await store.list("main", first.next, 3)
    assert set(made) == {item.id for item in (*first.items, *rest.items)} and rest.next is None
    times = [item.created_at for item in (*first.items, *rest.items)]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("text", "source"), [("x" * 20_001, "given"), ("\ud800", "given"), ("a\0b", "given"), ("x", "guess")]
)
async def test_a_transcript_that_cannot_be_kept_is_refused(
    db: Database, blobs: BlobStore, text: str, source: str
) -> None:
    store = RecordingStore(db, blobs)
    made = await store.add("main", recording_of(b"a"))
    with pytest.raises(InvalidInput):
        await store.set_transcript("main", made.id, text, "en", source=source)


# ---------------------------------------------------------------- consents


async def test_without_consent_only_starters_may_be_used(db: Database, registry: VoiceRegistry) -> None:
    consents = ConsentStore(db, append_entry)
    await registry.create_voice("main", NewVoice("jf_one", origin="starter"))
    assert await consents.require("main", "jf_one", "announce") is None
    for purpose in ("clone", "speak"):
        with pytest.raises(Forbidden) as missing:
            await consents.require("main", "anna", purpose)
        assert missing.value.code == "consent_missing"
    with pytest.raises(InvalidInput):
        await consents.require("main", "jf_one", "world domination")


async def test_consent_covers_its_purposes_its_voice_and_its_tenant(db: Database) -> None:
    consents = ConsentStore(db, append_entry)
    given = await consents.record("main", NewConsent("Anna", "anna", ("clone", "speak")))
    assert await consents.require("main", "anna", "speak") == given
    for tenant, voice, purpose in (("main", "anna", "publish"), ("main", "bob", "speak"), ("other", "anna", "speak")):
        with pytest.raises(Forbidden):
            await consents.require(tenant, voice, purpose)
    with pytest.raises(NotFound):
        await consents.revoke("other", given.id)


async def test_a_speakers_consent_covers_all_voices_of_that_speaker(db: Database, registry: VoiceRegistry) -> None:
    consents = ConsentStore(db, append_entry)
    await registry.create_voice("main", NewVoice("anna", speaker="Anna"))
    await registry.create_voice("main", NewVoice("nameless"))
    await consents.record("main", NewConsent("Anna"))
    assert await consents.require("main", "anna", "speak") is not None
    with pytest.raises(Forbidden):
        await consents.require("main", "nameless", "speak")


async def test_revoking_ends_earlier_agreements_too_until_a_new_one(db: Database) -> None:
    consents = ConsentStore(db, append_entry)
    first = await consents.record("main", NewConsent("Anna", "anna"))
    await asyncio.sleep(0.005)
    second = await consents.record("main", NewConsent("Anna", "anna"))
    await asyncio.sleep(0.005)
    revoked = await consents.revoke("main", first.id)
    assert await consents.revoke("main", first.id) == revoked
    with pytest.raises(Forbidden) as gone:
        await consents.require("main", "anna", "speak")
    assert gone.value.code == "consent_revoked" and second.revoked_at is None
    await asyncio.sleep(0.005)
    await consents.record("main", NewConsent("Anna", "anna"))
    await consents.require("main", "anna", "speak")


async def test_expiry_counts_and_turning_the_clock_back_does_not_help(db: Database) -> None:
    consents = ConsentStore(db, append_entry)
    await consents.record("main", NewConsent("Anna", "anna", expires_at="2030-01-01T00:00:00+08:00"))
    await consents.require("main", "anna", "speak")
    await db.write(
        lambda c: c.execute("UPDATE meta SET value = '2030-06-01T00:00:00.000Z'")
    )  # the box was once in 2030
    with pytest.raises(Forbidden) as late:
        await consents.require("main", "anna", "speak")
    assert late.value.code == "consent_expired" and late.value.measured["on"] == "2029-12-31T16:00:00.000Z"


@pytest.mark.parametrize(
    "new",
    [
        NewConsent(" "),
        NewConsent("Anna", purposes=()),
        NewConsent("Anna", purposes=("x",)),
        NewConsent("Anna", expires_at="soon"),
    ],
)
async def test_an_incomplete_consent_is_refused(db: Database, new: NewConsent) -> None:
    with pytest.raises(InvalidInput):
        await ConsentStore(db, append_entry).record("main", new)


# ---------------------------------------------------------------- renditions and datasets


async def test_a_rendition_is_filed_once_per_id_and_tenant(db: Database, blobs: BlobStore) -> None:
    store = RenditionStore(db, blobs)
    new = NewRendition(b"wav", "anna", 3, "你好", "zh", 7, 1.5, {"speed": 1.0}, id="digest")
    made = await store.add("main", new)
    again = await store.add("main", NewRendition(b"other", "anna", 3, "x", "zh", 7, 1.5, id="digest"))
    assert made == again == await store.get("main", "digest")
    assert (await store.path(made)).read_bytes() == b"wav"
    with pytest.raises(NotFound):
        await store.get("other", "digest")


async def test_equal_clips_are_one_dataset_per_tenant_and_it_cannot_change(db: Database) -> None:
    store, clip = DatasetStore(db), {"recording": "rec_1", "transcript": "words"}
    made = await store.add("main", [clip], {"seconds": 3.0})
    assert await store.add("main", [dict(reversed(clip.items()))], {"seconds": 3.0}) == made
    assert (await store.add("other", [clip], {})).id != made.id
    assert (await store.add("main", [{**clip, "transcript": "others"}], {})).digest != made.digest
    with pytest.raises(NotFound):
        await store.get("other", made.id)
    with pytest.raises(sqlite3.IntegrityError):
        await db.write(lambda connection: connection.execute("UPDATE datasets SET stats = '{}'"))


async def test_a_sound_that_a_version_uses_survives_the_deletion_of_its_recording(
    db: Database, blobs: BlobStore, registry: VoiceRegistry
) -> None:
    store = RecordingStore(db, blobs)
    made = await store.add("main", recording_of(b"reference"))
    await registry.create_voice("main", NewVoice("anna"))
    version = await registry.add_version("main", "anna", NewVersion("sine", {"reference": made.sha256}))
    await store.delete("main", made.id)
    assert (await registry.assets(version)).files["reference"].read_bytes() == b"reference"
