"""`/v1/dubbings`: subtitles in, a narration track out."""

from __future__ import annotations

import asyncio

from aiohttp import web

from appliance.contracts import JsonDict
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import read_query
from appliance.doors.http.marks import answer_filed, require_right
from appliance.doors.http.middleware import language_of
from appliance.doors.http.problems import describe_reason
from appliance.doors.http.publishing_schemas import DubbingAsked, DubbingsTold, DubbingTold
from appliance.doors.http.routes import ANY_AUDIO, Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import services_of
from appliance.doors.http.uploads import receive_upload
from appliance.errors import InvalidInput, NotFound
from appliance.publishing.dubbing import Dubbing, NewDubbing


async def submit(request: web.Request) -> web.Response:
    """`POST /v1/dubbings`: a file of subtitles, raw or multipart."""
    await services_of(request).security.quotas.check_storage(principal_of(request).tenant)
    async with receive_upload(request, DubbingAsked) as upload:
        content = await asyncio.to_thread(upload.path.read_bytes)
        asked = upload.asked
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput("body_not_text", charset="utf-8") from error
    new = NewDubbing(text, asked.filename, asked.voice, asked.language, asked.max_speed, asked.format)
    dubbing = await services_of(request).office.dubber.submit(principal_of(request).tenant, new)
    return answer_json(show(dubbing, language_of(request)), 202, {"Location": f"/v1/dubbings/{dubbing.id}"})


async def list_dubbings(request: web.Request) -> web.Response:
    """`GET /v1/dubbings`."""
    asked, language = read_query(request, PageQuery), language_of(request)
    page = await services_of(request).office.dubber.list(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next, lambda row: show(row, language))


async def get_dubbing(request: web.Request) -> web.Response:
    """`GET /v1/dubbings/{dubbing}`: how far it is, and what became of each cue."""
    return answer_json(show(await _find(request), language_of(request)))


async def get_track(request: web.Request) -> web.StreamResponse:
    """`GET /v1/dubbings/{dubbing}/track`."""
    dubbing = await _find(request)
    path = await services_of(request).office.dubber.track(dubbing)
    await require_right(request, (dubbing.voice,), "publish")
    facts = {"narration": dubbing.id, "voice": dubbing.voice}
    return await answer_filed(request, path, facts, {"Content-Type": f"audio/{dubbing.spec['format']}"})


async def get_cue(request: web.Request) -> web.StreamResponse:
    """`GET /v1/dubbings/{dubbing}/cues/{cue}/audio`: one cue (from 1) as FLAC, as it was spoken."""
    dubbing, number = await _find(request), request.match_info["cue"]
    if not (number.isascii() and number.isdigit() and len(number) < 7 and 1 <= int(number) <= len(dubbing.cues)):
        raise NotFound("cue_not_found", cue=number[:20], cues=len(dubbing.cues))
    renditions = services_of(request).renditions
    rendition = await renditions.get_present(dubbing.tenant, dubbing.cues[int(number) - 1].rendition)
    await require_right(request, (rendition.voice,), "publish")
    facts = {"rendition": rendition.id, "voice": f"{rendition.voice}@{rendition.number}"}
    headers = {"Content-Type": "audio/flac", "X-Rendition": rendition.id}
    return await answer_filed(request, await renditions.path(rendition), facts, headers)


def show(dubbing: Dubbing, language: str) -> JsonDict:
    """A narration as JSON, its error also in words."""
    row = dubbing.as_json()
    return (
        row
        if dubbing.error is None
        else {**row, "error": {**dubbing.error, **describe_reason(dubbing.error, language)}}
    )


async def _find(request: web.Request) -> Dubbing:
    dubber = services_of(request).office.dubber
    return await dubber.get(principal_of(request).tenant, request.match_info["dubbing"])


_ALL, _ONE, _TAG = "/v1/dubbings", "/v1/dubbings/{dubbing}", "dubbing"
_LISTED = (Answer(200, "newest first", DubbingsTold),)
_SOUND = (Answer(200, "sound", content_type=ANY_AUDIO),)
ROUTES = (
    Route("GET", _ALL, list_dubbings, "List narrations", _TAG, _LISTED, PageQuery),
    Route(
        "POST",
        _ALL,
        submit,
        "Narrate subtitles",
        _TAG,
        (Answer(202, "the narration, begun", DubbingTold),),
        DubbingAsked,
        Body(content_types=("multipart/form-data", "application/x-subrip", "text/vtt", "text/plain")),
    ),
    Route("GET", _ONE, get_dubbing, "One narration", _TAG, (Answer(200, "it", DubbingTold),)),
    Route("GET", f"{_ONE}/track", get_track, "The finished track", _TAG, _SOUND),
    Route("GET", f"{_ONE}/cues/{{cue}}/audio", get_cue, "One cue, as FLAC", _TAG, _SOUND),
)
