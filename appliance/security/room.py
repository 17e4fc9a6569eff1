"""The security room as the daemon opens it: key, log, tenants, tokens, people and quotas."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from appliance.database import Database
from appliance.errors import VoicedError
from appliance.security.audit import AuditLog, open_audit
from appliance.security.audit_retention import keep_pruning
from appliance.security.people import PersonStore
from appliance.security.quotas import Quotas
from appliance.security.signing import DeviceKey, open_device_key
from appliance.security.tenants import TenantStore
from appliance.security.tokens import LAST_USE_S, TokenStore
from appliance.settings import Settings
from appliance.state_dir import StateDir

log = logging.getLogger("voiced.security")


@dataclass(frozen=True)
class Security:
    """The key of the box, the log, who may come in and how much each may use."""

    key: DeviceKey
    audit: AuditLog
    tenants: TenantStore
    tokens: TokenStore
    people: PersonStore
    quotas: Quotas

    @property
    def is_configured(self) -> bool:
        """Whether somebody has decided who may come in: a second tenant, a token, a person with a password."""
        return len(tuple(self.tenants.all())) > 1 or self.tokens.are_there or self.people.are_there

    def trusts_loopback(self, settings: Settings) -> bool:
        """Whether programs on this machine need no credential: as the site says, else while nobody has set one up."""
        trusts = settings.http.trust_loopback
        return settings.admin_token is None and not self.is_configured if trusts is None else trusts

    async def save(self) -> None:
        """Bring times of use and counts to the disk."""
        await self.tokens.save_last_use()
        await self.quotas.save()


@asynccontextmanager
async def open_security(db: Database, settings: Settings) -> AsyncIterator[Security]:
    """All of it, loaded; saved every minute and at the end. Raises Corrupt("device_key_damaged")."""
    state = StateDir(settings.state_dir)
    key = await asyncio.to_thread(open_device_key, state.keys)
    async with open_audit(db, key) as audit:
        tenants = TenantStore(db)
        quotas = Quotas(db, tenants, state.blobs)
        room = Security(key, audit, tenants, TokenStore(db), PersonStore(db), quotas)
        await tenants.load(settings.tenant)
        await room.tokens.load()
        await room.people.load()
        await quotas.load()
        tasks = (
            asyncio.create_task(_save_now_and_then(room), name="security-saving"),
            asyncio.create_task(keep_pruning(db, key, settings.audit.retention_days), name="audit-pruning"),
        )
        try:
            yield room
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(VoicedError):
                await room.save()


async def _save_now_and_then(room: Security) -> None:
    while True:
        await asyncio.sleep(LAST_USE_S)
        try:
            await room.save()
        except VoicedError as error:
            log.warning("times of use are not saved: %s", error)
