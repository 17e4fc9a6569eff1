"""Tenants of the box and what each may use."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Conflict, NotFound
from appliance.events import Event
from appliance.policies import ConsentPolicy
from appliance.security.audit import append_entry

_NOTHING_MORE = ConsentPolicy()


@dataclass(frozen=True)
class Quota:
    """What a tenant may use; None: as much as the box gives."""

    characters_per_day: int | None = None  # of text spoken, by UTC day
    jobs: int | None = None  # queued and running
    storage_mb: int | None = None  # recordings, voices, weights and renditions, each file once
    concurrent: int | None = None  # requests under way


@dataclass(frozen=True)
class Tenant:
    """An organisation or department on the box."""

    id: str
    title: str
    quota: Quota
    created_at: str
    disabled_at: str | None = None
    policy: ConsentPolicy = field(default_factory=ConsentPolicy)  # on top of what the box demands

    def as_json(self) -> JsonDict:
        return asdict(self)


class TenantStore:
    """All tenants, in memory and in the database. Only this process writes them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, Tenant] = {}

    async def load(self, default: str) -> None:
        """Read all; the box's own tenant `default` is made when it is not there yet."""

        def read(db: sqlite3.Connection) -> list[Tenant]:
            row = {"id": default, "title": default, "quota": "{}", "created_at": utc_now()}
            insert_row(db, "tenants", row, or_ignore=True)
            return [_tenant(row) for row in db.execute("SELECT * FROM tenants ORDER BY id")]

        self._known = {tenant.id: tenant for tenant in await self._db.write(read)}

    def all(self) -> Iterable[Tenant]:
        return tuple(self._known.values())

    def get(self, tenant_id: str) -> Tenant:
        """Raises NotFound("tenant_not_found")."""
        if tenant_id not in self._known:
            raise NotFound("tenant_not_found", tenant=tenant_id[:80])
        return self._known[tenant_id]

    def is_active(self, tenant_id: str) -> bool:
        return tenant_id in self._known and self._known[tenant_id].disabled_at is None

    async def add(self, tenant_id: str, title: str, quota: Quota, policy: ConsentPolicy = _NOTHING_MORE) -> Tenant:
        """Raises Conflict("tenant_exists")."""
        if tenant_id in self._known:
            raise Conflict("tenant_exists", tenant=tenant_id)
        tenant = Tenant(tenant_id, title or tenant_id, quota, utc_now(), policy=policy)
        event = Event("", "tenant.add", subject=tenant_id, details=policy.described())

        def insert(db: sqlite3.Connection) -> None:
            row = {**asdict(tenant), "quota": json.dumps(asdict(quota)), "policy": json.dumps(policy.as_json())}
            insert_row(db, "tenants", row)
            append_entry(db, event)

        await self._db.write(insert, durable=True)
        self._known[tenant_id] = tenant
        return tenant

    async def change(
        self,
        tenant_id: str,
        *,
        quota: Quota | None = None,
        policy: ConsentPolicy | None = None,
        is_disabled: bool | None = None,
    ) -> Tenant:
        """Another quota or policy, or shut out and let in again; what belongs to the tenant stays. Raises NotFound."""
        tenant = self.get(tenant_id)
        changed = replace(tenant, quota=quota or tenant.quota, policy=policy or tenant.policy)
        if is_disabled is not None:
            changed = replace(changed, disabled_at=(tenant.disabled_at or utc_now()) if is_disabled else None)
        details = {"disabled": changed.disabled_at, **changed.policy.described()}
        event = Event("", "tenant.change", subject=tenant_id, details=details)

        def update(db: sqlite3.Connection) -> None:
            quota, policy = json.dumps(asdict(changed.quota)), json.dumps(changed.policy.as_json())
            row = (quota, policy, changed.disabled_at, tenant_id)
            db.execute("UPDATE tenants SET quota = ?, policy = ?, disabled_at = ? WHERE id = ?", row)
            append_entry(db, event)

        await self._db.write(update, durable=True)
        self._known[tenant_id] = changed
        return changed


def _tenant(row: sqlite3.Row) -> Tenant:
    quota, policy = Quota(**json.loads(row["quota"])), ConsentPolicy.from_json(json.loads(row["policy"]))
    return Tenant(row["id"], row["title"], quota, row["created_at"], row["disabled_at"], policy)
