"""Consents that end are noticed however they end, and whoever has to stop something is told until it worked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from appliance.errors import StorageFull
from appliance.security.audit import append_entry
from appliance.voices.consent_watch import ConsentWatch
from appliance.voices.consents import ConsentStore
from appliance.voices.records import NewConsent, NewVoice


class Stopper:
    """Takes note of what it is told; fails as often as it is asked to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, list[str]]]] = []
        self.failures = 0

    async def __call__(self, tenant, ended):
        if self.failures:
            self.failures -= 1
            raise StorageFull("storage_full", path="/", free_mb=0)
        self.told.append((tenant, {voice: sorted(purposes) for voice, purposes in ended.items()}))


@pytest.fixture
async def consents(db):
    return ConsentStore(db, append_entry)


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_revoked_consent_is_told_with_what_it_no_longer_allows(db, consents, registry):
    stop = Stopper()
    for voice in ("anna", "anna-young"):
        await registry.create_voice("main", NewVoice(voice, "Anna", speaker="anna"))
    for_all = await consents.record("main", NewConsent("anna", "", purposes=("announce", "speak")))
    await consents.record("main", NewConsent("anna", "anna-young", purposes=("speak",)))
    other = await consents.record("bakery", NewConsent("tom", "tom", purposes=("speak",)))
    async with ConsentWatch(db, consents, (stop,)):
        await asyncio.sleep(0.1)
        assert stop.told == []
        await consents.revoke("main", for_all.id)
        await until(lambda: stop.told)
        (tenant, ended), *more = stop.told
        assert (tenant, more) == ("main", []) and set(ended) == {"anna", "anna-young"}
        assert {"announce", "speak"} <= set(ended["anna"])
        await ConsentStore(db, append_entry).revoke("bakery", other.id)  # as another program would
        await until(lambda: len(stop.told) > 1)
        assert stop.told[1][0] == "bakery" and "speak" in stop.told[1][1]["tom"]


async def test_a_consent_that_reaches_its_date_is_told_and_what_failed_is_told_again(db, consents):
    soon = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    await consents.record("main", NewConsent("anna", "anna", purposes=("speak",), expires_at=soon))
    stop = Stopper()
    stop.failures = 1
    async with ConsentWatch(db, consents, (stop,)):
        await until(lambda: stop.told)
        assert stop.failures == 0 and "speak" in stop.told[0][1]["anna"]
    after = Stopper()
    async with ConsentWatch(db, consents, (after,)):  # the box may have gone down before it stopped everything
        await until(lambda: after.told)
