"""`/v1/audit`: who did what, for those who may know; checkpoints to carry away; the log as a file."""

from __future__ import annotations

import json
from functools import partial

from aiohttp import web

from appliance.contracts import JsonDict
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import read_query
from appliance.doors.http.routes import Answer, Route
from appliance.doors.http.security_schemas import AuditQuery, AuditTold, CheckpointTold
from appliance.doors.http.services import services_of
from appliance.doors.http.speech import unfinished_is_broken, write_in_time
from appliance.events import Event
from appliance.security.audit_reading import AuditFilter, export_head, list_entries, read_lines
from appliance.security.checkpoints import read_checkpoint
from appliance.security.permissions import may

LINES_AT_ONCE = 500


async def list_audit(request: web.Request) -> web.Response:
    """`GET /v1/audit`: newest first."""
    asked, services, principal = read_query(request, AuditQuery), services_of(request), principal_of(request)
    is_owner = may(principal.role, "tenants.write")
    wanted = AuditFilter(principal.tenant, asked.voice or "", asked.action or "", asked.subject or "", is_owner)
    await services.audit.flush()  # what was said a moment ago is there, too
    page = await services.db.read(lambda db: list_entries(db, wanted, asked.cursor, asked.limit))
    return answer_page(page.items, page.next, _as_it_is)


async def get_checkpoint(request: web.Request) -> web.Response:
    """`GET /v1/audit/checkpoint`: signs for everything written so far."""
    services = services_of(request)
    await services.audit.flush()
    note = await services.audit.checkpoint()
    key = services.device_key.public
    return answer_json({"note": note, "key": key.verifier(), "size": read_checkpoint(note, key).size})


async def export(request: web.Request) -> web.StreamResponse:
    """`GET /v1/audit/export`: a checkpoint, then a line per entry; of other tenants' entries the leaf hash only.

    The whole tree can be computed from it, and nothing of others is told.
    """
    services, tenant = services_of(request), principal_of(request).tenant
    await services.audit.record(Event(tenant, "audit.export"))
    await services.audit.flush()
    note = await services.audit.checkpoint()
    size = read_checkpoint(note, services.device_key.public).size
    head = await services.db.read(partial(export_head, note=note, key=services.device_key.public))
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    async with unfinished_is_broken(request):
        await response.prepare(request)
        await write_in_time(response, _line(head))
        for start in range(head["first"], size, LINES_AT_ONCE):
            read = partial(read_lines, tenant=tenant, start=start, until=min(size, start + LINES_AT_ONCE))
            await write_in_time(response, b"".join(_line(line) for line in await services.db.read(read)))
        await response.write_eof()
    return response


def _as_it_is(entry: JsonDict) -> JsonDict:
    return entry


def _line(document: JsonDict) -> bytes:
    return (json.dumps(document, ensure_ascii=False) + "\n").encode("utf-8", "replace")


ROUTES = (
    Route(
        "GET",
        "/v1/audit",
        list_audit,
        "Who did what",
        "audit",
        (Answer(200, "entries, newest first", AuditTold),),
        query=AuditQuery,
    ),
    Route(
        "GET",
        "/v1/audit/checkpoint",
        get_checkpoint,
        "A signed checkpoint to carry away",
        "audit",
        (Answer(200, "the checkpoint", CheckpointTold),),
    ),
    Route(
        "GET",
        "/v1/audit/export",
        export,
        "The log as a file that can be verified without the box",
        "audit",
        (Answer(200, "a checkpoint, then one entry a line", content_type="application/x-ndjson"),),
    ),
)
