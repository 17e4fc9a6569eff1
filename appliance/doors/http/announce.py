"""`/v1/announcements`: said aloud by the box itself."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from appliance.announcer.records import Announcement, NewAnnouncement
from appliance.callers import require_voice
from appliance.contracts import JsonDict
from appliance.doors.http.access import principal_of
from appliance.doors.http.announce_schemas import AnnouncementAsked, AnnouncementsTold, AnnouncementTold, StoppedTold
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import read_query, read_record
from appliance.doors.http.live import stream_events
from appliance.doors.http.middleware import language_of
from appliance.doors.http.problems import describe_reason
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import Services, services_of
from appliance.errors import InvalidInput


async def announce(request: web.Request) -> web.Response:
    """`POST /v1/announcements`: answers at once; the saying follows."""
    asked, services = await read_record(request, AnnouncementAsked), services_of(request)
    tenant = principal_of(request).tenant
    message = await read_message(services, tenant, asked)
    require_voice(message.voice)
    announcement = await services.announcer.submit(tenant, message)
    location = {"Location": f"/v1/announcements/{announcement.id}"}
    return answer_json(show(announcement, language_of(request)), status=202, headers=location)


async def read_message(services: Services, tenant: str, asked: AnnouncementAsked) -> NewAnnouncement:
    """The message that is asked for.

    Raises InvalidInput("field_missing"), NotFound (rendition_not_found, script_not_found, line_not_found,
    publication_not_found).
    """
    message = NewAnnouncement(
        text=asked.text,
        voice=asked.voice,
        language=asked.language,
        priority=asked.priority,
        volume=asked.volume,
        chime=asked.chime,
        max_age_s=asked.max_age_s,
        zones=tuple(asked.zones),
        repeats=asked.repeats,
        pause_s=asked.pause_s,
        key=asked.key,
        interrupted=asked.interrupted,
    )
    which = asked.rendition
    if asked.script:
        which = (await services.office.publisher.line(tenant, asked.script, asked.line, asked.values)).rendition
    if which:
        rendition = await services.renditions.get(tenant, which)
        voice = f"{rendition.voice}@{rendition.number}"
        return replace(message, text=rendition.text, voice=voice, language=rendition.language, audio=rendition.sha256)
    for name in ("text", "voice"):
        if name not in asked.model_fields_set:
            raise InvalidInput("field_missing", field=name)
    return message


async def watch(request: web.Request) -> web.StreamResponse:
    """`GET /v1/announcements/events`: every change of a message or of a zone, as server-sent events."""
    announcer, language = services_of(request).announcer, language_of(request)
    tenant = principal_of(request).tenant

    def tell(row: Announcement | None) -> tuple[str, JsonDict]:
        if row is None:
            return "zones", {"items": announcer.zones_as_json(tenant, language)}
        return "announcement", show(row, language)

    return await stream_events(request, announcer.events(tenant), tell)


async def list_announcements(request: web.Request) -> web.Response:
    """`GET /v1/announcements`."""
    asked, language = read_query(request, PageQuery), language_of(request)
    page = await services_of(request).announcer.page(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next, lambda row: show(row, language))


async def get_announcement(request: web.Request) -> web.Response:
    """`GET /v1/announcements/{announcement}`."""
    announcer, tenant = services_of(request).announcer, principal_of(request).tenant
    row = await announcer.get(tenant, request.match_info["announcement"])
    return answer_json(show(row, language_of(request)))


async def stop_one(request: web.Request) -> web.Response:
    """`DELETE /v1/announcements/{announcement}`: not said, or cut short."""
    announcer, tenant = services_of(request).announcer, principal_of(request).tenant
    return _stopped(await announcer.stop(tenant, request.match_info["announcement"]), language_of(request))


async def stop_all(request: web.Request) -> web.Response:
    """`DELETE /v1/announcements`: silence, now."""
    rows = await services_of(request).announcer.stop(principal_of(request).tenant, None)
    return _stopped(rows, language_of(request))


def _stopped(rows: tuple[Announcement, ...], language: str) -> web.Response:
    return answer_json({"stopped": len(rows), "items": [show(row, language) for row in rows], "next": None})


def show(row: Announcement, language: str) -> JsonDict:
    """An announcement as JSON, the reason also in words."""
    reason = {"code": row.reason, "measured": {}}
    return {**row.as_json(), "explanation": describe_reason(reason, language) if row.reason else None}


_EVENTS = "/v1/announcements/events"
_ALL, _ONE = "/v1/announcements", "/v1/announcements/{announcement}"
_TOLD = (Answer(200, "the announcement", AnnouncementTold),)
ROUTES = (
    Route(
        "GET",
        _ALL,
        list_announcements,
        "List announcements",
        "announcements",
        (Answer(200, "announcements, newest first", AnnouncementsTold),),
        query=PageQuery,
    ),
    Route(
        "POST",
        _ALL,
        announce,
        "Say something aloud",
        "announcements",
        (Answer(202, "queued", AnnouncementTold),),
        body=Body(AnnouncementAsked),
    ),
    Route(
        "DELETE",
        _ALL,
        stop_all,
        "Stop everything that is being said",
        "announcements",
        (Answer(200, "how many were stopped", StoppedTold),),
    ),
    Route(
        "GET",
        _EVENTS,
        watch,
        "Watch announcements and zones",
        "announcements",
        (Answer(200, "server-sent events `announcement` and `zones`", content_type="text/event-stream"),),
    ),
    Route("GET", _ONE, get_announcement, "One announcement", "announcements", _TOLD),
    Route(
        "DELETE",
        _ONE,
        stop_one,
        "Stop one announcement",
        "announcements",
        (Answer(200, "how many were stopped", StoppedTold),),
    ),
)
