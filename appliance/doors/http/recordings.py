"""`/v1/recordings`: clips come in, are checked before they are kept, labelled, listened to, deleted.

A recording that does not pass is answered 422 with every reason and is not kept, unless the client asks for that
(`keep=true`); then it is filed with `accepted: false` and can be heard, but never trained on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from appliance.contracts import QualityReport, Reason
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import read_query, read_record
from appliance.doors.http.collecting_schemas import LongQuery
from appliance.doors.http.job_schemas import JobTold
from appliance.doors.http.middleware import language_of
from appliance.doors.http.problems import describe_reason
from appliance.doors.http.recording_schemas import (
    RecordingQuery,
    RecordingsTold,
    RecordingTold,
    TranscriptAsked,
    VerdictTold,
)
from appliance.doors.http.routes import ANY_AUDIO, Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import Services, services_of
from appliance.doors.http.uploads import Upload, receive_upload
from appliance.errors import InvalidInput, Unavailable
from appliance.jobs.records import SliceRequest
from appliance.messages import text
from appliance.voices.records import NewRecording, Recording

UPLOADS = ("multipart/form-data", "audio/*", "application/octet-stream")
SOUND_TYPES = {  # by the first bytes: what a user called the file decides nothing
    b"RIFF": "audio/wav",
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
    b"ID3": "audio/mpeg",
    b"\xff\xfb": "audio/mpeg",
    b"\xff\xf3": "audio/mpeg",
    b"\x1aE\xdf\xa3": "audio/webm",
}


async def add_recording(request: web.Request) -> web.Response:
    """`POST /v1/recordings`: multipart with a part `file`, or the bare bytes."""
    services, tenant = services_of(request), principal_of(request).tenant
    async with receive_upload(request, RecordingQuery) as upload:
        report = await _check(services, upload)
        if not report.accepted and not upload.asked.keep:
            raise _refusal(report)
        label = await _label(services, upload) if report.accepted else Label(upload.asked.transcript)
        recording = await services.gate.admit(tenant, _new_recording(upload, report, label))
    if not report.accepted:
        raise _refusal(report, recording=recording.id)
    location = {"Location": f"/v1/recordings/{recording.id}"}
    return answer_json(show(recording, language_of(request)), status=201, headers=location)


async def _check(services: Services, upload: Upload[RecordingQuery]) -> QualityReport:
    """The verdict; words that were given are held against what is heard, and may be right all the same."""
    words = upload.asked.transcript.strip()
    if not words or not upload.asked.label:
        return await services.pool.check(upload.path)
    report, _ = await services.pool.judge(upload.path, words, upload.asked.language, ())
    reasons = tuple(reason for reason in report.reasons if reason.code != "wrong_words")
    doubts = [Reason("transcript_doubtful", one.measured) for one in report.reasons if one.code == "wrong_words"]
    return replace(report, accepted=not reasons, reasons=reasons, warnings=(*report.warnings, *doubts))


async def add_long(request: web.Request) -> web.Response:
    """`POST /v1/recordings/long`: hours of speech, to be cut into clips; 202 and a job."""
    services, tenant = services_of(request), principal_of(request).tenant
    async with receive_upload(request, LongQuery, limit_mb=services.settings.intake.max_long_mb) as upload:
        asked = upload.asked
        order = SliceRequest(upload.path, asked.filename or "long", asked.speaker, asked.language)
        job = await services.jobs.submit_slice(tenant, order)
    told = {**job.as_json(language_of(request)), "stage_name": text(f"stage.{job.stage}", language_of(request))}
    return answer_json(told, status=202, headers={"Location": f"/v1/jobs/{job.id}"})


async def check_upload(request: web.Request) -> web.Response:
    """`POST /v1/recordings/check`: the verdict only, nothing is kept."""
    language = language_of(request)
    async with receive_upload(request, RecordingQuery) as upload:
        report = await services_of(request).pool.check(upload.path)
    return answer_json(
        {
            "accepted": report.accepted,
            "reasons": [describe_reason(reason, language) for reason in report.reasons],
            "warnings": [describe_reason(reason, language) for reason in report.warnings],
            "measures": report.measures,
        }
    )


@dataclass(frozen=True)
class Label:
    """What is said in a recording, and who says so."""

    transcript: str = ""
    language: str = ""
    source: str = ""


async def _label(services: Services, upload: Upload[RecordingQuery]) -> Label:
    asked = upload.asked
    if asked.transcript.strip():
        return Label(asked.transcript.strip(), asked.language, "given")
    if not asked.label:
        return Label(language=asked.language)
    try:
        heard = await services.pool.transcribe(upload.path, asked.language or None)
    except Unavailable:  # a box without a recogniser still takes recordings; somebody writes the words by hand
        return Label(language=asked.language)
    return Label(heard.text, heard.language, "asr")


def _new_recording(upload: Upload[RecordingQuery], report: QualityReport, label: Label) -> NewRecording:
    return NewRecording(
        source=upload.path,
        filename=upload.asked.filename,
        duration_s=float(report.measures.get("duration_s") or 0.0),
        sample_rate=int(report.measures.get("sample_rate") or 0),
        report=report,
        transcript=label.transcript,
        language=label.language,
        transcript_source=label.source,
        speaker=upload.asked.speaker,
    )


def _refusal(report: QualityReport, **more: Any) -> InvalidInput:
    return InvalidInput(
        "recording_refused", reasons=report.reasons, warnings=report.warnings, **dict(report.measures) | more
    )


def show(recording: Recording, language: str) -> dict[str, Any]:
    """A recording as JSON, with the verdict in words."""
    document = recording.as_json()
    report = dict(document["report"])
    for name in ("reasons", "warnings"):
        report[name] = [describe_reason(reason, language) for reason in report.get(name, [])]
    return {**document, "report": report}


async def list_recordings(request: web.Request) -> web.Response:
    """`GET /v1/recordings`."""
    asked, language = read_query(request, PageQuery), language_of(request)
    page = await services_of(request).recordings.list(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next, lambda recording: show(recording, language))


async def get_recording(request: web.Request) -> web.Response:
    """`GET /v1/recordings/{recording}`."""
    return answer_json(show(await _find(request), language_of(request)))


async def get_sound(request: web.Request) -> web.StreamResponse:
    """`GET /v1/recordings/{recording}/audio`: the bytes as they came."""
    recording = await _find(request)
    path = await services_of(request).recordings.path(recording)
    kind = await asyncio.to_thread(_sound_type, path)
    return web.FileResponse(path, headers={"Content-Type": kind, "Content-Disposition": "inline"})


async def set_transcript(request: web.Request) -> web.Response:
    """`PATCH /v1/recordings/{recording}`: a person corrects what was said."""
    asked = await read_record(request, TranscriptAsked)
    recordings, tenant = services_of(request).recordings, principal_of(request).tenant
    recording = await _find(request)
    language = recording.language if asked.language == "auto" else asked.language
    changed = await recordings.set_transcript(tenant, recording.id, asked.transcript, language)
    return answer_json(show(changed, language_of(request)))


async def delete_recording(request: web.Request) -> web.Response:
    """`DELETE /v1/recordings/{recording}`."""
    await services_of(request).recordings.delete(principal_of(request).tenant, request.match_info["recording"])
    return web.Response(status=204)


async def _find(request: web.Request) -> Recording:
    recordings, tenant = services_of(request).recordings, principal_of(request).tenant
    return await recordings.get(tenant, request.match_info["recording"])


def _sound_type(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    return next((kind for magic, kind in SOUND_TYPES.items() if start.startswith(magic)), "application/octet-stream")


_ONE = "/v1/recordings/{recording}"
ROUTES = (
    Route(
        "GET",
        "/v1/recordings",
        list_recordings,
        "List recordings",
        "recordings",
        (Answer(200, "recordings, newest first", RecordingsTold),),
        query=PageQuery,
    ),
    Route(
        "POST",
        "/v1/recordings",
        add_recording,
        "Check a recording, label it and keep it",
        "recordings",
        (Answer(201, "kept, with its verdict", RecordingTold),),
        query=RecordingQuery,
        body=Body(content_types=UPLOADS),
    ),
    Route(
        "POST",
        "/v1/recordings/check",
        check_upload,
        "Check a recording, keep nothing",
        "recordings",
        (Answer(200, "the verdict", VerdictTold),),
        query=RecordingQuery,
        body=Body(content_types=UPLOADS),
    ),
    Route(
        "POST",
        "/v1/recordings/long",
        add_long,
        "Cut a long recording into clips",
        "recordings",
        (Answer(202, "the job that cuts, checks and labels", JobTold),),
        query=LongQuery,
        body=Body(content_types=UPLOADS),
    ),
    Route("GET", _ONE, get_recording, "One recording", "recordings", (Answer(200, "the recording", RecordingTold),)),
    Route(
        "GET",
        f"{_ONE}/audio",
        get_sound,
        "Hear a recording",
        "recordings",
        (Answer(200, "the sound as it came", content_type=ANY_AUDIO),),
    ),
    Route(
        "PATCH",
        _ONE,
        set_transcript,
        "Correct a transcript",
        "recordings",
        (Answer(200, "the recording", RecordingTold),),
        body=Body(TranscriptAsked),
    ),
    Route("DELETE", _ONE, delete_recording, "Delete a recording", "recordings", (Answer(204, "gone"),)),
)
