"""`/v1/datasets`: the clips a voice was made from, for ever, with what they amount to and a picture."""

from __future__ import annotations

from aiohttp import web

from appliance.collecting.charts import dataset_svg
from appliance.collecting.surveys import Surveyor
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page, as_json
from appliance.doors.http.bodies import read_query, read_record
from appliance.doors.http.collecting_schemas import DatasetAsked, DatasetsTold, DatasetTold
from appliance.doors.http.middleware import language_of
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import services_of
from appliance.jobs.dataset import plan_dataset
from appliance.voices.datasets import DatasetStore
from appliance.voices.records import Dataset


async def list_datasets(request: web.Request) -> web.Response:
    """`GET /v1/datasets`."""
    asked = read_query(request, PageQuery)
    page = await _store(request).list(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next)


async def add_dataset(request: web.Request) -> web.Response:
    """`POST /v1/datasets`: what a clone of these recordings would be made from; the same clips are the same dataset."""
    asked = await read_record(request, DatasetAsked)
    services, tenant = services_of(request), principal_of(request).tenant
    limits = services.settings.clone
    recordings = await services.recordings.get_many(tenant, tuple(dict.fromkeys(asked.recordings)))
    plan = plan_dataset(recordings, limits.min_speech_s, denoise=limits.denoise)
    dataset = await _store(request).add(tenant, plan.clips, plan.stats)
    return answer_json(as_json(dataset), status=201, headers={"Location": f"/v1/datasets/{dataset.id}"})


async def get_dataset(request: web.Request) -> web.Response:
    """`GET /v1/datasets/{dataset}`."""
    dataset = await _find(request)
    survey = await _surveyor(request).survey(principal_of(request).tenant, dataset)
    return answer_json({**as_json(dataset), "survey": survey, "picture": f"/v1/datasets/{dataset.id}/picture"})


async def get_picture(request: web.Request) -> web.Response:
    """`GET /v1/datasets/{dataset}/picture`."""
    survey = await _surveyor(request).survey(principal_of(request).tenant, await _find(request))
    return web.Response(text=dataset_svg(survey, language_of(request)), content_type="image/svg+xml")


def _store(request: web.Request) -> DatasetStore:
    services = services_of(request)
    return DatasetStore(services.db, services.recordings.blobs.vault)


def _surveyor(request: web.Request) -> Surveyor:
    services = services_of(request)
    return Surveyor(_store(request), services.recordings, services.pool)


async def _find(request: web.Request) -> Dataset:
    return await _store(request).get(principal_of(request).tenant, request.match_info["dataset"])


_ONE = "/v1/datasets/{dataset}"
ROUTES = (
    Route(
        "GET",
        "/v1/datasets",
        list_datasets,
        "List datasets",
        "recordings",
        (Answer(200, "datasets, newest first", DatasetsTold),),
        query=PageQuery,
    ),
    Route(
        "POST",
        "/v1/datasets",
        add_dataset,
        "Put recordings together",
        "recordings",
        (Answer(201, "the dataset", DatasetTold),),
        body=Body(DatasetAsked),
    ),
    Route(
        "GET", _ONE, get_dataset, "One dataset and its survey", "recordings", (Answer(200, "the dataset", DatasetTold),)
    ),
    Route(
        "GET",
        f"{_ONE}/picture",
        get_picture,
        "Picture of a dataset",
        "recordings",
        (Answer(200, "bars of lengths and noise, and every sound", content_type="image/svg+xml"),),
    ),
)
