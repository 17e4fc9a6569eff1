"""`/v1/jobs`: long work, watched live."""

from __future__ import annotations

from aiohttp import web

from appliance.contracts import JsonDict
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import read_query, read_record
from appliance.doors.http.job_schemas import CurvesTold, JobAsked, JobsTold, JobTold, SamplesTold
from appliance.doors.http.live import stream_events
from appliance.doors.http.marks import answer_marked, require_right
from appliance.doors.http.middleware import language_of
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import services_of
from appliance.jobs.records import CloneRequest, Job
from appliance.messages import text


async def submit_job(request: web.Request) -> web.Response:
    """`POST /v1/jobs`."""
    asked, services = await read_record(request, JobAsked), services_of(request)
    job = await services.jobs.submit_clone(
        principal_of(request).tenant,
        CloneRequest(
            voice=asked.voice,
            recording_ids=tuple(asked.recordings),
            language=asked.language,
            steps=asked.steps,
            title=asked.title,
            engine=asked.engine,
            seed=asked.seed,
            base=tuple(asked.base),
            rank=asked.rank,
        ),
    )
    return answer_json(show(job, language_of(request)), status=202, headers={"Location": f"/v1/jobs/{job.id}"})


async def list_jobs(request: web.Request) -> web.Response:
    """`GET /v1/jobs`."""
    asked, language = read_query(request, PageQuery), language_of(request)
    page = await services_of(request).jobs.list(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next, lambda job: show(job, language))


async def get_job(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{job}`."""
    return answer_json(show(await _find(request), language_of(request)))


async def cancel_job(request: web.Request) -> web.Response:
    """`DELETE /v1/jobs/{job}` and `POST …/cancel`: the work ends, the row stays."""
    job = await services_of(request).jobs.cancel(principal_of(request).tenant, request.match_info["job"])
    return answer_json(show(job, language_of(request)), status=202)


async def pause_job(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{job}/pause`: it rests, with its checkpoint, until it is resumed."""
    job = await services_of(request).jobs.pause(principal_of(request).tenant, request.match_info["job"])
    return answer_json(show(job, language_of(request)), status=202)


async def resume_job(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{job}/resume`."""
    job = await services_of(request).jobs.resume(principal_of(request).tenant, request.match_info["job"])
    return answer_json(show(job, language_of(request)), status=202)


async def job_curves(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{job}/curves`: what the trainer measured, step by step."""
    rows = await services_of(request).jobs.curves(principal_of(request).tenant, request.match_info["job"])
    return answer_json({"items": list(rows), "next": None})


async def job_samples(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{job}/samples`: what the voice sounded like as it learnt."""
    rows = await services_of(request).jobs.samples(principal_of(request).tenant, request.match_info["job"])
    return answer_page(rows, None)


async def job_sample(request: web.Request) -> web.Response:
    """`GET /v1/jobs/{job}/samples/{sample}`: one of them."""
    jobs, match = services_of(request).jobs, request.match_info
    voice = (await _find(request)).spec.get("voice", "")
    await require_right(request, (voice,) if voice else (), "clone")
    path = await jobs.sample(principal_of(request).tenant, match["job"], match["sample"])
    return await answer_marked(request, path)


async def watch_job(request: web.Request) -> web.StreamResponse:
    """`GET /v1/jobs/{job}/events`: the job's row again and again, as server-sent events, until it has ended."""
    job = await _find(request)
    language = language_of(request)
    rows = services_of(request).jobs.events(principal_of(request).tenant, job.id)
    return await stream_events(request, rows, lambda row: ("job", show(row, language)))


def show(job: Job, language: str) -> JsonDict:
    """A job as JSON, its stage and its error also in words."""
    return {**job.as_json(language), "stage_name": text(f"stage.{job.stage}", language) if job.stage else ""}


async def _find(request: web.Request) -> Job:
    return await services_of(request).jobs.get(principal_of(request).tenant, request.match_info["job"])


ROUTES = (
    Route("GET", "/v1/jobs", list_jobs, "List jobs", "jobs", (Answer(200, "jobs, newest first", JobsTold),), PageQuery),
    Route(
        "POST",
        "/v1/jobs",
        submit_job,
        "Clone a voice from recordings",
        "jobs",
        (Answer(202, "the job, queued", JobTold),),
        body=Body(JobAsked),
    ),
    Route("GET", "/v1/jobs/{job}", get_job, "One job", "jobs", (Answer(200, "the job", JobTold),)),
    Route("DELETE", "/v1/jobs/{job}", cancel_job, "Cancel a job", "jobs", (Answer(202, "the job", JobTold),)),
    Route("POST", "/v1/jobs/{job}/cancel", cancel_job, "Cancel a job", "jobs", (Answer(202, "the job", JobTold),)),
    Route("POST", "/v1/jobs/{job}/pause", pause_job, "Let a job rest", "jobs", (Answer(202, "the job", JobTold),)),
    Route("POST", "/v1/jobs/{job}/resume", resume_job, "Go on with it", "jobs", (Answer(202, "the job", JobTold),)),
    Route(
        "GET", "/v1/jobs/{job}/curves", job_curves, "Curves of a job", "jobs", (Answer(200, "by stage", CurvesTold),)
    ),
    Route(
        "GET",
        "/v1/jobs/{job}/samples",
        job_samples,
        "Samples of a voice in training",
        "jobs",
        (Answer(200, "oldest first", SamplesTold),),
    ),
    Route(
        "GET",
        "/v1/jobs/{job}/samples/{sample}",
        job_sample,
        "One sample",
        "jobs",
        (Answer(200, "the sound", content_type="audio/wav"),),
    ),
    Route(
        "GET",
        "/v1/jobs/{job}/events",
        watch_job,
        "Watch a job",
        "jobs",
        (Answer(200, "server-sent events named `job`, each a job", content_type="text/event-stream"),),
    ),
)
