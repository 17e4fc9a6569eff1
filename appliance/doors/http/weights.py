"""`/v1/weights`: models that an operator brought. Files come as an upload, never as a path on the box."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import check_record, read_query, read_record
from appliance.doors.http.job_schemas import JobTold, OptimizeAsked
from appliance.doors.http.jobs import show as show_job
from appliance.doors.http.middleware import language_of
from appliance.doors.http.problems import describe_reason
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import services_of
from appliance.doors.http.uploads import receive_folder
from appliance.doors.http.voice_schemas import WeightsQuery, WeightsTold, WeightTold
from appliance.errors import UnsupportedMedia
from appliance.jobs.importing import paths_of_upload
from appliance.jobs.records import ImportRequest, OptimizeRequest
from appliance.voices.models import Model

MULTIPART = "multipart/form-data"


async def import_weights(request: web.Request) -> web.Response:
    """`POST /v1/weights`: the files, each as a part; a job reads and converts them in a process of its own."""
    services, tenant = services_of(request), principal_of(request).tenant
    if request.content_type != MULTIPART:
        raise UnsupportedMedia("content_type_unsupported", received=request.content_type, accepted=[MULTIPART])
    limits = services.settings.models
    async with receive_folder(request, limits.max_upload_mb * 1_000_000, limits.upload_timeout_s) as upload:
        asked = check_record(WeightsQuery, {**dict(request.query), **upload.fields})
        order = ImportRequest(tuple(paths_of_upload(upload.path)), asked.licence, upload=upload.path)
        job = await services.jobs.submit_import(tenant, order)
    return answer_json(show_job(job, language_of(request)), status=202, headers={"Location": f"/v1/jobs/{job.id}"})


async def list_weights(request: web.Request) -> web.Response:
    """`GET /v1/weights`."""
    asked, language = read_query(request, PageQuery), language_of(request)
    page = await services_of(request).models.list(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next, lambda model: show(model, language))


async def get_weights(request: web.Request) -> web.Response:
    """`GET /v1/weights/{model}`."""
    model = await services_of(request).models.get(principal_of(request).tenant, request.match_info["model"])
    return answer_json(show(model, language_of(request)))


async def verify_weights(request: web.Request) -> web.Response:
    """`POST /v1/weights/{model}/verify`: every byte is read again."""
    model = await services_of(request).models.verify(principal_of(request).tenant, request.match_info["model"])
    return answer_json({**show(model, language_of(request)), "intact": True})


async def optimize_weights(request: web.Request) -> web.Response:
    """`POST /v1/weights/{model}/optimize`: a job prepares them for the backends of this box."""
    return await _optimize(request, models=(request.match_info["model"],))


async def optimize_voice(request: web.Request) -> web.Response:
    """`POST /v1/voices/{voice}/optimize`: what this voice, or one version of it, speaks with."""
    return await _optimize(request, voice=request.match_info["voice"])


async def _optimize(request: web.Request, *, models: tuple[str, ...] = (), voice: str = "") -> web.Response:
    asked = await read_record(request, OptimizeAsked)
    order = OptimizeRequest(models, voice, tuple(asked.backends))
    job = await services_of(request).jobs.submit_optimize(principal_of(request).tenant, order)
    return answer_json(show_job(job, language_of(request)), status=202, headers={"Location": f"/v1/jobs/{job.id}"})


async def remove_weights(request: web.Request) -> web.Response:
    """`DELETE /v1/weights/{model}`."""
    await services_of(request).models.remove(principal_of(request).tenant, request.match_info["model"])
    return web.Response(status=204)


def show(model: Model, language: str) -> dict[str, Any]:
    """A model as JSON, the notes of its report in words."""
    document = model.as_json()
    warnings = [describe_reason(one, language) for one in model.report.get("warnings", [])]
    return {**document, "report": {**model.report, "warnings": warnings}}


_ONE = "/v1/weights/{model}"
ROUTES = (
    Route(
        "GET",
        "/v1/weights",
        list_weights,
        "List imported models",
        "weights",
        (Answer(200, "models, newest first", WeightsTold),),
        query=PageQuery,
    ),
    Route(
        "POST",
        "/v1/weights",
        import_weights,
        "Import weights",
        "weights",
        (Answer(202, "the job that imports them", JobTold),),
        query=WeightsQuery,
        body=Body(content_types=(MULTIPART,)),
    ),
    Route("GET", _ONE, get_weights, "One imported model", "weights", (Answer(200, "the model", WeightTold),)),
    Route(
        "POST",
        f"{_ONE}/verify",
        verify_weights,
        "Check a model against its digests",
        "weights",
        (Answer(200, "intact", WeightTold),),
    ),
    Route(
        "POST",
        f"{_ONE}/optimize",
        optimize_weights,
        "Prepare a model for the backends of this box",
        "weights",
        (Answer(202, "the job", JobTold),),
        body=Body(OptimizeAsked),
    ),
    Route(
        "POST",
        "/v1/voices/{voice}/optimize",
        optimize_voice,
        "Prepare a voice for the backends of this box",
        "weights",
        (Answer(202, "the job", JobTold),),
        body=Body(OptimizeAsked),
    ),
    Route("DELETE", _ONE, remove_weights, "Remove a model that no voice needs", "weights", (Answer(204, "gone"),)),
)
