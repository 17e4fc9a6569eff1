"""Versions of a voice beside each other and over time: changelog, rollback, comparison, examination, lineage."""

from __future__ import annotations

import asyncio
import base64
from time import perf_counter
from typing import Any

from aiohttp import web

from appliance.audio.encoding import wav_header
from appliance.contracts import JsonDict
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page, as_json
from appliance.doors.http.bodies import read_record
from appliance.doors.http.marks import answer_marked
from appliance.doors.http.middleware import language_of
from appliance.doors.http.routes import ANY_AUDIO, Answer, Body, Route
from appliance.doors.http.services import services_of
from appliance.doors.http.speech import Delivery, encode
from appliance.doors.http.version_schemas import (
    CompareAsked,
    ComparedTold,
    ExaminationTold,
    LineageTold,
    MovesTold,
    RollbackAsked,
)
from appliance.doors.http.voice_schemas import VoiceTold
from appliance.errors import Forbidden, NotFound
from appliance.jobs.records import explain
from appliance.security.permissions import may
from appliance.synthesis import SpeechRequest
from appliance.voices.lineage import Lineage
from appliance.voices.records import VoiceVersion

EVIDENCE_TYPES = {"wav": "audio/wav", "png": "image/png"}


async def list_moves(request: web.Request) -> web.Response:
    """`GET /v1/voices/{voice}/changelog`: which version spoke from when, who moved it and why; newest first."""
    registry, tenant, voice = services_of(request).registry, principal_of(request).tenant, request.match_info["voice"]
    await registry.get_voice(tenant, voice)
    return answer_page(reversed(await registry.alias_moves(tenant, voice)), None)


async def roll_back(request: web.Request) -> web.Response:
    """`POST /v1/voices/{voice}/rollback`: the version that spoke before speaks again, at once."""
    asked = await read_record(request, RollbackAsked)
    principal, voice = principal_of(request), request.match_info["voice"]
    reason = asked.reason or "rolled back"
    moved = await services_of(request).registry.rollback(principal.tenant, voice, reason=reason, actor=principal.actor)
    return answer_json(as_json(moved))


async def compare(request: web.Request) -> web.Response:
    """`POST /v1/compare`: two versions say one text with one seed."""
    asked = await read_record(request, CompareAsked)
    first, second = [await _say(request, asked, spec) for spec in (asked.first, asked.second)]
    return answer_json({"text": asked.text, "seed": asked.seed, "first": first, "second": second})


async def _say(request: web.Request, asked: CompareAsked, spec: str) -> JsonDict:
    principal, started = principal_of(request), perf_counter()
    order = SpeechRequest(
        tenant=principal.tenant,
        voice=spec,
        text=asked.text,
        language=asked.lang,
        seed=asked.seed,
        client=principal.client,
    )
    speech = await services_of(request).synthesis.open(order)
    delivery = Delivery("wav", False, "compare", started)
    pcm = b"".join([piece async for piece in encode(request, speech, delivery, "pcm", True)])
    wav = wav_header(speech.sample_rate, len(pcm) // 2, speech.tags) + pcm
    return {
        "voice": speech.voice.spec,
        "rendition": speech.rendition,
        "duration_s": round(len(pcm) / 2 / speech.sample_rate, 3),
        "total_ms": round(1000 * (perf_counter() - started), 1),
        "exam": (speech.voice.metrics.get("exam") or {}).get("summary"),
        "audio_wav_base64": base64.b64encode(wav).decode(),
    }


async def get_examination(request: web.Request) -> web.Response:
    """`GET /v1/voices/{voice}/versions/{number}/examination`: the whole report, its reasons in words."""
    version = await find_version(request)
    language = language_of(request)
    exam = _exam_of(version)
    reasons = [explain(reason, language) for reason in exam["reasons"]]
    here = f"/v1/voices/{version.voice}/versions/{version.number}/examination"
    files = {role: f"{here}/{role.removeprefix('exam:')}" for role in version.files if role.startswith("exam:")}
    return answer_json({"id": version.spec, **exam, "reasons": reasons, "files": files, "page": _page(version)})


def _page(version: VoiceVersion) -> str:
    return f"/console/examination.html?voice={version.voice}&version={version.number}"


async def get_evidence(request: web.Request) -> web.StreamResponse:
    """`GET …/examination/{file}`: one sound (`0`, `base:0`, `real:0`) or its picture (`picture:0`, …)."""
    version, name, role = await find_version(request), request.match_info["file"], principal_of(request).role
    if "real:" in name and not may(role, "recordings.read"):  # the speaker's own sound
        raise Forbidden("role_not_allowed", role=role, operation="recordings.read")
    digest = version.files.get(f"exam:{name}")
    if digest is None:
        raise NotFound("examination_file_not_found", voice=version.spec, file=name[:80])
    path = await asyncio.to_thread(services_of(request).recordings.blobs.path, digest)
    if not name.startswith(("picture:", "real:")):
        return await answer_marked(request, path)
    kind = EVIDENCE_TYPES["png" if name.startswith("picture:") else "wav"]
    headers = {"Content-Type": kind, "Cache-Control": "private, max-age=31536000, immutable"}
    return web.FileResponse(path, headers=headers)


def _exam_of(version: VoiceVersion) -> dict[str, Any]:
    exam = version.metrics.get("exam")
    if not exam:
        raise NotFound("version_not_examined", voice=version.spec)
    return dict(exam)


async def find_version(request: web.Request) -> VoiceVersion:
    """The version that the path names. Raises NotFound."""
    voice, number = request.match_info["voice"], request.match_info["number"]
    if not number.isdecimal() or len(number) > 9:
        raise NotFound("version_not_found", voice=voice, version=number)
    return await services_of(request).registry.resolve(principal_of(request).tenant, voice, int(number))


async def get_lineage(request: web.Request) -> web.Response:
    """`GET /v1/lineage/{kind}/{id}`: one thing, what it was made from and what was made from it."""
    services, tenant = services_of(request), principal_of(request).tenant
    lineage = Lineage(services.db, services.recordings.blobs.vault)
    return answer_json(as_json(await lineage.node(tenant, request.match_info["kind"], request.match_info["id"])))


_ONE = "/v1/voices/{voice}/versions/{number}/examination"
ROUTES = (
    Route(
        "GET",
        "/v1/voices/{voice}/changelog",
        list_moves,
        "Which version spoke when, and who decided",
        "voices",
        (Answer(200, "moves of the alias, newest first", MovesTold),),
    ),
    Route(
        "POST",
        "/v1/voices/{voice}/rollback",
        roll_back,
        "Back to the version that spoke before",
        "voices",
        (Answer(200, "the voice", VoiceTold),),
        body=Body(RollbackAsked, is_required=False),
    ),
    Route(
        "POST",
        "/v1/compare",
        compare,
        "Two versions say the same",
        "voices",
        (Answer(200, "both sounds, and what their examinations measured", ComparedTold),),
        body=Body(CompareAsked),
    ),
    Route(
        "GET",
        _ONE,
        get_examination,
        "Examination of a version",
        "voices",
        (Answer(200, "the report", ExaminationTold),),
    ),
    Route(
        "GET",
        f"{_ONE}/{{file}}",
        get_evidence,
        "A sound or a picture of an examination",
        "voices",
        (Answer(200, "WAV or PNG", content_type=ANY_AUDIO),),
    ),
    Route(
        "GET",
        "/v1/lineage/{kind}/{id}",
        get_lineage,
        "Where a thing comes from and what became of it",
        "voices",
        (Answer(200, "the thing with its neighbours", LineageTold),),
    ),
)
