"""Pages of the console in a real browser, and everything that goes wrong on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio

CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := Path("/usr/bin") / name).exists()), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]
UNNAMED = """() => [...document.querySelectorAll('button, a, input, select, textarea, progress, meter')]
  .filter((node) => node.checkVisibility() && !node.closest('[aria-hidden=true]'))
  .filter((node) => !(node.innerText || node.getAttribute('aria-label') || node.labels?.length))
  .map((node) => node.outerHTML)"""
DRAWN = """() => { const wave = document.getElementById('wave');
  return wave.getContext('2d').getImageData(0, 0, wave.width, wave.height).data.some(Boolean); }"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser():
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium in /usr/bin: the console is not looked at")
    async with playwright.async_playwright() as driver:
        opened = await driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield opened
        await opened.close()


class Visit:
    """One page, and everything that went wrong on it."""

    def __init__(self, page, url: str) -> None:
        self.page, self.troubles = page, []
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", lambda message: self._note(message))
        page.on(
            "request",
            lambda request: request.url.startswith((url, "blob:", "data:")) or self.troubles.append(request.url),
        )

    def _note(self, message) -> None:
        is_expected = "status of 4" in message.text  # the browser notes refusals that the page itself shows
        if message.type in ("error", "warning") and not is_expected:
            self.troubles.append(message.text)


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser, box):
    contexts = []

    async def open_page(path: str = "/", url: str = "", **options):
        context = await browser.new_context(**{"locale": "en-US", **options})
        contexts.append(context)
        visited = Visit(await context.new_page(), url or box.url)
        await visited.page.goto((url or box.url) + path)
        return visited

    yield open_page
    for context in contexts:
        await context.close()


async def ready(page) -> None:
    await page.wait_for_selector("#voice-list button")
    await page.wait_for_selector("#status.ok")


async def look(page) -> None:
    assert await page.evaluate(OVERFLOW) <= 0
    unnamed = await page.evaluate(UNNAMED)
    assert unnamed == [], unnamed
