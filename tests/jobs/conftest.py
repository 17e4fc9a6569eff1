from __future__ import annotations

import asyncio
import importlib.util
import io
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile

from appliance.contracts import QualityReport
from appliance.database import Database, open_database
from appliance.jobs.records import CloneRequest, Job
from appliance.jobs.runner import JobRunner
from appliance.security.audit import append_entry
from appliance.settings import CloneSettings, EngineSettings, PluginSettings, Settings
from appliance.voices.blobs import BlobStore
from appliance.voices.consents import ConsentStore
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import NewConsent, NewRecording, Recording
from appliance.voices.registry import VoiceRegistry

DROP_INS = Path(__file__).parent / "drop_ins"
SPEAKER_HZ = 210.0


def tone_wav(seconds: float = 16.0, hz: float = SPEAKER_HZ) -> bytes:
    spec = importlib.util.spec_from_file_location("tone_engine_for_tests", DROP_INS / "tone_engine.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    file = io.BytesIO()
    soundfile.write(file, module.buzz(hz, seconds), 24_000, format="WAV")
    return file.getvalue()


class Box:
    """A state directory with its rooms, and a runner that can be stopped and started like the daemon."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db, self.settings = db, settings
        self.blobs = BlobStore(settings.state_dir / "blobs")
        self.registry = VoiceRegistry(db, self.blobs)
        self.recordings = RecordingStore(db, self.blobs)
        self.consents = ConsentStore(db, append_entry)
        self.runner = self.new_runner()

    def new_runner(self) -> JobRunner:
        runner = JobRunner(self.db, self.registry, self.recordings, self.blobs, self.settings)
        runner._full_disk_retry_s = 0.2
        return runner

    async def record(
        self, transcript: str = "", *, tenant: str = "main", seconds: float = 16.0, **changes: Any
    ) -> Recording:
        accepted = changes.pop("accepted", True)
        measures = {"speech_s": seconds, "snr_db": 30.0}
        values: dict[str, Any] = {
            "source": tone_wav(seconds, changes.pop("hz", SPEAKER_HZ)),
            "filename": "tone.wav",
            "duration_s": seconds,
            "sample_rate": 24_000,
            "report": QualityReport(accepted, (), (), measures),
            "transcript": transcript,
            "language": "en",
            "transcript_source": "given",
            **changes,
        }
        return await self.recordings.add(tenant, NewRecording(**values))

    async def submit(self, transcript: str = "", *, steps: int = 5, voice: str = "anna") -> Job:
        recording = await self.record(transcript)
        await self.consents.record("main", NewConsent("Anna", voice))
        return await self.runner.submit_clone("main", CloneRequest(voice, (recording.id,), steps=steps))

    async def until(self, job: Job, is_there: Callable[[Job], bool], timeout_s: float = 110.0) -> Job:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = await self.runner.get(job.tenant, job.id)
            if is_there(found):
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"still {found}\n{self.log_of(job)}")

    async def finished(self, job: Job) -> Job:
        return await self.until(job, lambda found: found.has_ended)

    def log_of(self, job: Job) -> str:
        path = self.settings.state_dir / "jobs" / job.id / "log.txt"
        return path.read_text() if path.is_file() else "(no log)"


def settings_for(state_dir: Path, **clone: Any) -> Settings:
    optimise = clone.pop("optimise", False)  # or an export follows every import
    limits = {"min_dnsmos": 1.0, "steps": 3, "nice": 7, **clone}
    return Settings(
        state_dir=state_dir,
        engine=EngineSettings(default="tone", backends=(), transcriber="parrot", optimise=optimise),
        plugins=PluginSettings(drop_in_dir=DROP_INS),
        clone=CloneSettings(**limits),
    )


@asynccontextmanager
async def open_box(state_dir: Path, **clone: Any) -> AsyncIterator[Box]:
    (state_dir / "cache").mkdir(parents=True, exist_ok=True)
    async with open_database(state_dir / "voiced.db") as db:
        box = Box(db, settings_for(state_dir, **clone))
        await box.runner.start()
        try:
            yield box
        finally:
            await box.runner.stop()


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with open_box(tmp_path) as opened:
        yield opened


@pytest.fixture
def open_with() -> Callable[..., Any]:
    """`async with open_with(state_dir, **clone_settings) as box`."""
    return open_box
