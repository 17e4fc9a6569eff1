"""`/v1/tenants`: made by the owner of the box; everybody else sees only their own."""

from __future__ import annotations

from aiohttp import web

from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page, as_json
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
    return answer_page([tenant for tenant in known if _is_visible(request, tenant.id)], None)


async def add_tenant(request: web.Request) -> web.Response:
    """`POST /v1/tenants`: the starter voices speak for it at once."""
    asked, services = await read_record(request, TenantAsked), services_of(request)
    tenant = await services.security.tenants.add(asked.id, asked.title, Quota(**asked.quota.model_dump()))
    await seed_starters(services.registry, services.plugins, tenant.id)
    return answer_json(as_json(tenant), status=201, headers={"Location": f"/v1/tenants/{tenant.id}"})


async def get_tenant(request: web.Request) -> web.Response:
    """`GET /v1/tenants/{tenant}`."""
    return answer_json(as_json(_found(request)))


async def change_tenant(request: web.Request) -> web.Response:
    """`PATCH /v1/tenants/{tenant}`."""
    asked, tenant = await read_record(request, TenantChange), _found(request)
    quota = Quota(**asked.quota.model_dump()) if asked.quota else None
    tenants = services_of(request).security.tenants
    return answer_json(as_json(await tenants.change(tenant.id, quota=quota, is_disabled=asked.is_disabled)))


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
