"""The console's page of rights in a real browser: consents, protected voices, people, tokens, tenants."""

from __future__ import annotations

import numpy as np
import pytest
from open_box import open_box, wav
from visiting import look

from appliance.voices.records import NewConsent

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def rights_page(visit, **options):
    visited = await visit("/console/rights.html", **options)
    for part in ("consents", "protected", "people", "tokens", "tenants"):
        await visited.page.wait_for_selector(f"#{part} li")
    return visited


async def test_consents_are_shown_ended_and_asked_for_by_word_of_mouth(visit, box):
    given = await box.services.consents.record("main", NewConsent("Mei", "mei", ("clone", "speak")))
    visited = await rights_page(visit)
    page, row = visited.page, f"#{given.id}"
    assert "Mei → mei" in await page.inner_text(row) and "valid" in await page.inner_text(row)
    await page.click(f"{row} button")
    assert "again" in await page.inner_text(f"{row} button")  # nothing ends by one press
    assert (await box.services.consents.get("main", given.id)).revoked_at is None
    await page.click(f"{row} button")
    await page.wait_for_selector(f"{row} .tag.bad")
    assert (await box.services.consents.get("main", given.id)).revoked_at is not None
    await page.click("#new-consent summary")
    await page.fill("#consent-speaker", "Mei")
    await page.fill("#consent-voice", "mei")
    await page.click("#consent-form button")
    await page.wait_for_selector("#statement-text:not(:empty)")
    assert "Mei" in await page.inner_text("#statement-text")
    noise = np.random.default_rng(0).normal(0, 0.05, 60_000).astype(np.float32)
    await page.set_input_files("#statement-file", {"name": "no.wav", "mimeType": "audio/wav", "buffer": wav(noise)})
    await page.wait_for_function("() => document.getElementById('statement-state').textContent.length > 30")
    await look(page)
    assert visited.troubles == []


async def test_protected_voices_and_reviews_are_decided(visit, box):
    prints = box.services.gate.prints
    voice = await prints.protect("main", "The mayor", {"ge2e": np.ones((3, 1, 256), np.float32)})
    review = await prints.ask("main", "fake", "speaker", "anna", 0.5)
    visited = await rights_page(visit)
    page = visited.page
    assert "The mayor" in await page.inner_text("#protected") and "fake" in await page.inner_text(f"#{review.id}")
    await page.click(f"#{review.id} button >> text=Deny")
    await page.wait_for_selector(f"#{review.id} .tag.bad")
    assert [one.state for one in await prints.reviews("main") if one.id == review.id] == ["denied"]
    for _ in range(2):
        await page.click("#protected li button")
    await page.wait_for_selector("#protected li.empty")
    assert voice.id not in {one.id for one in await prints.protected("main")}
    assert visited.troubles == []


async def test_people_tokens_and_a_tenants_policy_are_kept(visit, tmp_path):
    async with open_box(tmp_path / "guarded", admin_token="open sesame") as guarded:
        visited = await visit("/console/rights.html", url=guarded.url)
        page = visited.page
        await page.fill("#token", "open sesame")
        await page.press("#token", "Enter")
        await page.wait_for_selector("#tenants li button")
        await page.fill("#person-login", "mei")
        await page.fill("#person-password", "correct horse battery")
        await page.select_option("#person-role", "auditor")
        await page.click("#person-form button")
        await page.wait_for_selector("#people li:has-text('mei')")
        await page.fill("#token-title-field", "till 3")
        await page.fill("#token-days", "30")
        await page.click("#token-issue button")
        await page.wait_for_selector("#token-secret:not(:empty)")
        headers = {"Authorization": f"Bearer {await page.inner_text('#token-secret')}"}
        async with guarded.client.get("/v1/voices", headers=headers) as answer:
            assert answer.status == 200
        await page.click("#tenants li button")
        await page.check("#policy-spoken input[value=clone]")
        await page.fill("#policy-days", "365")
        await page.click("#policy-form button")
        await page.wait_for_selector("#tenants li:has-text('365 days at most')")
        policy = guarded.services.security.tenants.get("main").policy
        assert (policy.spoken_for, policy.longest_days, policy.by_person) == (("clone",), 365, False)
        assert visited.troubles == []


async def test_the_page_of_rights_fits_and_speaks_chinese_and_tells_an_auditor_what_is_closed(visit, tmp_path):
    visited = await rights_page(visit, viewport={"width": 360, "height": 800}, color_scheme="dark")
    await look(visited.page)
    await visited.page.click("#language")
    await visited.page.wait_for_selector("h1:has-text('权限')")
    await visited.page.wait_for_selector("#tenants li")
    await look(visited.page)
    assert "r_" not in await visited.page.inner_text("body") and visited.troubles == []
    async with open_box(tmp_path / "guarded", admin_token="open sesame") as guarded:
        await guarded.services.security.people.add("main", "eve", "Eve", "operator", "correct horse battery")
        page = (await visit("/console/rights.html", url=guarded.url)).page
        await page.fill("#login", "eve")
        await page.fill("#token", "correct horse battery")
        await page.press("#token", "Enter")
        await page.wait_for_selector("#people li.empty:has-text('role')")
