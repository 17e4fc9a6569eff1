"""`/v1/schedules`: what is said again and again, and what became of it."""

from __future__ import annotations

from aiohttp import web

from appliance.announcer.rules import Rule
from appliance.announcer.schedules import NewSchedule, Run
from appliance.contracts import JsonDict
from appliance.doors.http.access import principal_of
from appliance.doors.http.announce import read_message
from appliance.doors.http.announce_schemas import (
    RunsTold,
    ScheduleAsked,
    ScheduleChangeAsked,
    SchedulesTold,
    ScheduleTold,
)
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import read_query, read_record
from appliance.doors.http.middleware import language_of
from appliance.doors.http.problems import describe_reason
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import services_of


async def add_schedule(request: web.Request) -> web.Response:
    """`POST /v1/schedules`."""
    asked, services = await read_record(request, ScheduleAsked), services_of(request)
    tenant = principal_of(request).tenant
    rule = Rule(
        cron=asked.cron,
        times=tuple(asked.times),
        weekdays=tuple(asked.weekdays),
        dates=tuple(asked.dates),
        first_day=asked.first_day,
        last_day=asked.last_day,
        except_days=tuple(asked.except_days),
    )
    message = await read_message(services, tenant, asked.message)
    new = NewSchedule(asked.name, rule, message, asked.time_zone, asked.if_missed, asked.grace_s)
    schedule = await services.schedules.add(tenant, new)
    location = {"Location": f"/v1/schedules/{schedule.id}"}
    return answer_json(services.schedules.as_json(schedule), status=201, headers=location)


async def list_schedules(request: web.Request) -> web.Response:
    """`GET /v1/schedules`."""
    asked, schedules = read_query(request, PageQuery), services_of(request).schedules
    page = await schedules.page(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next, schedules.as_json)


async def get_schedule(request: web.Request) -> web.Response:
    """`GET /v1/schedules/{schedule}`."""
    schedules = services_of(request).schedules
    schedule = await schedules.get(principal_of(request).tenant, request.match_info["schedule"])
    return answer_json(schedules.as_json(schedule))


async def change_schedule(request: web.Request) -> web.Response:
    """`PATCH /v1/schedules/{schedule}`: on or off."""
    asked, schedules = await read_record(request, ScheduleChangeAsked), services_of(request).schedules
    tenant, schedule_id = principal_of(request).tenant, request.match_info["schedule"]
    schedule = await schedules.enable(tenant, schedule_id, is_enabled=asked.is_enabled)
    return answer_json(schedules.as_json(schedule))


async def remove_schedule(request: web.Request) -> web.Response:
    """`DELETE /v1/schedules/{schedule}`."""
    await services_of(request).schedules.remove(principal_of(request).tenant, request.match_info["schedule"])
    return web.Response(status=204)


async def list_runs(request: web.Request) -> web.Response:
    """`GET /v1/schedules/{schedule}/runs`: what became of its occurrences."""
    asked, language = read_query(request, PageQuery), language_of(request)
    tenant, schedule_id = principal_of(request).tenant, request.match_info["schedule"]
    page = await services_of(request).schedules.runs(tenant, schedule_id, asked.cursor, asked.limit)

    def show(run: Run) -> JsonDict:
        reason = describe_reason({"code": run.reason, "measured": {}}, language) if run.reason else None
        return {**run.as_json(), "explanation": reason}

    return answer_page(page.items, page.next, show)


_ALL, _ONE, _RUNS = "/v1/schedules", "/v1/schedules/{schedule}", "/v1/schedules/{schedule}/runs"
_TAG = "schedules"
_TOLD = (Answer(200, "the schedule", ScheduleTold),)
_ADDED = (Answer(201, "the schedule", ScheduleTold),)
ROUTES = (
    Route("GET", _ALL, list_schedules, "List schedules", _TAG, (Answer(200, "all", SchedulesTold),), query=PageQuery),
    Route("POST", _ALL, add_schedule, "Schedule a message", _TAG, _ADDED, body=Body(ScheduleAsked)),
    Route("GET", _ONE, get_schedule, "One schedule", _TAG, _TOLD),
    Route("PATCH", _ONE, change_schedule, "Switch a schedule on or off", _TAG, _TOLD, body=Body(ScheduleChangeAsked)),
    Route("DELETE", _ONE, remove_schedule, "Remove a schedule", _TAG, (Answer(204, "removed"),)),
    Route("GET", _RUNS, list_runs, "What became of it", _TAG, (Answer(200, "the latest first", RunsTold),), PageQuery),
)
