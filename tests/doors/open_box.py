"""A box with its HTTP doors on a real socket, over real rooms; what is spoken and heard comes from small plugins."""

from __future__ import annotations

import asyncio
import io
import shutil
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
import soundfile

from appliance.announcer.announcer import Announcer
from appliance.announcer.scheduler import Scheduler
from appliance.assembly import AssemblyRooms, VoiceAssembly
from appliance.consenting import ConsentRooms, SpokenConsents
from appliance.database import open_database, utc_now
from appliance.doors.http.app import serve_http
from appliance.doors.http.services import Box, Services
from appliance.doors.metrics import Metrics
from appliance.doors.wyoming.door import WyomingDoor
from appliance.doors.wyoming.info import InfoRooms
from appliance.doors.wyoming.session import SessionRooms
from appliance.erasure import Erasure, ErasureRooms
from appliance.jobs.runner import JobRunner
from appliance.marks.desk import DeskRooms, MarksDesk
from appliance.marks.stage import BoxMarks, MarksStage
from appliance.plugin_manager import load_plugins
from appliance.publishing.office import OfficeRooms, open_office
from appliance.publishing.peers import Identity
from appliance.security.audit import append_entry
from appliance.security.room import open_security
from appliance.settings import Settings
from appliance.state_dir import StateDir
from appliance.synthesis import SpeechRooms, Synthesis
from appliance.vault.room import serve_vault
from appliance.voices.blobs import BlobStore
from appliance.voices.challenges import ChallengeStore
from appliance.voices.consents import ConsentStore
from appliance.voices.gate import GateRooms, VoiceGate
from appliance.voices.lexicon import LexiconStore
from appliance.voices.recordings import RecordingStore
from appliance.voices.registry import VoiceRegistry
from appliance.voices.rendition_cache import RenditionCache
from appliance.voices.rendition_files import RenditionFiles
from appliance.voices.renditions import RenditionStore
from appliance.voices.voiceprints import VoiceprintStore
from appliance.workers import WorkerPool, WorkerSpec

HERE = Path(__file__).parent
TOKEN = "the token of this test box"
TEXT = "The shop closes in ten minutes, please come to the counter."


@dataclass(frozen=True)
class OpenBox:
    """A box whose doors are open."""

    url: str
    services: Services
    client: aiohttp.ClientSession


@asynccontextmanager
async def open_box(state_dir: Path, **settings: object):
    """Everything but the daemon around it."""
    given = {"engine": {"default": "sine", "transcriber": "echo"}, **settings}
    given["http"] = {"port": 0, "drain_s": 2, **given.get("http", {})}
    given["wyoming"] = {"port": 0, **given.get("wyoming", {})}
    config = Settings(state_dir=state_dir, **given)
    drop_ins = state_dir / "plugins"
    shutil.copytree(HERE.parent / "drop_ins", drop_ins)
    shutil.copytree(HERE / "drop_ins", drop_ins, dirs_exist_ok=True)
    plugins = load_plugins(config.plugins, drop_ins)
    cache = state_dir / "cache"
    cache.mkdir()
    spec = WorkerSpec("", "sine", (), config.engine.transcriber, 1, cache, config.plugins, drop_ins, config.intake)
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(open_database(state_dir / "voiced.db"))
        vault = await stack.enter_async_context(serve_vault(StateDir(state_dir), config.security))
        blobs = BlobStore(state_dir / "blobs", vault)
        security = await stack.enter_async_context(open_security(db, config))
        audit, device_key = security.audit, security.key
        registry, consents = VoiceRegistry(db, blobs), ConsentStore(db, append_entry)
        recordings, renditions = RecordingStore(db, blobs), RenditionStore(db, blobs)
        await registry.seed_starters(config.tenant, "sine", plugins.engines["sine"]().starter_voices())
        pool = WorkerPool(spec, config.worker, config.speech.clause_deadline_s)
        pool.start()
        stack.push_async_callback(pool.stop)
        lexicon = LexiconStore(db, plugins.frontends)
        marks = MarksStage(BoxMarks(bytes(32), "Counter"), audit, config.marks, config.speech.target_lufs)
        kept = RenditionCache(
            RenditionFiles(cache / "renditions", config.speech.cache_mb * 1_000_000, "tones", vault.keys)
        )
        synthesis = Synthesis(
            SpeechRooms(registry, consents, lexicon, pool, marks, security.quotas, kept), config.speech, "sine"
        )
        announcer = Announcer(synthesis, db, blobs, config.loudspeaker)
        gate = VoiceGate(
            GateRooms(db, VoiceprintStore(db, append_entry, blobs.vault), recordings, pool.voiceprint, append_entry),
            config.gate,
        )
        jobs = JobRunner(db, registry, recordings, blobs, config, gate)
        await jobs.start()
        stack.push_async_callback(jobs.stop)
        box = Box("5e1f0c2a-0000-4000-8000-000000000001", "Counter", "0.1.0", utc_now())
        me = Identity(box.uuid, box.name, device_key)
        metrics, talk = Metrics(), InfoRooms(registry, consents, plugins, "sine", box.name)
        wyoming = WyomingDoor(SessionRooms(config, security, synthesis, metrics, talk))
        desk = MarksDesk(DeskRooms(db, audit, pool), bytes(32), state_dir / "keys", "Counter")
        signing = (desk.sign_now, config.marks.provenance)
        rooms = OfficeRooms(db, blobs, renditions, consents, synthesis, plugins.channels, me, *signing)
        office = await stack.enter_async_context(open_office(rooms, state_dir, config.publishing.folders))
        services = Services(
            settings=config,
            admin_token=config.admin_token.get_secret_value() if config.admin_token else TOKEN,
            box=box,
            db=db,
            registry=registry,
            recordings=recordings,
            consents=consents,
            renditions=renditions,
            lexicon=lexicon,
            models=jobs.models,
            assembly=VoiceAssembly(AssemblyRooms(registry, jobs.models, consents, blobs, pool, gate)),
            synthesis=synthesis,
            jobs=jobs,
            announcer=announcer,
            office=office,
            schedules=Scheduler(db, announcer),
            pool=pool,
            plugins=plugins,
            audit=audit,
            gate=gate,
            erasure=Erasure(
                ErasureRooms(
                    db, blobs, registry, recordings, consents, synthesis, audit, device_key, state_dir / "jobs"
                )
            ),
            spoken=SpokenConsents(ConsentRooms(ChallengeStore(db), consents, recordings, gate, pool)),
            marks=desk,
            device_key=device_key,
            security=security,
            metrics=metrics,
            wyoming=wyoming,
        )
        url = await stack.enter_async_context(serve_http(services))
        office.peers.url = url
        await stack.enter_async_context(wyoming.opened())
        line = aiohttp.TCPConnector(force_close=True)  # a line that is kept may be closed just as it is used again
        client = aiohttp.ClientSession(url, connector=line, timeout=aiohttp.ClientTimeout(30))
        await stack.enter_async_context(client)
        await pool.warm()
        yield OpenBox(url, services, client)


def served(box: OpenBox) -> int:
    """Clauses that the engine has made so far."""
    return box.services.pool.state()[0]["served"]


async def settled(box: OpenBox) -> int:
    """As `served`, once the engine makes no more."""
    last = -1
    while last != (last := served(box)):
        await asyncio.sleep(0.5)
    return last


def wav(samples: np.ndarray, rate: int = 24_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
