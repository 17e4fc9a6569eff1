"""What each tenant uses, and when it is enough. Refusals say how long to wait; nothing is queued for later."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.database import Database
from appliance.errors import Busy
from appliance.security.tenants import TenantStore
from appliance.vault.places import stored_bytes

STORAGE_CACHE_S = 10.0
MB = 1_000_000

_DIGESTS = """
SELECT sha256 FROM recordings WHERE tenant = :tenant AND deleted_at IS NULL
UNION SELECT sha256 FROM renditions WHERE tenant = :tenant
UNION SELECT audio FROM spoken WHERE tenant = :tenant
UNION SELECT audio FROM announcements WHERE tenant = :tenant AND audio IS NOT NULL
UNION SELECT track FROM dubbings WHERE tenant = :tenant AND track IS NOT NULL
UNION SELECT value FROM voice_versions, json_each(voice_versions.files) WHERE tenant = :tenant
UNION SELECT value FROM models, json_each(models.files) WHERE tenant = :tenant AND removed_at IS NULL"""


class Quotas:
    """Counts in memory; characters of the day are also kept on disk (a crash forgets the last minute)."""

    def __init__(self, db: Database, tenants: TenantStore, blobs: Path) -> None:
        self._db = db
        self._tenants = tenants
        self._blobs = blobs
        self._day = ""
        self._characters: Counter[str] = Counter()
        self._active: Counter[str] = Counter()
        self._storage: dict[str, tuple[float, int]] = {}  # tenant -> (monotonic time, bytes)

    async def load(self) -> None:
        self._day = _today()
        query, day = "SELECT tenant, characters FROM quota_usage WHERE day = ?", self._day
        self._characters = Counter(dict(await self._db.read(lambda db: db.execute(query, (day,)).fetchall())))

    def spend_characters(self, tenant: str, count: int) -> None:
        """Count text that is going to be spoken. Raises Busy("quota_characters") when the day's share is used up."""
        if self._day != _today():
            self._day, self._characters = _today(), Counter()
        limit = self._limit(tenant, "characters_per_day")
        used = self._characters[tenant]
        if limit is not None and used + count > limit:
            wait_s = _seconds_to_midnight()
            raise Busy("quota_characters", scope="client", used=used, asked=count, limit=limit, retry_after_s=wait_s)
        self._characters[tenant] += count

    @contextmanager
    def one_request(self, tenant: str) -> Iterator[None]:
        """A request under way. Raises Busy("quota_concurrent")."""
        limit = self._limit(tenant, "concurrent")
        if limit is not None and self._active[tenant] >= limit:
            raise Busy("quota_concurrent", scope="client", active=self._active[tenant], limit=limit, retry_after_s=1)
        self._active[tenant] += 1
        try:
            yield
        finally:
            self._active[tenant] -= 1

    async def check_storage(self, tenant: str) -> None:
        """Before something is kept. Raises Busy("quota_storage")."""
        limit = self._limit(tenant, "storage_mb")
        if limit is None:
            return
        used_mb = await self.storage_bytes(tenant) / MB
        if used_mb >= limit:
            raise Busy("quota_storage", scope="client", used_mb=round(used_mb, 1), limit_mb=limit, retry_after_s=3600)

    async def storage_bytes(self, tenant: str) -> int:
        """Bytes of the files that the tenant's rows name, each file once; at most ten seconds old."""
        at, known = self._storage.get(tenant, (float("-inf"), 0))
        if time.monotonic() - at < STORAGE_CACHE_S:
            return known
        rows = await self._db.read(lambda db: db.execute(_DIGESTS, {"tenant": tenant}).fetchall())
        known = await asyncio.to_thread(lambda: sum(stored_bytes(self._blobs, str(row[0])) for row in rows))
        self._storage[tenant] = (time.monotonic(), known)
        return known

    async def save(self) -> None:
        """Bring the day's counts to the disk."""
        rows = [(tenant, self._day, count) for tenant, count in self._characters.items()]
        if rows:
            await self._db.write(lambda db: db.executemany("INSERT OR REPLACE INTO quota_usage VALUES (?, ?, ?)", rows))

    def _limit(self, tenant: str, name: str) -> int | None:
        if not self._tenants.is_active(tenant):
            return None  # no tenant of ours, no quota; whether it may come in is decided at the door
        limit: int | None = getattr(self._tenants.get(tenant).quota, name)
        return limit


def check_jobs(db: sqlite3.Connection, tenant: str) -> None:
    """Inside the transaction that files a job. Raises Busy("quota_jobs")."""
    row = db.execute("SELECT quota FROM tenants WHERE id = ?", (tenant,)).fetchone()
    limit = json.loads(row[0]).get("jobs") if row is not None else None
    if limit is None:
        return
    query = (  # what follows another job by itself takes nobody's place
        "SELECT count(*) FROM jobs WHERE tenant = ? AND state IN ('queued', 'running') AND kind <> 'optimize'"
    )
    active = db.execute(query, (tenant,)).fetchone()[0]
    if active >= limit:
        raise Busy("quota_jobs", scope="client", active=active, limit=limit, retry_after_s=60)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _seconds_to_midnight() -> int:
    now = datetime.now(UTC)
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(1, round((tomorrow - now).total_seconds()))
