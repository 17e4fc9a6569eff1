"""The daemon: builds every room in order on one exit stack, doors last, and takes them down the other way round."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sqlite3
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from appliance import __version__
from appliance.announcer.announcer import Announcer, Surroundings
from appliance.announcer.scheduler import Scheduler
from appliance.assembly import AssemblyRooms, VoiceAssembly
from appliance.consenting import ConsentRooms, SpokenConsents
from appliance.database import Database, open_database, utc_now
from appliance.doors.discovery import announce, announce_wyoming, reachable_addresses
from appliance.doors.http.app import serve_http
from appliance.doors.http.listeners import lan_speaks_tls
from appliance.doors.http.services import Box, Services
from appliance.doors.metrics import Metrics
from appliance.doors.peer_following import following
from appliance.doors.wyoming.door import WyomingDoor
from appliance.doors.wyoming.info import InfoRooms
from appliance.doors.wyoming.session import SessionRooms
from appliance.environment import ServiceManager, read_service_manager
from appliance.erasure import Erasure, ErasureRooms
from appliance.errors import VoicedError
from appliance.housekeeping import Housekeeper
from appliance.jobs.runner import JobRunner
from appliance.marks.desk import DeskRooms, MarksDesk
from appliance.marks.stage import BoxMarks, MarksStage
from appliance.plugin_manager import Plugins, load_plugins
from appliance.print_models import PrintModels, PrintRooms
from appliance.publishing.office import OfficeRooms, open_office
from appliance.publishing.peers import Identity
from appliance.security.audit import append_entry
from appliance.security.room import open_security
from appliance.security.signing import DeviceKey
from appliance.security.tls import ServerCertificate
from appliance.settings import Settings
from appliance.starters import seed_starters
from appliance.state_dir import StateDir, admin_token_of, open_state_dir, write_daemon_info
from appliance.synthesis import SpeechRooms, Synthesis
from appliance.vault.room import serve_vault
from appliance.voices.blobs import BlobStore
from appliance.voices.challenges import ChallengeStore
from appliance.voices.consent_watch import ConsentWatch
from appliance.voices.consents import ConsentStore
from appliance.voices.gate import GateRooms, VoiceGate
from appliance.voices.lexicon import LexiconStore
from appliance.voices.recordings import RecordingStore
from appliance.voices.registry import VoiceRegistry
from appliance.voices.rendition_cache import RenditionCache
from appliance.voices.rendition_files import RenditionFiles
from appliance.voices.renditions import RenditionStore
from appliance.voices.sealing_up import seal_up
from appliance.voices.voiceprints import VoiceprintStore
from appliance.workers import WorkerPool, WorkerSpec

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status; raises VoicedError when the box cannot start."""
    configure_logging(settings)
    asyncio.run(_run(settings, read_service_manager()))
    return 0


async def _run(settings: Settings, manager: ServiceManager) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serve(settings) as url:
        print(f"voiced ready on {url}", flush=True)
        notify(manager, "READY=1")
        watchdog = asyncio.create_task(_feed_watchdog(manager))
        await stopped.wait()
        notify(manager, "STOPPING=1")
        watchdog.cancel()
        log.info("stopping")


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[str]:
    """The whole box; yields its URL once it can speak (or once it is known why it cannot: /readyz says so)."""
    async with AsyncExitStack() as stack:
        state = stack.enter_context(open_state_dir(settings.state_dir))
        token = admin_token_of(settings, state)
        plugins = await asyncio.to_thread(load_plugins, settings.plugins, state.plugins)
        settings = without_quarantined(settings, plugins)
        db = await stack.enter_async_context(open_database(state.database))
        security = await stack.enter_async_context(open_security(db, settings))
        audit, device_key = security.audit, security.key
        blobs = BlobStore(state.blobs, await stack.enter_async_context(serve_vault(state, settings.security)))
        registry = VoiceRegistry(db, blobs)
        consents = ConsentStore(db, append_entry, settings.consent.floor)
        renditions = RenditionStore(db, blobs)
        recordings = RecordingStore(db, blobs)
        for tenant in security.tenants.all():
            await seed_starters(registry, plugins, tenant.id)

        pool = WorkerPool(worker_spec(settings, state), settings.worker, settings.speech.clause_deadline_s)
        pool.start()
        stack.push_async_callback(pool.stop)
        lexicon = LexiconStore(db, plugins.frontends)
        name = settings.discovery.name or socket.gethostname()
        marks, desk = _make_marks(DeskRooms(db, audit, pool), security.key, settings, name)
        cache = await _open_cache(settings, state, db, blobs)
        rooms = SpeechRooms(registry, consents, lexicon, pool, marks, security.quotas, cache)
        synthesis = Synthesis(rooms, settings.speech, settings.engine.default)
        gate = VoiceGate(
            GateRooms(db, VoiceprintStore(db, append_entry, blobs.vault), recordings, pool.voiceprint, append_entry),
            settings.gate,
        )
        jobs = JobRunner(db, registry, recordings, blobs, settings, gate)
        await jobs.start()
        stack.push_async_callback(jobs.stop)
        authority = await asyncio.to_thread(_authority_of, settings, state, name)
        me = Identity(await _box_uuid(db), name, device_key, authority)
        await stack.enter_async_context(
            PrintModels(PrintRooms(db, jobs.models, blobs, registry, recordings, synthesis, gate), settings.tenant)
        )
        signing = (desk.sign_now, settings.marks.provenance)
        office = await stack.enter_async_context(
            open_office(
                OfficeRooms(db, blobs, renditions, consents, synthesis, plugins.channels, me, *signing),
                settings.state_dir,
                settings.publishing.folders,
            )
        )
        announcer, schedules = await _announce(
            stack,
            db,
            Announcer(
                synthesis,
                db,
                blobs,
                settings.loudspeaker,
                Surroundings(music_dir=state.root / "music", peers=office.peers, witness=audit.record),
            ),
        )
        await _enter(
            stack,
            ConsentWatch(db, consents, (synthesis.withdraw, announcer.withdraw, jobs.withdraw)),
            Housekeeper(db, blobs, audit.record, settings.history.days),
        )

        box = Box(me.uuid, me.name, __version__, utc_now())
        metrics, voices = Metrics(), InfoRooms(registry, consents, plugins, settings.engine.default, me.name)
        services = Services(
            settings=settings,
            admin_token=token,
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
            schedules=schedules,
            pool=pool,
            plugins=plugins,
            audit=audit,
            gate=gate,
            erasure=Erasure(
                ErasureRooms(db, blobs, registry, recordings, consents, synthesis, audit, device_key, state.jobs)
            ),
            spoken=SpokenConsents(ConsentRooms(ChallengeStore(db), consents, recordings, gate, pool)),
            marks=desk,
            device_key=device_key,
            security=security,
            metrics=metrics,
            wyoming=WyomingDoor(SessionRooms(settings, security, synthesis, metrics, voices)),
        )
        url = await _open_doors(stack, services)
        write_daemon_info(state, {"url": url, "pid": os.getpid()})
        await _warm(pool)
        # waited for in the end, not cancelled: a file that is being decrypted would outlive the vault
        stack.push_async_callback(asyncio.wait, {asyncio.create_task(_prepare(synthesis, settings.tenant))})
        yield url


async def _warm(pool: WorkerPool) -> None:
    try:
        await pool.warm()
    except VoicedError as error:
        log.error("the box cannot speak yet: %s", error)


async def _prepare(synthesis: Synthesis, tenant: str) -> None:
    """The default voice, while the box is open already."""
    try:
        await synthesis.prepare(tenant)
    except VoicedError as error:
        log.info("no voice is made ready: %s", error)


async def _enter(stack: AsyncExitStack, *managers: AbstractAsyncContextManager[object]) -> None:
    for manager in managers:
        await stack.enter_async_context(manager)


async def _open_doors(stack: AsyncExitStack, services: Services) -> str:
    """HTTP, without which there is no box, then Wyoming; then say so on the LAN. The URL of the first."""
    settings, box, wyoming = services.settings, services.box, services.wyoming
    url = await stack.enter_async_context(serve_http(services))
    services.office.peers.url = await asyncio.to_thread(_lan_url, settings, url)
    await stack.enter_async_context(wyoming.opened())
    if settings.discovery.enabled:
        await stack.enter_async_context(following(services.office.peers))
        await stack.enter_async_context(announce(box, url, settings))
        if wyoming.port:
            await stack.enter_async_context(announce_wyoming(box, wyoming.port, settings))
    return url


async def _announce(stack: AsyncExitStack, db: Database, announcer: Announcer) -> tuple[Announcer, Scheduler]:
    """Open the loudspeakers, then look at the clock."""
    await stack.enter_async_context(announcer)
    return announcer, await stack.enter_async_context(Scheduler(db, announcer))


def without_quarantined(settings: Settings, plugins: Plugins) -> Settings:
    """The settings for child processes: none of them waits again for a plugin that failed or hung here."""
    failed = tuple(info.name for info in plugins.report() if info.state == "quarantined")
    blocked = settings.plugins.model_copy(update={"blocked": (*settings.plugins.blocked, *failed)})
    return settings.model_copy(update={"plugins": blocked}) if failed else settings


def _make_marks(rooms: DeskRooms, key: DeviceKey, settings: Settings, name: str) -> tuple[MarksStage, MarksDesk]:
    """What marks speech, and what finds the marks again, with one key."""
    secret = key.derive("watermark")
    stage = MarksStage(BoxMarks(secret, name), rooms.audit, settings.marks, settings.speech.target_lufs)
    return stage, MarksDesk(rooms, secret, StateDir(settings.state_dir).keys, name)


def worker_spec(settings: Settings, state: StateDir) -> WorkerSpec:
    """What a worker process is told; `threads` 0 shares the cores among the speakers."""
    threads = settings.worker.threads or max(1, (os.cpu_count() or 1) // settings.worker.count)
    return WorkerSpec(
        role="",
        engine=settings.engine.default,
        backends=settings.engine.backends,
        transcriber=settings.engine.transcriber,
        threads=threads,
        cache_dir=state.cache,
        plugins=settings.plugins,
        drop_in_dir=state.plugins,
        intake=settings.intake,
        prepares=settings.engine.optimise,
    )


async def _open_cache(settings: Settings, state: StateDir, db: Database, blobs: BlobStore) -> RenditionCache:
    """Finished renditions; another release or other backends may speak differently, so theirs are not ours."""
    folder, limit = state.cache / "renditions", settings.speech.cache_mb * 1_000_000
    try:
        await seal_up(db, blobs, folder)
    except VoicedError as error:
        log.error("what lies here unencrypted stays so until the next start: %s", error)
    if not limit:
        return RenditionCache()
    recipe = " ".join((__version__, settings.engine.default, *(settings.engine.backends or ("any",))))
    keys = blobs.vault.keys if blobs.vault else None
    return RenditionCache(await asyncio.to_thread(RenditionFiles, folder, limit, recipe, keys))


def _authority_of(settings: Settings, state: StateDir, name: str) -> str:
    """What other boxes check our TLS certificates with; made at first boot. Empty where the LAN is plain."""
    if not lan_speaks_tls(settings.http):
        return ""
    return ServerCertificate(state.keys, name).authority


def _lan_url(settings: Settings, url: str) -> str:
    """How other boxes reach this one: its first address on the LAN, where it listens there."""
    address = reachable_addresses(settings.http.host)[0]
    scheme = "https" if lan_speaks_tls(settings.http) else "http"
    return f"{scheme}://{f'[{address}]' if ':' in address else address}:{urlsplit(url).port}"


async def _box_uuid(db: Database) -> str:
    """Who this box is, for ever."""
    fresh = str(uuid.uuid4())

    def read_or_make(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('box_uuid', ?)", (fresh,))
        return str(connection.execute("SELECT value FROM meta WHERE key = 'box_uuid'").fetchone()[0])

    return await db.write(read_or_make, durable=True)


def notify(manager: ServiceManager, message: str) -> None:
    """Tell systemd (sd_notify protocol: one datagram); nothing happens when nobody listens."""
    if not manager.notify_socket:
        return
    address = manager.notify_socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, contextlib.suppress(OSError):
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall(message.encode())


async def _feed_watchdog(manager: ServiceManager) -> None:
    """A loop that still turns is what the watchdog is about."""
    while manager.watchdog_s > 0:
        notify(manager, "WATCHDOG=1")
        await asyncio.sleep(manager.watchdog_s / 2)


def configure_logging(settings: Settings) -> None:
    """Log to stderr, as text or one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log.format == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log.level, handlers=[handler], force=True)
    logging.getLogger("aiohttp.access").setLevel(
        logging.WARNING
    )  # its lines carry query strings, and ?token= with them


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        row = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)
