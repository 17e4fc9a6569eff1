"""The console in a real browser, over the real doors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from open_box import TEXT, open_box, wav
from visiting import DRAWN, OVERFLOW, UNNAMED, look, ready

from appliance.audio.pictures import spectrogram_png
from appliance.contracts import Audio
from appliance.voices.records import NewConsent, NewVersion, NewVoice

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_text_is_spoken_drawn_and_can_be_saved(visit):
    visited = await visit()
    page = visited.page
    await ready(page)
    await page.fill("#text", TEXT)
    await page.select_option("#voice", "sine-440")
    await page.click("#speak-button")
    await page.wait_for_selector("#save:not([hidden])")
    assert "sine-440@1" in await page.inner_text("#speak-state")
    async with page.expect_download() as download:
        await page.click("#save")
    content = Path(await (await download.value).path()).read_bytes()
    assert content[:4] == b"RIFF" and len(content) > 24_000
    assert await page.evaluate(DRAWN)
    assert visited.troubles == []


async def test_a_bad_recording_is_answered_with_what_to_do_and_a_live_one_is_sent(visit, tmp_path):
    visited = await visit()
    page = visited.page
    await ready(page)
    silence = tmp_path / "silence.wav"
    silence.write_bytes(wav(np.zeros(3 * 24_000, np.float32)))
    await page.set_input_files("#file", str(silence))
    await page.wait_for_selector(".reasons li")
    assert "read again" in (await page.inner_text(".reasons")).lower()
    before = await page.locator("#recordings > li").count()
    await page.click("#record")
    await page.wait_for_function("() => document.getElementById('record-time').textContent === '0:01'")
    await page.click("#record")
    await page.wait_for_function(f"() => document.querySelectorAll('#recordings > li').length === {before + 1}")
    assert visited.troubles == []


async def test_a_version_that_waits_for_a_person_is_put_to_use_by_one(visit, box):
    await box.services.registry.add_version("main", "sine-550", NewVersion("sine", settings={"hz": 551}))
    visited = await visit()
    page = visited.page
    await ready(page)
    row = page.locator("#voice-list > li", has_text="sine-550")
    await row.get_by_text("Use version 2").click()
    await row.get_by_text("version 2", exact=True).wait_for()
    assert (await box.services.registry.get_voice("main", "sine-550")).current == 2
    assert visited.troubles == []


async def test_an_announcement_is_queued_and_silenced(visit, box):
    visited = await visit()
    page = visited.page
    await ready(page)
    await page.fill("#text", "The console announces this.")
    await page.click("#announce-button")
    await page.wait_for_selector("#announcements li:has-text('The console announces this.'):has-text('waiting')")
    await page.click("#stop-all")
    await page.wait_for_selector("#announcements li:has-text('The console announces this.'):has-text('stopped')")
    assert visited.troubles == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_every_size_scheme_and_language_fits_and_every_control_has_a_name(visit, scheme, width):
    for path, mark in (("/", "#voice-list button"), ("/docs", "details.operation")):
        visited = await visit(path, color_scheme=scheme, viewport={"width": width, "height": 800})
        page = visited.page
        await page.wait_for_selector(mark)
        await look(page)
        if path == "/":
            await page.click("#language")
            await page.wait_for_selector("html[lang='zh-CN']")
            await look(page)
        background = await page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in background[4:-1].split(",")) < 200) is (scheme == "dark")
        assert visited.troubles == []


async def test_the_page_speaks_the_language_of_its_reader(visit):
    page = (await visit(locale="zh-CN")).page
    await ready(page)
    assert await page.inner_text("#speak-title") == "朗读"
    assert await page.inner_text("#status") == "就绪"


async def test_a_box_with_a_token_asks_for_it_once(visit, tmp_path):
    async with open_box(tmp_path / "guarded", admin_token="open sesame") as guarded:
        visited = await visit(url=guarded.url)
        page = visited.page
        await page.wait_for_selector("#token-dialog[open]")
        await page.fill("#token", "wrong")
        await page.press("#token", "Enter")
        await page.wait_for_selector("#token-wrong:not(:empty)")
        await page.fill("#token", "open sesame")
        await page.press("#token", "Enter")
        await ready(page)
        assert await page.locator("#token-dialog[open]").count() == 0
        await page.reload()
        await ready(page)
        assert await page.evaluate("() => Object.values(localStorage).includes('open sesame')") is False
        assert visited.troubles == []


async def test_people_sign_in_with_login_and_password(visit, tmp_path):
    async with open_box(tmp_path / "guarded", admin_token="open sesame") as guarded:
        await guarded.services.security.people.add("main", "mei", "Mei", "operator", "correct horse battery")
        page = (await visit(url=guarded.url)).page
        await page.wait_for_selector("#token-dialog[open]")
        await page.fill("#login", "mei")
        await page.fill("#token", "guess")
        await page.press("#token", "Enter")
        await page.wait_for_selector("#token-wrong:not(:empty)")
        await page.fill("#token", "correct horse battery")
        await page.press("#token", "Enter")
        await page.wait_for_selector("#token-dialog:not([open])", state="attached")
        assert await page.evaluate("document.cookie") == ""


async def test_the_documentation_shows_every_operation(visit, box):
    visited = await visit("/docs")
    page = visited.page
    await page.wait_for_selector("details.operation")
    async with box.client.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    assert await page.locator("details.operation").count() == sum(len(item) for item in paths.values())
    await page.click("#post_v1_jobs summary")
    assert "recordings" in await page.inner_text("#post_v1_jobs")
    assert visited.troubles == []


async def examined_version(box) -> None:
    """A voice with two versions, the second with a report as an examination files it."""
    registry, blobs = box.services.registry, box.services.recordings.blobs
    await registry.create_voice("main", NewVoice("examined", origin="own"))
    await registry.add_version("main", "examined", NewVersion("sine", settings={"hz": 300}))
    sound = Audio(np.sin(np.arange(24_000) / 9).astype(np.float32) * 0.3, 24_000)
    files = {"exam:0": blobs.put_bytes(wav(sound.samples)), "exam:picture:0": blobs.put_bytes(spectrogram_png(sound))}
    said = {"heard": "welcome", "error": 0.5, "refused": None}
    figures = {"llr": 3.2, "dnsmos": 3.4, "error": {"en": 0.5, "zh": None, "mixed": None}}
    exam = {
        "verdict": "failed",
        "passed": False,
        "reasons": [{"code": "exam_misheard_en", "measured": {"value": 0.5, "limit": 0.25}}],
        "summary": {"clone": figures, "base": figures, "speaker": {}, "closeness": 0.8},
        "limits": {},
        "sentences": [{"number": 0, "text": "Welcome to the shop.", "language": "en", "clone": said, "base": None}],
    }
    version = NewVersion("sine", files, {"hz": 310}, {"exam": exam})
    await registry.add_version("main", "examined", version)
    await box.services.consents.record("main", NewConsent("E", "examined"))


async def test_an_examination_is_read_heard_and_compared(visit, box):
    await examined_version(box)
    visited = await visit("/console/examination.html?voice=examined&version=2")
    page = visited.page
    await page.wait_for_selector("#sentences audio")
    assert await page.inner_text("#title") == "examined@2"
    assert "50" in await page.inner_text("#reasons") and "3.2" in await page.inner_text("#figures")
    assert await page.evaluate("() => document.querySelector('#sentences img').naturalWidth") > 0
    await page.click("#compare-form button")
    await page.wait_for_selector("#pair figure:nth-child(2) audio")
    assert await page.inner_text("#pair") == "examined@2\nexamined@1" or await page.locator("#pair audio").count() == 2
    await look(page)
    assert visited.troubles == []


async def test_a_sheet_is_read_line_by_line(visit):
    visited = await visit()
    page = visited.page
    await ready(page)
    await page.click("#read-along summary")
    await page.fill("#reader", "Anna")
    await page.select_option("#sheet", "en")
    await page.click("#begin-reading")
    await page.wait_for_selector("#prompt:not(:empty)")
    assert "harbour" in await page.inner_text("#prompt")
    await page.click("#read")
    await page.wait_for_function("() => document.getElementById('reading-level').value > 0")
    await page.wait_for_timeout(2500)
    await page.click("#read")  # the beeps of a test device are no harbour
    await page.wait_for_function("() => /again/i.test(document.getElementById('reading-verdict').textContent)")
    assert all("422" in trouble for trouble in visited.troubles)


async def test_a_script_is_written_published_compared_and_rolled_back(visit, box):
    visited = await visit("/console/scripts.html")
    page = visited.page
    try:
        await page.fill("#new-name", "closing-page")
        await page.click("#new-form button")
        await page.fill("#lines [data-field=name]", "ten")
        await page.fill("#lines [data-field=text]", "We close in ten minutes.")
        await page.click("#add")
        await page.locator("#lines [data-field=name]").nth(1).fill("five")
        await page.locator("#lines [data-field=text]").nth(1).fill("We close in {time} minutes.")
        await page.fill("#variables", "time=five,four")
        await page.select_option("#voice", "sine-440")
        await page.click("#save")
        await page.wait_for_function("() => document.getElementById('plan').textContent.includes('3 to be rendered')")
        await page.click("#publish")
        await page.locator("#publications .tag", has_text="heard now").wait_for()
        await page.wait_for_function("() => document.getElementById('plan').textContent.includes(' 0 to be rendered')")
        await page.locator("#lines [data-field=text]").first.fill("We close in ten minutes, thank you.")
        await page.fill("#comment", "thanks")
        await page.click("#save")
        await page.get_by_text("Changes of 2").click()
        await page.locator("#difference ins", has_text="thank you").wait_for()
        await page.click("#publish")
        await page.locator("#publications li", has_text="2 · ").locator(".tag", has_text="heard now").wait_for()
        await page.get_by_text("Publish this one again").click()
        await page.locator("#publications li", has_text="3 · ").locator(".tag", has_text="heard now").wait_for()
        line = await box.services.office.publisher.line("main", "closing-page", "ten", {})
        assert line.text == "We close in ten minutes."
        await page.locator("#lines [data-field=text]").first.fill("This one says {nothing}.")
        await page.click("#save")
        await page.locator("#toasts", has_text="nothing").wait_for()
        assert await page.evaluate(UNNAMED) == []
        await page.set_viewport_size({"width": 360, "height": 800})
        assert await page.evaluate(OVERFLOW) <= 0
        await page.click("#language")
        await page.wait_for_function("() => document.getElementById('publish').textContent === '发布'")
        assert visited.troubles == []
    finally:
        await box.services.office.scripts.delete("main", "closing-page")
