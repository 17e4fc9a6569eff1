"""For operators: is it alive, can it speak, how is it doing, what is plugged in."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json
from appliance.doors.http.keys import lost_keys_of
from appliance.doors.http.middleware import language_of
from appliance.doors.http.operator_schemas import HealthTold, PluginsTold, ReadyTold, SystemTold
from appliance.doors.http.routes import Answer, Route
from appliance.doors.http.services import METRICS, Services, services_of
from appliance.doors.metrics import CONTENT_TYPE, Gauge
from appliance.errors import Unavailable


async def get_health(request: web.Request) -> web.Response:
    """`GET /healthz`: the daemon answers. Says nothing about the box to strangers."""
    return answer_json({"status": "ok"})


async def get_readiness(request: web.Request) -> web.Response:
    """`GET /readyz`: 200 once a request for speech would be served, else 503 and which part is missing."""
    services = services_of(request)
    parts = {"speech": "ready" if services.pool.is_ready else "starting"}
    is_ready = all(state == "ready" for state in parts.values())
    headers = {} if is_ready else {"Retry-After": "2"}
    return answer_json({"is_ready": is_ready, "parts": parts}, 200 if is_ready else 503, headers)


async def get_metrics(request: web.Request) -> web.Response:
    """`GET /metrics` for Prometheus."""
    text = request.app[METRICS].text(_gauges(services_of(request)))
    return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})


def _gauges(services: Services) -> list[Gauge]:
    restarts = Gauge("voiced_worker_restarts_total", "Worker processes replaced.", "counter")
    memory = Gauge("voiced_worker_resident_bytes", "Memory of a worker process.")
    for row in services.pool.state():
        restarts.set(float(row.get("restarts", 0)), worker=str(row["id"]))
        memory.set(float(row.get("resident_bytes") or 0), worker=str(row["id"]))
    box, cache = services.box, services.synthesis.cache
    answers = Gauge("voiced_renditions_total", "Requests by how the cache of renditions answered them.", "counter")
    for outcome in ("hit", "miss", "joined"):
        answers.set(cache.outcomes[outcome], outcome=outcome)
    return [
        Gauge("voiced_info", "What runs here.").set(1, version=box.version),
        Gauge("voiced_start_time_seconds", "When the daemon started.").set(_moment(box.started_at).timestamp()),
        Gauge("voiced_ready", "1 when speech would be served.").set(float(services.pool.is_ready)),
        Gauge("voiced_speech_active", "Requests admitted and not yet through.").set(services.synthesis.active),
        Gauge("voiced_speech_queue", "Clauses that wait for a worker.").set(services.pool.depth),
        answers,
        Gauge("voiced_wyoming_connections", "Open connections of the Wyoming door.").set(services.wyoming.connections),
        Gauge("voiced_rendition_cache_bytes", "Renditions kept on disk.").set(cache.bytes),
        Gauge("voiced_rendition_cache_corrupt_total", "Renditions found damaged.", "counter").set(cache.corrupt),
        Gauge("voiced_audit_waiting", "Audit entries not yet on disk.").set(services.audit.state()["waiting"]),
        Gauge("voiced_audit_failing", "1 when the disk refuses audit entries.").set(
            float(bool(services.audit.state()["problem"]))
        ),
        restarts,
        memory,
    ]


async def get_system(request: web.Request) -> web.Response:
    """`GET /v1/system`: the box at a glance."""
    services = services_of(request)
    box, settings = services.box, services.settings
    storage = await asyncio.to_thread(shutil.disk_usage, settings.state_dir)
    uptime_s = (datetime.now(UTC) - _moment(box.started_at)).total_seconds()
    document: dict[str, Any] = {
        "box": {
            "uuid": box.uuid,
            "name": box.name,
            "version": box.version,
            "started_at": box.started_at,
            "uptime_s": round(max(0.0, uptime_s)),
            "tenant": settings.tenant,
            "profile": settings.profile,
            "language": settings.language,
        },
        "is_ready": services.pool.is_ready,
        "speech": {
            "active": services.synthesis.active,
            "waiting_clauses": services.pool.depth,
            "default_voice": await _default_voice(services, principal_of(request).tenant),
        },
        "workers": services.pool.state(),
        "loudspeaker": services.announcer.state(language_of(request)),
        "wyoming": services.wyoming.state(principal_of(request).tenant, language_of(request)),
        "audit": services.audit.state(),
        "gate": services.gate.state(),
        "schedules": {"is_clock_unset": services.schedules.is_clock_unset},
        "keys": await lost_keys_of(services).state(language_of(request)),
        "storage": {"total_bytes": storage.total, "free_bytes": storage.free},
        "limits": {
            "max_characters": settings.speech.max_characters,
            "max_upload_mb": settings.http.max_upload_mb,
            "max_waiting": settings.speech.max_waiting,
        },
    }
    return answer_json(document)


async def _default_voice(services: Services, tenant: str) -> str | None:
    try:
        return await services.synthesis.default_voice(tenant)
    except Unavailable:
        return None


async def list_plugins(request: web.Request) -> web.Response:
    """`GET /v1/plugins`: what was found, what is in use, and why the rest is not."""
    language = language_of(request)
    return answer_json(
        {"items": [info.as_json(language) for info in services_of(request).plugins.report()], "next": None}
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


ROUTES = (
    Route(
        "GET",
        "/healthz",
        get_health,
        "Is the daemon alive?",
        "operators",
        (Answer(200, "yes", HealthTold),),
        is_public=True,
    ),
    Route(
        "GET",
        "/readyz",
        get_readiness,
        "Can it speak?",
        "operators",
        (Answer(200, "yes", ReadyTold), Answer(503, "not yet", ReadyTold)),
        is_public=True,
    ),
    Route(
        "GET",
        "/metrics",
        get_metrics,
        "Figures for Prometheus",
        "operators",
        (Answer(200, "text format 0.0.4", content_type="text/plain"),),
    ),
    Route("GET", "/v1/system", get_system, "The box at a glance", "operators", (Answer(200, "the box", SystemTold),)),
    Route(
        "GET", "/v1/plugins", list_plugins, "What is plugged in", "operators", (Answer(200, "plugins", PluginsTold),)
    ),
)
