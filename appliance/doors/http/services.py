"""What the doors are given: the rooms below, as one frozen record, and the keys they are kept under."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from appliance.doors.http.routes import RouteTable
from appliance.doors.metrics import Metrics
from appliance.settings import Settings

if TYPE_CHECKING:  # records of rooms below, named for the reader and the type checker only
    from appliance.announcer.announcer import Announcer
    from appliance.announcer.scheduler import Scheduler
    from appliance.assembly import VoiceAssembly
    from appliance.consenting import SpokenConsents
    from appliance.database import Database
    from appliance.doors.wyoming.door import WyomingDoor
    from appliance.erasure import Erasure
    from appliance.jobs.runner import JobRunner
    from appliance.marks.desk import MarksDesk
    from appliance.plugin_manager import Plugins
    from appliance.publishing.office import Office
    from appliance.security.audit import AuditLog
    from appliance.security.room import Security
    from appliance.security.signing import DeviceKey
    from appliance.synthesis import Synthesis
    from appliance.voices.consents import ConsentStore
    from appliance.voices.gate import VoiceGate
    from appliance.voices.lexicon import LexiconStore
    from appliance.voices.models import ModelStore
    from appliance.voices.recordings import RecordingStore
    from appliance.voices.registry import VoiceRegistry
    from appliance.voices.renditions import RenditionStore
    from appliance.workers import WorkerPool


@dataclass(frozen=True)
class Box:
    """Who this box is: `uuid` is stable for life, `name` is shown on the LAN, `started_at` is ISO 8601 UTC."""

    uuid: str
    name: str
    version: str
    started_at: str


@dataclass(frozen=True)
class Services:
    """Everything a door may call. `admin_token` is the token in force: configured, or made at first boot."""

    settings: Settings
    admin_token: str
    box: Box
    db: Database
    registry: VoiceRegistry
    recordings: RecordingStore
    consents: ConsentStore
    renditions: RenditionStore
    lexicon: LexiconStore
    models: ModelStore
    assembly: VoiceAssembly
    synthesis: Synthesis
    jobs: JobRunner
    announcer: Announcer
    office: Office
    schedules: Scheduler
    pool: WorkerPool
    plugins: Plugins
    audit: AuditLog
    marks: MarksDesk
    gate: VoiceGate
    spoken: SpokenConsents
    erasure: Erasure
    device_key: DeviceKey
    security: Security
    metrics: Metrics
    wyoming: WyomingDoor


SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)
STOPPING: web.AppKey[asyncio.Event] = web.AppKey("stopping", asyncio.Event)  # set once no new request is taken
STREAMS: web.AppKey[set[object]] = web.AppKey("streams", set)  # one for each open `/v1/stream`
STRANGERS: web.AppKey[set[object]] = web.AppKey("strangers", set)  # one for each whose file is being looked at
TABLE: web.AppKey[RouteTable] = web.AppKey("table", RouteTable)


def services_of(request: web.Request) -> Services:
    """The services of the application that serves `request`."""
    return request.app[SERVICES]
