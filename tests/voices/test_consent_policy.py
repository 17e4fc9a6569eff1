"""What the box and a tenant demand of consents counts together: nobody gets round either."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from appliance.errors import Forbidden, VoicedError
from appliance.policies import PURPOSES, ConsentPolicy
from appliance.security.audit import append_entry
from appliance.security.tenants import Quota, TenantStore
from appliance.voices.consents import ConsentStore
from appliance.voices.records import SPOKEN, NewConsent

POLICIES = tuple(
    ConsentPolicy(spoken, excluded, days, person)
    for spoken, excluded, days, person in product(
        ((), ("clone",), PURPOSES), ((), ("share", "publish")), (None, 10, 400), (False, True)
    )
)


def agreed(*purposes: str, days: int | None = None, strength: str = "written") -> NewConsent:
    ends = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    return NewConsent("anna", "anna", purposes, expires_at=ends, strength=strength)


async def code_of(awaitable) -> str:
    try:
        await awaitable
    except VoicedError as error:
        return error.code
    return ""


def test_a_tenant_can_only_be_stricter_than_the_box():
    for box, tenant in product(POLICIES, POLICIES):
        both = box.joined(tenant)
        assert set(both.spoken_for) == {*box.spoken_for, *tenant.spoken_for}
        assert set(both.excluded) == {*box.excluded, *tenant.excluded}
        assert all(limit is None or both.longest_days <= limit for limit in (box.longest_days, tenant.longest_days))
        assert both.by_person == (box.by_person or tenant.by_person)
        assert both == tenant.joined(box) == both.joined(box)
        assert ConsentPolicy.from_json(json.loads(json.dumps(both.as_json()))) == both


@pytest.fixture
async def tenants(db):
    store = TenantStore(db)
    await store.load("main")
    return store


async def test_a_tenants_policy_is_its_own_and_is_kept(db, tenants):
    consents, rule = ConsentStore(db, append_entry), ConsentPolicy(("clone",), ("share",), 365)
    await tenants.add("bakery", "", Quota(), rule)
    assert await code_of(consents.record("main", agreed("clone", "share"))) == ""
    assert await code_of(consents.record("bakery", agreed("clone", days=30))) == "consent_must_be_spoken"
    assert await code_of(consents.record("bakery", agreed("speak", "share", days=30))) == "consent_excluded"
    assert await code_of(consents.record("bakery", agreed("speak"))) == "consent_too_long"
    assert await code_of(consents.record("bakery", agreed("speak", days=366))) == "consent_too_long"
    assert await code_of(consents.record("bakery", agreed("speak", days=365))) == ""
    assert await code_of(consents.record("bakery", agreed("clone", days=9, strength=SPOKEN))) == ""
    again = TenantStore(db)
    await again.load("main")
    assert again.get("bakery").policy == rule and again.get("main").policy == ConsentPolicy()


async def test_what_was_agreed_before_does_not_count_against_a_stricter_rule(db, tenants):
    consents = ConsentStore(db, append_entry)
    await consents.record("main", agreed("clone", "speak", "share"))
    assert (await consents.require("main", "anna", "clone")).strength == "written"
    await tenants.change("main", policy=ConsentPolicy(("clone",), ("share",)))
    for purpose, code in (("clone", "consent_must_be_spoken"), ("share", "consent_excluded"), ("speak", "")):
        assert await code_of(consents.require("main", "anna", purpose)) == code, purpose
    await db.write(lambda row: row.execute("UPDATE consents SET created_at = '2024-01-01T00:00:00.000Z'") and None)
    await tenants.change("main", policy=ConsentPolicy(longest_days=100))
    with pytest.raises(Forbidden) as ended:
        await consents.require("main", "anna", "speak")
    assert (ended.value.code, ended.value.measured["on"]) == ("consent_expired", "2024-04-10T00:00:00.000Z")
    await tenants.change("main", policy=ConsentPolicy())
    assert await consents.require("main", "anna", "speak") is not None


async def test_a_tenant_cannot_weaken_what_the_box_demands(db, tenants):
    consents = ConsentStore(db, append_entry, ConsentPolicy(PURPOSES, ("publish",), 10))
    await tenants.change("main", policy=ConsentPolicy((), (), 10_000))
    assert await code_of(consents.record("main", agreed("speak", days=5))) == "consent_must_be_spoken"
    assert await code_of(consents.record("main", agreed("speak", days=50, strength=SPOKEN))) == "consent_too_long"
    assert await code_of(consents.record("main", agreed("publish", days=5, strength=SPOKEN))) == "consent_excluded"
