"""`/v1/tenants`: made by the owner of the box; everybody else sees only their own."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from appliance.contracts import JsonDict
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import read_record
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.security_schemas import TenantAsked, TenantChange, TenantsTold, TenantTold
from appliance.doors.http.services import services_of
from appliance.errors import NotFound
from appliance.security.permissions import may
from appliance.security.tenants import Quota, Tenant
from appliance.starters import seed_starters


async def list_tenants(request: web.Request) -> web.Response:
    """`GET /v1/tenants`."""
    known = services_of(request).security.tenants.all()
    visible = [tenant for tenant in known if _is_visible(request, tenant.id)]
    return answer_page(visible, None, lambda tenant: _show(request, tenant))


async def add_tenant(request: web.Request) -> web.Response:
    """`POST /v1/tenants`: the starter voices speak for it at once."""
    asked, services = await read_record(request, TenantAsked), services_of(request)
    quota, policy = Quota(**asked.quota.model_dump()), asked.policy.as_policy()
    tenant = await services.security.tenants.add(asked.id, asked.title, quota, policy)
    await seed_starters(services.registry, services.plugins, tenant.id)
    return answer_json(_show(request, tenant), status=201, headers={"Location": f"/v1/tenants/{tenant.id}"})


async def get_tenant(request: web.Request) -> web.Response:
    """`GET /v1/tenants/{tenant}`."""
    return answer_json(_show(request, _found(request)))


async def change_tenant(request: web.Request) -> web.Response:
    """`PATCH /v1/tenants/{tenant}`."""
    asked, tenant = await read_record(request, TenantChange), _found(request)
    services = services_of(request)
    quota = Quota(**asked.quota.model_dump()) if asked.quota else None
    policy = asked.policy.as_policy() if asked.policy else None
    changed = await services.security.tenants.change(
        tenant.id, quota=quota, policy=policy, is_disabled=asked.is_disabled
    )
    if policy is not None:
        services.consents.touch(tenant.id)
    return answer_json(_show(request, changed))


def _show(request: web.Request, tenant: Tenant) -> JsonDict:
    """A tenant as JSON, with what is in force: its own policy together with what the box demands."""
    settings = services_of(request).settings
    floor = replace(settings.consent.floor, by_person=settings.clone.needs_person(tenant.id))
    return {**tenant.as_json(), "in_force": floor.joined(tenant.policy).as_json()}


def _found(request: web.Request) -> Tenant:
    tenant_id = request.match_info["tenant"]
    if not _is_visible(request, tenant_id):
        raise NotFound("tenant_not_found", tenant=tenant_id[:80])
    return services_of(request).security.tenants.get(tenant_id)


def _is_visible(request: web.Request, tenant_id: str) -> bool:
    principal = principal_of(request)
    return tenant_id == principal.tenant or may(principal.role, "tenants.write")


_ALL, _ONE = "/v1/tenants", "/v1/tenants/{tenant}"

ROUTES = (
    Route("GET", _ALL, list_tenants, "List tenants", "access", (Answer(200, "tenants", TenantsTold),)),
    Route(
        "POST",
        _ALL,
        add_tenant,
        "Make a tenant",
        "access",
        (Answer(201, "the tenant", TenantTold),),
        body=Body(TenantAsked),
    ),
    Route("GET", _ONE, get_tenant, "One tenant", "access", (Answer(200, "the tenant", TenantTold),)),
    Route(
        "PATCH",
        _ONE,
        change_tenant,
        "Change a quota, shut a tenant out",
        "access",
        (Answer(200, "the tenant", TenantTold),),
        body=Body(TenantChange),
    ),
)
