"""`/v1/prompts` and `/v1/recording-sessions`: read a line, hear the verdict, read the next."""

from __future__ import annotations

from aiohttp import web

from appliance.collecting.prompts import prompt_sheet
from appliance.collecting.reading import Clip, ReadingRoom
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page, as_json
from appliance.doors.http.bodies import read_query, read_record
from appliance.doors.http.collecting_schemas import (
    ClipQuery,
    PromptQuery,
    PromptsTold,
    RecordingSessionAsked,
    RecordingSessionsTold,
    RecordingSessionTold,
    SessionClipTold,
)
from appliance.doors.http.middleware import language_of
from appliance.doors.http.recordings import UPLOADS, show
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import services_of
from appliance.doors.http.uploads import receive_upload
from appliance.voices.sessions import SessionStore


def _room(request: web.Request) -> ReadingRoom:
    services = services_of(request)
    return ReadingRoom(SessionStore(services.db), services.recordings, services.gate, services.pool)


async def list_prompts(request: web.Request) -> web.Response:
    """`GET /v1/prompts?language=zh`."""
    sheet = prompt_sheet(read_query(request, PromptQuery).language)
    return answer_json({"items": [as_json(one) for one in sheet.prompts], "next": None, "sheet": sheet.name})


async def list_sessions(request: web.Request) -> web.Response:
    """`GET /v1/recording-sessions`."""
    asked = read_query(request, PageQuery)
    page = await _room(request).sessions.list(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next)


async def begin_session(request: web.Request) -> web.Response:
    """`POST /v1/recording-sessions`."""
    asked = await read_record(request, RecordingSessionAsked)
    session = await _room(request).begin(principal_of(request).tenant, asked.speaker, asked.language)
    location = {"Location": f"/v1/recording-sessions/{session.id}"}
    return answer_json(as_json(session), status=201, headers=location)


async def get_session(request: web.Request) -> web.Response:
    """`GET /v1/recording-sessions/{session}`."""
    tenant = principal_of(request).tenant
    return answer_json(as_json(await _room(request).sessions.get(tenant, request.match_info["session"])))


async def add_clip(request: web.Request) -> web.Response:
    """`POST /v1/recording-sessions/{session}/clips`: 201 and the next prompt, or 422 and why to read again."""
    async with receive_upload(request, ClipQuery) as upload:
        clip = Clip(upload.path, upload.asked.filename, upload.asked.prompt)
        tenant, name = principal_of(request).tenant, request.match_info["session"]
        session, recording = await _room(request).add(tenant, name, clip)
    told = {"recording": show(recording, language_of(request)), "session": as_json(session), "next": session.next}
    return answer_json(told, status=201, headers={"Location": f"/v1/recordings/{recording.id}"})


_ALL, _ONE = "/v1/recording-sessions", "/v1/recording-sessions/{session}"
ROUTES = (
    Route(
        "GET",
        "/v1/prompts",
        list_prompts,
        "What to read aloud",
        "recordings",
        (Answer(200, "the sheet of a language", PromptsTold),),
        query=PromptQuery,
    ),
    Route(
        "GET",
        _ALL,
        list_sessions,
        "List recording sessions",
        "recordings",
        (Answer(200, "sessions, newest first", RecordingSessionsTold),),
        query=PageQuery,
    ),
    Route(
        "POST",
        _ALL,
        begin_session,
        "Begin to read a sheet",
        "recordings",
        (Answer(201, "the session with its first prompt", RecordingSessionTold),),
        body=Body(RecordingSessionAsked),
    ),
    Route(
        "GET",
        _ONE,
        get_session,
        "How far a session is",
        "recordings",
        (Answer(200, "the session", RecordingSessionTold),),
    ),
    Route(
        "POST",
        f"{_ONE}/clips",
        add_clip,
        "A prompt was read",
        "recordings",
        (Answer(201, "kept, with its verdict and the next prompt", SessionClipTold),),
        query=ClipQuery,
        body=Body(content_types=UPLOADS),
    ),
)
