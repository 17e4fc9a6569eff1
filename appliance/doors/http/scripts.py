"""`/v1/scripts`: lines, their revisions, and what is published of them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from aiohttp import web

from appliance.contracts import JsonDict
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import read_bytes, read_query, read_record
from appliance.doors.http.files import send_parts
from appliance.doors.http.live import stream_events
from appliance.doors.http.marks import answer_filed, require_right
from appliance.doors.http.middleware import language_of
from appliance.doors.http.problems import describe_reason
from appliance.doors.http.publishing_schemas import (
    ArchiveQuery,
    CarryAsked,
    DifferenceQuery,
    DifferenceTold,
    ExportQuery,
    ImportQuery,
    PlanQuery,
    PlanTold,
    PublicationsTold,
    PublicationTold,
    PublishAsked,
    RevisionsTold,
    RevisionTold,
    ScriptAsked,
    ScriptsTold,
    ScriptTold,
)
from appliance.doors.http.routes import ANY_AUDIO, Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import services_of
from appliance.errors import NotFound
from appliance.publishing.archives import archive_of
from appliance.publishing.exchange import FORMATS, export_revision, import_script
from appliance.publishing.lines import difference
from appliance.publishing.office import Office
from appliance.publishing.provenance import Provenance
from appliance.publishing.records import Line, NewRevision, Publication, Revision

MOST_IMPORT_BYTES = 16 << 20
FILE_TYPES = (
    "text/csv",
    "application/json",
    "application/x-subrip",
    "text/vtt",
    "text/plain",
    "application/octet-stream",
)


def _office(request: web.Request) -> Office:
    return services_of(request).office


def _which(request: web.Request) -> tuple[str, str]:
    return principal_of(request).tenant, request.match_info["script"]


async def list_scripts(request: web.Request) -> web.Response:
    """`GET /v1/scripts`."""
    asked = read_query(request, PageQuery)
    page = await _office(request).scripts.list(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next)


async def get_script(request: web.Request) -> web.Response:
    """`GET /v1/scripts/{script}`."""
    return answer_json((await _office(request).scripts.get(*_which(request))).as_json())


async def save_script(request: web.Request) -> web.Response:
    """`PUT /v1/scripts/{script}`: the next revision; equal content makes none."""
    asked = await read_record(request, ScriptAsked)
    new = NewRevision(
        lines=tuple(Line(**line.model_dump()) for line in asked.lines),
        variables={name: tuple(values) for name, values in asked.variables.items()},
        voice=asked.voice,
        language=asked.language,
        comment=asked.comment,
        author=principal_of(request).client,
    )
    revision = await _office(request).scripts.save(*_which(request), new, asked.title, asked.expected)
    return answer_json(revision.as_json())


async def delete_script(request: web.Request) -> web.Response:
    """`DELETE /v1/scripts/{script}`: from the list; revisions and renditions stay."""
    await _office(request).scripts.delete(*_which(request))
    return web.Response(status=204)


async def list_revisions(request: web.Request) -> web.Response:
    """`GET /v1/scripts/{script}/revisions`."""
    asked = read_query(request, PageQuery)
    page = await _office(request).scripts.revisions(*_which(request), asked.cursor, asked.limit)
    return answer_page(page.items, page.next)


async def get_revision(request: web.Request) -> web.Response:
    """`GET /v1/scripts/{script}/revisions/{revision}`."""
    number = _number(request, "revision", "revision_not_found")
    return answer_json((await _office(request).scripts.revision(*_which(request), number)).as_json())


async def compare_revisions(request: web.Request) -> web.Response:
    """`GET /v1/scripts/{script}/difference?old=3`."""
    asked, scripts = read_query(request, DifferenceQuery), _office(request).scripts
    old = await scripts.revision(*_which(request), asked.old)
    return answer_json(difference(old, await scripts.revision(*_which(request), asked.new)))


async def export_script(request: web.Request) -> web.Response:
    """`GET /v1/scripts/{script}/export`."""
    asked = read_query(request, ExportQuery)
    revision = await _office(request).scripts.revision(*_which(request), asked.revision)
    content = await asyncio.to_thread(export_revision, revision, asked.format)
    name = f'attachment; filename="{revision.script}-{revision.number}.{asked.format}"'
    headers = {"Content-Type": FORMATS[asked.format], "Content-Disposition": name}
    return web.Response(body=content.encode(), headers=headers)


async def import_revision(request: web.Request) -> web.Response:
    """`POST /v1/scripts/{script}/import?format=csv`: a file becomes the next revision."""
    asked, scripts = read_query(request, ImportQuery), _office(request).scripts
    content = await read_bytes(request, MOST_IMPORT_BYTES)
    base: Revision | None = None
    with contextlib.suppress(NotFound):
        base = await scripts.revision(*_which(request))
    new = await asyncio.to_thread(import_script, content, asked.format, base)
    signed = replace(new, comment=asked.comment or new.comment, author=principal_of(request).client)
    return answer_json((await scripts.save(*_which(request), signed, asked.title)).as_json())


async def plan(request: web.Request) -> web.Response:
    """`GET /v1/scripts/{script}/plan`: what publishing would render, and what it would refuse."""
    asked, language = read_query(request, PlanQuery), language_of(request)
    planned = (await _office(request).publisher.plan(*_which(request), asked.revision)).as_json()
    refused = [{**row, **describe_reason(row, language)} for row in planned["refused"]]
    return answer_json({**planned, "refused": refused})


async def publish(request: web.Request) -> web.Response:
    """`POST /v1/scripts/{script}/publish`."""
    asked = await read_record(request, PublishAsked)
    tenant, script = _which(request)
    await services_of(request).security.quotas.check_storage(tenant)
    made = await _office(request).publisher.publish(tenant, script, asked.revision, principal_of(request).client)
    return _started(request, made)


async def roll_back(request: web.Request) -> web.Response:
    """`POST /v1/scripts/{script}/rollback`."""
    asked = await read_record(request, CarryAsked)
    tenant, script = _which(request)
    made = await _office(request).publisher.rollback(tenant, script, asked.to, principal_of(request).client)
    return _started(request, made)


async def list_publications(request: web.Request) -> web.Response:
    """`GET /v1/scripts/{script}/publications`."""
    asked, language = read_query(request, PageQuery), language_of(request)
    page = await _office(request).publications.list(*_which(request), asked.cursor, asked.limit)
    return answer_page(page.items, page.next, lambda row: show(row, language))


async def get_publication(request: web.Request) -> web.Response:
    """`GET /v1/scripts/{script}/publications/{publication}`."""
    return answer_json(show(await _publication(request), language_of(request)))


async def watch_publication(request: web.Request) -> web.StreamResponse:
    """`GET …/publications/{publication}/events`: its state after every change, without its lines."""
    publication, language = await _publication(request), language_of(request)
    rows = _office(request).publisher.events(publication.tenant, publication.script, publication.number)

    def tell(row: Publication) -> tuple[str, JsonDict]:
        return "publication", {key: value for key, value in show(row, language).items() if key != "lines"}

    return await stream_events(request, rows, tell)


async def get_archive(request: web.Request) -> web.StreamResponse:
    """`GET …/publications/{publication}/archive?format=ulaw`: all lines as a ZIP file."""
    asked = read_query(request, ArchiveQuery)
    publication = await _publication(request)
    await require_right(request, (line.voice_version for line in publication.lines if line.rendition), "publish")
    delivery = await _office(request).publisher.delivery(publication)
    folder = services_of(request).settings.state_dir / "incoming"
    services = services_of(request)
    is_signed = services.settings.marks.provenance if asked.provenance is None else asked.provenance
    provenance = Provenance(services.marks.sign_now if is_signed else None)
    path = await asyncio.to_thread(archive_of, delivery, asked.format, folder, provenance)
    name = f'attachment; filename="{publication.script}-{publication.number}-{asked.format}.zip"'
    try:
        return await send_parts(request, path, {"Content-Type": "application/zip", "Content-Disposition": name})
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


async def get_line(request: web.Request) -> web.StreamResponse:
    """`GET …/publications/{publication}/lines/{line}/audio`: one line as FLAC."""
    publication, wanted = await _publication(request), request.match_info["line"]
    line = next((one for one in publication.lines if one.name == wanted), None)
    if line is None:
        raise NotFound("line_not_found", script=publication.script, line=wanted[:80])
    await require_right(request, (line.voice_version,), "publish")
    renditions = services_of(request).renditions
    rendition = await renditions.get_present(publication.tenant, line.rendition)
    facts = {"rendition": line.rendition, "voice": line.voice_version}
    headers = {"X-Rendition": line.rendition, "X-Voice-Version": line.voice_version, "Content-Type": "audio/flac"}
    return await answer_filed(request, await renditions.path(rendition), facts, headers)


def show(publication: Publication, language: str) -> JsonDict:
    """A publication as JSON, its error also in words."""
    row = publication.as_json()
    if publication.error is not None:
        row["error"] = {**publication.error, **describe_reason(publication.error, language)}
    return row


def _started(request: web.Request, made: Publication) -> web.Response:
    location = {"Location": f"/v1/scripts/{made.script}/publications/{made.number}"}
    return answer_json(show(made, language_of(request)), status=202, headers=location)


async def _publication(request: web.Request) -> Publication:
    number = _number(request, "publication", "publication_not_found")
    return await _office(request).publications.get(*_which(request), number)


def _number(request: web.Request, name: str, code: str) -> int:
    text = request.match_info[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound(code, script=request.match_info["script"][:80], **{name: text[:20]})
    return int(text)


_ALL, _ONE = "/v1/scripts", "/v1/scripts/{script}"
_PUBLICATION = f"{_ONE}/publications/{{publication}}"
_REVISION = Answer(200, "the revision", RevisionTold)
_BEGUN = (Answer(202, "the publication, begun", PublicationTold),)
_SCRIPTS, _PUBLISHING = "scripts", "publishing"
ROUTES = (
    Route("GET", _ALL, list_scripts, "List scripts", _SCRIPTS, (Answer(200, "by id", ScriptsTold),), PageQuery),
    Route("GET", _ONE, get_script, "One script", _SCRIPTS, (Answer(200, "the script", ScriptTold),)),
    Route("PUT", _ONE, save_script, "Save a script", _SCRIPTS, (_REVISION,), body=Body(ScriptAsked)),
    Route("DELETE", _ONE, delete_script, "Take a script from the list", _SCRIPTS, (Answer(204, "gone"),)),
    Route(
        "GET",
        f"{_ONE}/revisions",
        list_revisions,
        "List revisions",
        _SCRIPTS,
        (Answer(200, "newest first", RevisionsTold),),
        PageQuery,
    ),
    Route("GET", f"{_ONE}/revisions/{{revision}}", get_revision, "One revision", _SCRIPTS, (_REVISION,)),
    Route(
        "GET",
        f"{_ONE}/difference",
        compare_revisions,
        "What changed between two revisions",
        _SCRIPTS,
        (Answer(200, "lines added, removed and changed", DifferenceTold),),
        DifferenceQuery,
    ),
    Route(
        "GET",
        f"{_ONE}/export",
        export_script,
        "A script as CSV, JSON, SRT or WebVTT",
        _SCRIPTS,
        (Answer(200, "the file", content_type="text/plain"),),
        ExportQuery,
    ),
    Route(
        "POST",
        f"{_ONE}/import",
        import_revision,
        "The next revision from a file",
        _SCRIPTS,
        (_REVISION,),
        ImportQuery,
        Body(content_types=FILE_TYPES),
    ),
    Route(
        "GET",
        f"{_ONE}/plan",
        plan,
        "What publishing would do",
        _PUBLISHING,
        (Answer(200, "lines to render, and lines that are refused", PlanTold),),
        PlanQuery,
    ),
    Route(
        "POST",
        f"{_ONE}/publish",
        publish,
        "Publish a script",
        _PUBLISHING,
        _BEGUN,
        body=Body(PublishAsked, is_required=False),
    ),
    Route(
        "POST",
        f"{_ONE}/rollback",
        roll_back,
        "Carry an older publication again",
        _PUBLISHING,
        _BEGUN,
        body=Body(CarryAsked, is_required=False),
    ),
    Route(
        "GET",
        f"{_ONE}/publications",
        list_publications,
        "List publications",
        _PUBLISHING,
        (Answer(200, "newest first", PublicationsTold),),
        PageQuery,
    ),
    Route("GET", _PUBLICATION, get_publication, "One publication", _PUBLISHING, (Answer(200, "it", PublicationTold),)),
    Route(
        "GET",
        f"{_PUBLICATION}/events",
        watch_publication,
        "Watch a publication",
        _PUBLISHING,
        (Answer(200, "server-sent events `publication`", content_type="text/event-stream"),),
    ),
    Route(
        "GET",
        f"{_PUBLICATION}/archive",
        get_archive,
        "All lines of a publication as a ZIP file",
        _PUBLISHING,
        (Answer(200, "the archive", content_type="application/zip"),),
        ArchiveQuery,
    ),
    Route(
        "GET",
        f"{_PUBLICATION}/lines/{{line}}/audio",
        get_line,
        "One published line",
        _PUBLISHING,
        (Answer(200, "FLAC", content_type=ANY_AUDIO),),
    ),
)
