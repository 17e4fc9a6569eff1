"""Every step from a recording to a rendition is found again, forwards and backwards."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from appliance.contracts import QualityReport
from appliance.database import Database
from appliance.errors import NotFound
from appliance.jobs.queue import JobQueue
from appliance.voices.blobs import BlobStore
from appliance.voices.datasets import DatasetStore
from appliance.voices.lineage import Lineage
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import NewRecording, NewRendition, NewVersion, NewVoice
from appliance.voices.registry import VoiceRegistry
from appliance.voices.renditions import RenditionStore


async def _chain(db: Database, blobs: BlobStore, registry: VoiceRegistry) -> list[tuple[str, str]]:
    recordings = RecordingStore(db, blobs)
    report = QualityReport(True, (), (), {})
    long = await recordings.add("main", NewRecording(b"long", "long.wav", 60.0, 24_000, report))
    cut = {"recording": long.id, "start_s": 1.0, "end_s": 4.0}
    clip = await recordings.add("main", NewRecording(b"clip", "clip.wav", 3.0, 24_000, report, "hello", lineage=cut))
    row = {"recording": clip.id, "sha256": clip.sha256, "transcript": "hello"}
    dataset = await DatasetStore(db).add("main", [row], {"clips": 1})
    job = await JobQueue(db).add("main", "clone", {"voice": "anna", "dataset": dataset.id, "seed": 7})
    await registry.create_voice("main", NewVoice("anna"))
    lineage = {"job": job.id, "dataset": dataset.id, "recordings": [clip.id], "seed": 7}
    version = await registry.add_version("main", "anna", NewVersion("sine", lineage=lineage))
    spoken = NewRendition(b"wav", "anna", version.number, "We are open.", "en", 1, 1.0)
    rendition = await RenditionStore(db, blobs).add("main", spoken)
    ids = (long.id, clip.id, dataset.id, job.id, version.spec, rendition.id)
    return list(zip(("recording", "recording", "dataset", "job", "version", "rendition"), ids, strict=True))


async def test_the_chain_is_walked_both_ways(db: Database, blobs: BlobStore, registry: VoiceRegistry) -> None:
    chain, lineage = await _chain(db, blobs, registry), Lineage(db)
    for before, after in pairwise(chain):
        assert after in [(link.kind, link.id) for link in (await lineage.node("main", *before)).made_into]
        assert before in [(link.kind, link.id) for link in (await lineage.node("main", *after)).made_from]
    facts = (await lineage.node("main", *chain[3])).facts
    assert facts["config"]["seed"] == 7 and (await lineage.node("main", *chain[4])).facts["lineage"]["seed"] == 7


async def test_what_was_erased_is_still_named(db: Database, blobs: BlobStore, registry: VoiceRegistry) -> None:
    chain = await _chain(db, blobs, registry)
    await RecordingStore(db, blobs).delete("main", chain[1][1])
    facts = (await Lineage(db).node("main", *chain[1])).facts
    assert facts["deleted_at"] and facts["transcript"] == ""


async def test_another_tenant_and_unknown_kinds_find_nothing(
    db: Database, blobs: BlobStore, registry: VoiceRegistry, tmp_path: Path
) -> None:
    for kind, name in [*(await _chain(db, blobs, registry)), ("potato", "x"), ("version", "anna"), ("session", "s")]:
        with pytest.raises(NotFound) as missing:
            await Lineage(db).node("other", kind, name)
        assert missing.value.code == "lineage_not_found" and missing.value.message("zh")
